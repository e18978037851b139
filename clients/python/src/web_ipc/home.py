"""Finds a home and reads what a client needs of it: keys, certificates, credentials, the server.

A home is made by `web-ipc --init --run` (a server's) or by `web-ipc --enrol --accept` (a client's,
with `client.json`). Nothing is written here and nothing is sent.
"""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .envelope import EnvelopeError, KeyRing, from_text
from .errors import ConfigurationError

DEFAULT_PORT = 3000
_FILE_BYTES_MAX = 1024 * 1024
_READABLE_VARIABLE = "WEB_IPC_DANGEROUSLY_READABLE_HOME"


def locate(home: str | os.PathLike[str] | None = None) -> Path:
    """The path of the home: the argument, else `$WEB_IPC_HOME`, else the user's data directory."""
    if home is not None:
        return Path(home).absolute()
    if named := os.environ.get("WEB_IPC_HOME"):
        return Path(named).absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/web-ipc"
    data = os.environ.get("XDG_DATA_HOME", "")
    base = Path(data) if data.startswith("/") else Path.home() / ".local/share"
    return base / "web-ipc"


@dataclass(frozen=True)
class Address:
    """Where a server is reached."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`; without a port it is 3000."""
        wrong = ConfigurationError(f"not an address: {text!r}", "write HOST:PORT")
        if text.startswith("["):
            host, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise wrong
            port = rest[1:] if rest else str(DEFAULT_PORT)
        elif text.count(":") > 1:
            host, port = text, str(DEFAULT_PORT)
        else:
            host, colon, port = text.partition(":")
            port = port if colon else str(DEFAULT_PORT)
        if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
            raise wrong
        if not host or any(character.isspace() or character in "/@?#" for character in host):
            raise wrong
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether it stays on this host."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True)
class _ClientSettings:
    server: str
    addresses: tuple[Address, ...]
    identity: str


def _peer_name(text: str) -> str:
    """A name that is part of file names of the home."""
    if not text or text.startswith((".", "-")) or set(text) & set("/\\\0"):
        raise ConfigurationError(f"not a peer name: {text!r}")
    return text


@dataclass(frozen=True)
class Material:
    """Everything that a client uses of its home."""

    server: str
    addresses: tuple[Address, ...]
    identity: str
    username: str
    password: str = field(repr=False)
    ring: KeyRing
    tls: ssl.SSLContext | None
    #: What tells whether the files have changed since.
    signature: tuple[object, ...] = field(repr=False)


@dataclass(frozen=True)
class Source:
    """Where a client takes its material from: the home, and what the program said itself."""

    home: Path
    server: str | None = None
    addresses: tuple[Address, ...] | None = None
    identity: str | None = None
    credentials: tuple[str, str] | None = field(default=None, repr=False)
    is_plain: bool = False

    def signature(self) -> tuple[object, ...]:
        """What changes when a file of the home does: renewal and rotation replace files."""

        def of(path: Path) -> object:
            try:
                status = path.stat()
            except OSError:
                return None
            return (status.st_mtime_ns, status.st_ino, status.st_size)

        names = ["client.json", "envelope.keys", "web-ipc-ca.crt", "admin.cred", "client.cred"]
        identity = self.identity or self._identity_of_home()
        names += [f"{identity}.crt", f"{identity}.key"]
        return tuple(of(self.home / name) for name in names)

    def _identity_of_home(self) -> str:
        try:
            return str(json.loads((self.home / "client.json").read_text("utf-8"))["identity"])
        except (OSError, ValueError, KeyError, TypeError):
            return "localhost"

    def load(self) -> Material:
        """Reads the home. `ConfigurationError` says what is wrong and what mends it."""
        signature = self.signature()
        if not self.home.is_dir():
            raise ConfigurationError(
                f"there is no web-ipc home at {self.home}",
                "run web-ipc --init --run, or web-ipc --enrol --accept on a client's host",
            )
        settings = self._client_settings()
        is_client = settings is not None
        keys = self.home / "envelope.keys"
        try:
            ring = KeyRing.from_file_text(_read_secret(keys).decode("utf-8"))
        except ValueError:
            raise ConfigurationError(f"{keys} is no key ring", "run web-ipc --doctor") from None
        credentials = self.credentials or self._credentials(ring, is_client)
        settings = settings or _ClientSettings(
            "localhost", (Address("127.0.0.1", DEFAULT_PORT),), "localhost"
        )
        identity = _peer_name(self.identity or settings.identity)
        return Material(
            server=self.server or settings.server,
            addresses=self.addresses or settings.addresses,
            identity=identity,
            username=credentials[0],
            password=credentials[1],
            ring=ring,
            tls=None if self.is_plain else self._tls(identity),
            signature=signature,
        )

    def _client_settings(self) -> _ClientSettings | None:
        path = self.home / "client.json"
        if not path.exists():
            return None
        wrong = ConfigurationError(f"{path} is not of this version", "run web-ipc --doctor")
        try:
            stored = json.loads(path.read_text("utf-8"))
            texts = [stored[name] for name in ("server", "identity", "username")]
            addresses = stored["addresses"]
        except (OSError, ValueError, KeyError, TypeError):
            raise wrong from None
        if stored.get("version") != 1 or not isinstance(addresses, list) or not addresses:
            raise wrong
        if not all(isinstance(text, str) for text in (*texts, *addresses)):
            raise wrong
        parsed = tuple(Address.parse(address) for address in addresses)
        return _ClientSettings(texts[0], parsed, _peer_name(texts[1]))

    def _credentials(self, ring: KeyRing, is_client: bool) -> tuple[str, str]:
        path = self.home / ("client.cred" if is_client else "admin.cred")
        if not path.exists():
            raise ConfigurationError(
                f"no user: {self.home} has no {path.name}", "give a username and a password"
            )
        try:
            sealed = from_text(_read_secret(path).strip())
            stored = json.loads(ring.open(sealed, max_age_secs=None))
            username, password = stored["username"], stored["password"]
            if not isinstance(username, str) or not isinstance(password, str):
                raise TypeError
        except (EnvelopeError, ValueError, KeyError, TypeError):
            raise ConfigurationError(
                f"{path} does not open with this home's envelope.keys", "run web-ipc --doctor"
            ) from None
        return username, password

    def _tls(self, identity: str) -> ssl.SSLContext:
        authority = self.home / "web-ipc-ca.crt"
        certificate, key = self.home / f"{identity}.crt", self.home / f"{identity}.key"
        for path in (authority, certificate, key):
            if not path.is_file():
                raise ConfigurationError(f"{path} is missing", "run web-ipc --doctor")
        if b"ENCRYPTED" in _read_secret(key):
            # OpenSSL would ask for its password on the terminal.
            raise ConfigurationError(f"{key} has a password", "store it without one")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.hostname_checks_common_name = False
        try:
            context.load_verify_locations(cafile=authority)  # this authority and no other
        except (ssl.SSLError, OSError):
            raise ConfigurationError(f"{authority} is no certificate") from None
        try:
            context.load_cert_chain(certificate, key)
        except (ssl.SSLError, OSError):
            raise ConfigurationError(
                f"{certificate} and {key} are no pair", "issue it again: web-ipc --certs"
            ) from None
        context.set_alpn_protocols(["http/1.1"])
        return context


def _read_secret(path: Path) -> bytes:
    """A file that nobody else may read."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            is_open = status.st_mode & 0o077 and os.environ.get(_READABLE_VARIABLE) != "1"
            if is_open and stat.S_ISREG(status.st_mode):
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigurationError(
                    f"{path} is open to other users (mode {mode:04o})", f"run chmod 600 {path}"
                )
            content = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    if len(content) > _FILE_BYTES_MAX:
        raise ConfigurationError(f"{path} is too large")
    return content
