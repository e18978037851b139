"""A server with the bytes and the ways of the unmodified Python tool, for tests.

    python_server.py ENVIRONMENT [NAME]

ENVIRONMENT is a directory as the tool makes it. Says `Listening on PORT` on stderr, and then prints
each message that it takes as a line of JSON on stdout: an int stays an int and a float a float. For
each request it says method, path and status on stderr. SIGTERM ends it.

As that tool does, it knows a client by its address for an hour, or by what X-Forwarded-For says;
unpickles whatever comes; answers 500 `failed` to anything that is no dict; and takes the same bytes
as often as they come. A connection without a request is closed after 5 s.
"""

import http.server
import json
import pathlib
import pickle
import signal
import socket
import sqlite3
import ssl
import sys
import threading
import time
from typing import Any

from cryptography.fernet import Fernet

try:
    import bcrypt

    def is_password(password: str, hashed: str) -> bool:
        """Whether the first 72 bytes are those that were hashed."""
        return bcrypt.checkpw(password.encode()[:72], hashed.encode())

except ImportError:
    # Of the system's library, and no longer in Python 3.13.
    import crypt

    def is_password(password: str, hashed: str) -> bool:
        """Whether the first 72 bytes are those that were hashed."""
        return crypt.crypt(password, hashed) == hashed


WRAPPING_KEY = b"y8rKnU8Mr6FwrWPDmExeLuaaCO6nUQ8YKAk4Uu0M8Ic="


class Server(http.server.ThreadingHTTPServer):
    """The environment, and who has logged in."""

    daemon_threads = True

    def __init__(self, environment: str, name: str) -> None:
        self.root = pathlib.Path(environment)
        self.fernet = Fernet(Fernet(WRAPPING_KEY).decrypt((self.root / ".xork").read_bytes()))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.root / f"{name}.crt", self.root / f"{name}.key")
        self.context.load_verify_locations(self.root / "web-ipc-ca.crt")
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.sessions: "dict[str, float]" = {}
        self.lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), Handler)

    def get_request(self) -> "tuple[Any, Any]":
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake is made by the thread of the connection, with its first read.
        wrapped = self.context.wrap_socket(
            connection, server_side=True, do_handshake_on_connect=False
        )
        return wrapped, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        print(f"connection of {client_address[0]}: {error}", file=sys.stderr, flush=True)

    def loads(self, body: bytes) -> Any:
        """What the body holds; `None` if it cannot be read."""
        try:
            return pickle.loads(self.fernet.decrypt(body))
        except Exception:
            return None

    def is_user(self, username: str, password: str) -> bool:
        with sqlite3.connect(self.root / "users.db") as database:
            row = database.execute(
                "SELECT password_hash FROM users WHERE username = ?", (username,)
            ).fetchone()
        return row is not None and is_password(password, row[0])


class Handler(http.server.BaseHTTPRequestHandler):
    """The three routes."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 5

    def answer(self, status: int, text: str) -> None:
        print(f"{self.command} {self.path} {status}", file=sys.stderr, flush=True)
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_request(self, *_: object) -> None:
        """`answer` has said it."""

    def client(self) -> str:
        forwarded = self.headers.get("X-Forwarded-For")
        return forwarded.split(",")[0] if forwarded else self.client_address[0]

    def do_GET(self) -> None:
        if self.path == "/is/running":
            self.answer(200, "Web-Server is running")
        else:
            self.answer(404, '{"detail":"Not Found"}')

    def do_POST(self) -> None:
        value = self.server.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "Content-Type" in self.headers:
            # The tool does not look at it; this one wants the tool's bytes.
            self.answer(500, "a content type was sent")
        elif self.path == "/message/submit":
            self.submit(value)
        elif self.path == "/client/auth":
            self.log_in(value)
        else:
            self.answer(404, '{"detail":"Not Found"}')

    def submit(self, value: Any) -> None:
        if not isinstance(value, dict):
            self.answer(500, "failed")
            return
        if self.server.sessions.get(self.client(), 0) <= time.time():
            self.answer(419, "expired")
            return
        with self.server.lock:
            print(json.dumps(value, ensure_ascii=False), flush=True)
        self.answer(200, "success")

    def log_in(self, value: Any) -> None:
        if isinstance(value, dict) and self.server.is_user(
            value.get("username", "N/A"), value.get("password", "N/A")
        ):
            self.server.sessions[self.client()] = time.time() + 3600
            self.answer(200, "success")
        else:
            self.answer(401, "Unauthorized")


def main() -> None:
    environment, *name = sys.argv[1:]
    server = Server(environment, name[0] if name else "localhost")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(f"Listening on {server.server_port}", file=sys.stderr, flush=True)
    server.serve_forever()


main()
