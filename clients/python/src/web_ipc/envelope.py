"""Seals and opens envelopes: Fernet tokens in raw form.

Bytes in, bytes out: no file is read here and no frame is understood. `docs/protocol.md`,
"Envelope", has the format. The time and the IV can be given, so that tests can use published
vectors.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import struct
import time
from collections.abc import Iterable

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

VERSION = 0x80
HEAD_BYTES = 25
MAC_BYTES = 32
BLOCK_BYTES = 16
TOKEN_BYTES_MIN = HEAD_BYTES + BLOCK_BYTES + MAC_BYTES
#: How much longer than its plaintext a token is at most.
OVERHEAD_BYTES_MAX = 73
#: How old an envelope may be, and how far ahead of this clock, in seconds.
MAX_AGE_SECS = 60
KEYS_MAX = 16


class EnvelopeError(Exception):
    """No key of the ring opens these bytes, or they are no envelope. It never says why."""


class StaleEnvelope(EnvelopeError):
    """The envelope is good but was sealed too long ago, or ahead of this clock."""


def to_text(token: bytes) -> str:
    """The text form of a token: base64url with padding."""
    return base64.urlsafe_b64encode(token).decode("ascii")


def from_text(text: str | bytes) -> bytes:
    """The token of a text form. Only the canonical spelling is taken."""
    try:
        encoded = text.encode("ascii") if isinstance(text, str) else text
        token = base64.urlsafe_b64decode(encoded)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise EnvelopeError("not base64url") from None
    if base64.urlsafe_b64encode(token) != encoded:
        raise EnvelopeError("not canonical base64url")
    return token


class KeyRing:
    """One key or more, at most 16: the first seals, all open."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys: list[bytes] = []
        for key in keys:
            try:
                raw = from_text(key)
            except EnvelopeError:
                raw = b""
            if len(raw) != 32:
                raise ValueError("an envelope key is not 32 bytes of base64url")
            self._keys.append(raw)
        if not 1 <= len(self._keys) <= KEYS_MAX:
            raise ValueError(f"a key ring has 1 to {KEYS_MAX} keys, not {len(self._keys)}")

    def __repr__(self) -> str:
        return f"<KeyRing of {len(self._keys)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyRing) and self._keys == other._keys

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def from_file_text(cls, text: str) -> KeyRing:
        """The ring of an `envelope.keys`: a key a line; blank lines and `#` lines do not count."""
        lines = (line.strip() for line in text.removeprefix("\ufeff").splitlines())
        return cls(line for line in lines if line and not line.startswith("#"))

    def seal(self, plaintext: bytes, *, now: int | None = None, iv: bytes | None = None) -> bytes:
        """A new token of this plaintext. `now` is in seconds since the Unix epoch."""
        now = int(time.time()) if now is None else now
        iv = os.urandom(BLOCK_BYTES) if iv is None else iv
        key = self._keys[0]
        padding = BLOCK_BYTES - len(plaintext) % BLOCK_BYTES
        encryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(iv)).encryptor()
        ciphertext = encryptor.update(plaintext + bytes([padding]) * padding) + encryptor.finalize()
        signed = struct.pack(">BQ", VERSION, now) + iv + ciphertext
        return signed + hmac.digest(key[:16], signed, hashlib.sha256)

    def open(
        self, token: bytes, *, now: int | None = None, max_age_secs: int | None = MAX_AGE_SECS
    ) -> bytes:
        """The plaintext of a token. With `max_age_secs` None it may be of any age."""
        length = len(token) - HEAD_BYTES - MAC_BYTES
        if length < BLOCK_BYTES or length % BLOCK_BYTES != 0 or token[0] != VERSION:
            raise EnvelopeError("not an envelope of this key ring")
        signed, mac = token[:-MAC_BYTES], token[-MAC_BYTES:]
        # Nothing of the token is used before one key's MAC fits.
        key = next(
            (
                key
                for key in self._keys
                if hmac.compare_digest(hmac.digest(key[:16], signed, hashlib.sha256), mac)
            ),
            None,
        )
        if key is None:
            raise EnvelopeError("not an envelope of this key ring")
        if max_age_secs is not None:
            now = int(time.time()) if now is None else now
            (sealed_at,) = struct.unpack(">Q", token[1:9])
            if abs(now - sealed_at) > max_age_secs:
                raise StaleEnvelope("sealed too long ago, or ahead of this clock")
        decryptor = Cipher(algorithms.AES(key[16:]), modes.CBC(token[9:25])).decryptor()
        padded = decryptor.update(token[25:-MAC_BYTES]) + decryptor.finalize()
        padding = padded[-1]
        if not 1 <= padding <= BLOCK_BYTES or padded[-padding:] != bytes([padding]) * padding:
            raise EnvelopeError("not an envelope of this key ring")
        return padded[:-padding]
