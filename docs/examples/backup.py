#!/usr/bin/env python3
"""Opens a sealed backup of `web-ipc --backup FILE` without web-ipc.

    python3 backup.py FILE DIR < CODE

writes the files of the home into the new directory DIR: all of them, or nothing. It needs the package `cryptography` from
version 44 on. docs/operations.md has the format. It is written from that page, and shares no code
with web-ipc: tests let it open what web-ipc has made.
"""

import base64
import hashlib
import json
import os
import shutil
import struct
import sys
import tempfile

try:
    from cryptography.fernet import Fernet, InvalidToken
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
except ImportError as error:
    print(error, file=sys.stderr)
    sys.exit(77)


def tokens(file):
    """The tokens of the file behind its head, one after another."""
    while length := file.read(4):
        yield file.read(struct.unpack(">I", length)[0])


def unsealed(file, code):
    """The header of the backup, then each piece of its content."""
    head = file.read(32)
    magic, memory, passes, lanes, salt = struct.unpack(">4sIII16s", head)
    if magic != b"WIB1":
        sys.exit("not a backup of this version")
    length = file.read(4)
    first = file.read(struct.unpack(">I", length)[0])
    if file.read(8) != hashlib.sha256(head + length + first).digest()[:8]:
        sys.exit("the backup is damaged")
    if memory > 262144 or passes > 12 or lanes > 4:
        sys.exit("the backup asks for more memory or time than is allowed")
    code = code.replace("-", "").strip().upper().encode()
    key = Argon2id(
        salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory
    ).derive(code)
    fernet = Fernet(base64.urlsafe_b64encode(key))
    yield opened(fernet, first, 0)[1]
    is_last = False
    for expected, token in enumerate(tokens(file), 1):
        if is_last:
            sys.exit("something follows the end of the backup")
        is_last, content = opened(fernet, token, expected)
        yield content
    if not is_last:
        sys.exit("the end of the backup is missing")


def opened(fernet, token, expected):
    """Whether it is the last token, and its content."""
    try:
        plaintext = fernet.decrypt(base64.urlsafe_b64encode(token))
    except InvalidToken:
        sys.exit("the code does not open this backup" if expected == 0 else "the backup is damaged")
    index, is_last = struct.unpack(">QB", plaintext[:9])
    if index != expected or is_last > 1:
        sys.exit("the backup is damaged")
    return is_last == 1, plaintext[9:]


class Stream:
    """Reads a number of bytes from pieces of any length."""

    def __init__(self, pieces):
        self.pieces, self.rest = pieces, b""

    def read(self, count):
        while len(self.rest) < count:
            self.rest += next(self.pieces)
        read, self.rest = self.rest[:count], self.rest[count:]
        return read


def unpack(pieces, directory):
    """Writes the files of the home into the empty directory."""
    stream = Stream(pieces)
    while length := struct.unpack(">H", stream.read(2))[0]:
        name = stream.read(length).decode()
        mode, left = struct.unpack(">HQ", stream.read(10))
        folder, _, base = name.rpartition("/")
        if folder not in ("", "issued", "enrolments") or base in ("", ".", ".."):
            sys.exit(f"no home has a file {name!r}")
        if folder:
            os.makedirs(os.path.join(directory, folder), 0o700, exist_ok=True)
        target = os.path.join(directory, name)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as out:
            while left:
                left -= out.write(stream.read(min(left, 1 << 20)))
    # The end of the backup is verified by whoever reads to it.
    if stream.rest or any(pieces):
        sys.exit("something follows the last file")


def main():
    path, directory = sys.argv[1:]
    if os.path.lexists(directory):
        sys.exit(f"{directory} is there already")
    # Only the owner may read it.
    partial = tempfile.mkdtemp(prefix=".backup-", dir=os.path.dirname(os.path.abspath(directory)))
    try:
        with open(path, "rb") as file:
            pieces = unsealed(file, sys.stdin.readline())
            header = json.loads(next(pieces))
            unpack(pieces, partial)
        os.rename(partial, directory)
        print(json.dumps(header))
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main()
