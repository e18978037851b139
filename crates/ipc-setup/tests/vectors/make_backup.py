"""Makes backup-v1.wib, a sealed backup that is not made by web-ipc, for the tests of web-ipc.

It needs the package `cryptography` from version 44 on. docs/operations.md has the format.
"""

import base64
import hashlib
import json
import os
import struct

from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

CODE = b"0123456789ABCDEFGHJKMNPQR"
MADE_AT = 1_750_000_000

salt = bytes(range(16))
memory, passes, lanes = 64, 2, 1
key = Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(CODE)
fernet = Fernet(base64.urlsafe_b64encode(key))


def token(index, is_last, content):
    plaintext = struct.pack(">QB", index, is_last) + content
    sealed = base64.urlsafe_b64decode(fernet.encrypt_at_time(plaintext, MADE_AT))
    return struct.pack(">I", len(sealed)) + sealed


def entry(name, mode, content):
    return struct.pack(">H", len(name)) + name + struct.pack(">HQ", mode, len(content)) + content


header = {"format": 1, "made_by": "make_backup.py", "made_at": MADE_AT, "home": "/home/ada/home"}
archive = (
    entry(b"envelope.keys", 0o600, b"a key\n")
    + entry(b"localhost.crt", 0o644, b"a certificate\n")
    + entry(b"issued/0a.crt", 0o600, bytes(range(256)) * 8)
    + struct.pack(">H", 0)
)
head = b"WIB1" + struct.pack(">III", memory, passes, lanes) + salt
head += token(0, 0, json.dumps(header).encode())
head += hashlib.sha256(head).digest()[:8]
# Chunks may be of any length up to 1 MiB, also empty ones.
cuts = [0, 1, 20, 20, 1000, len(archive)]
pieces = [archive[start:end] for start, end in zip(cuts, cuts[1:])]
chunks = [token(1 + at, at + 1 == len(pieces), piece) for at, piece in enumerate(pieces)]
with open(os.path.join(os.path.dirname(__file__), "backup-v1.wib"), "wb") as out:
    out.write(head + b"".join(chunks))
