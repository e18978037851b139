"""Makes an environment directory as the Python tool makes it, for tests of taking it over.

    python_environment.py DIR [NAME ALT_NAME[,ALT_NAME...]]...

Users: `ipc-admin` with a random password of 128 characters, and `test1` with `pass321`. The pair of
localhost is made, and those that are named. Keys have 2048 bits unless KEY_BITS says otherwise: the
tool makes keys of 4096 bits, which takes seconds. Prints the admin's password.
"""

import datetime
import os
import pathlib
import pickle
import secrets
import sqlite3
import string
import sys

from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

try:
    import bcrypt

    def bcrypt_hash(password: str) -> str:
        """A hash of the first 72 bytes, as the tool's version of this module makes it."""
        return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt()).decode()

except ImportError:
    # Of the system's library, and no longer in Python 3.13.
    import crypt

    def bcrypt_hash(password: str) -> str:
        """A hash of the first 72 bytes."""
        return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=2**12))


WRAPPING_KEY = b"y8rKnU8Mr6FwrWPDmExeLuaaCO6nUQ8YKAk4Uu0M8Ic="
KEY_BITS = int(os.environ.get("KEY_BITS", "2048"))


class Environment:
    """The directory, with the authority that signs."""

    def __init__(self, directory: str) -> None:
        self.root = pathlib.Path(directory)
        self.root.mkdir(parents=True)
        (self.root / "ca-serial").write_text("1")
        self.authority = None

    def next_serial(self) -> int:
        """Counts as the tool does, from 2 on."""
        path = self.root / "ca-serial"
        serial = int(path.read_text()) + 1
        path.write_text(str(serial))
        return serial

    def make_pair(self, name: str, alt_names: list[str]) -> None:
        """Makes NAME.crt and NAME.key; the first one is the authority, which signs itself."""
        key = rsa.generate_private_key(65537, KEY_BITS)
        parts = [
            (NameOID.COUNTRY_NAME, "US"),
            (NameOID.STATE_OR_PROVINCE_NAME, "US-STATE"),
            (NameOID.LOCALITY_NAME, "US-CITY"),
            (NameOID.ORGANIZATION_NAME, "US-Company"),
            (NameOID.COMMON_NAME, name),
            (NameOID.ORGANIZATIONAL_UNIT_NAME, "US-Department"),
            (NameOID.EMAIL_ADDRESS, "myEmail@email.com"),
        ]
        subject = x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])
        is_authority = self.authority is None
        if is_authority:
            self.authority = (subject, key)
        issuer, signer = self.authority
        # The tool takes the local time for that of UTC.
        now = datetime.datetime.now()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(self.next_serial())
            .not_valid_before(now)
            .not_valid_after(now + datetime.timedelta(days=36500))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in alt_names]), False)
        )
        if is_authority:
            builder = builder.add_extension(x509.BasicConstraints(True, None), True)
        certificate = builder.sign(signer, SHA256())
        (self.root / f"{name}.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self.root / f"{name}.key").write_bytes(pem)

    def make_users(self, users: dict[str, str]) -> None:
        """Makes users.db."""
        with sqlite3.connect(self.root / "users.db") as database:
            database.execute(
                "CREATE TABLE users (id INTEGER NOT NULL, username VARCHAR(80) NOT NULL,"
                " password_hash VARCHAR(128) NOT NULL, PRIMARY KEY (id), UNIQUE (username))"
            )
            for username, password in users.items():
                hashed = bcrypt_hash(password)
                assert hashed.startswith("$2b$12$"), hashed
                database.execute(
                    "INSERT INTO users (username, password_hash) VALUES (?, ?)", (username, hashed)
                )
        database.close()

    def make_keys(self, admin: dict[str, str]) -> None:
        """Makes .xork and .ipca."""
        key = Fernet.generate_key()
        (self.root / ".xork").write_bytes(Fernet(WRAPPING_KEY).encrypt(key))
        (self.root / ".ipca").write_bytes(Fernet(key).encrypt(pickle.dumps(admin)))


def main() -> None:
    directory, *rest = sys.argv[1:]
    environment = Environment(directory)
    characters = string.ascii_letters + string.digits + string.punctuation
    password = "".join(secrets.choice(characters) for _ in range(128))
    environment.make_keys({"username": "ipc-admin", "password": password})
    environment.make_users({"ipc-admin": password, "test1": "pass321"})
    environment.make_pair("web-ipc-ca", ["web-ipc-ca"])
    environment.make_pair("localhost", ["localhost", "127.0.0.1"])
    for name, alt_names in zip(rest[::2], rest[1::2], strict=True):
        environment.make_pair(name, alt_names.split(","))
    print(password)


main()
