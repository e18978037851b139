"""A client with the bytes and the ways of the unmodified Python tool, for tests.

    python_peer.py send ENVIRONMENT PORT COUNT [USERNAME PASSWORD]
    python_peer.py hostile ENVIRONMENT PORT FILE

ENVIRONMENT is a directory as the tool makes it: `.xork`, `.ipca`, `web-ipc-ca.crt`, and the
server's own pair, which the client presents. `send` sends COUNT dicts, numbered from 1, the first
with all that JSON holds, and prints how often each request got each status. `hostile` sends pickles
that would make FILE, or that are no dict of what JSON holds, and prints the statuses.

It tries three times with the same bytes, with a new connection for each request, and sees nothing
of an answer but its status.
"""

import collections
import http.client
import json
import os
import pathlib
import pickle
import ssl
import sys

from cryptography.fernet import Fernet

WRAPPING_KEY = b"y8rKnU8Mr6FwrWPDmExeLuaaCO6nUQ8YKAk4Uu0M8Ic="
NAME = "localhost"


class Client:
    """The client of the tool: `send_msg`, and what it does for it."""

    def __init__(self, environment: str, port: int, auth: "dict[str, str] | None" = None) -> None:
        root = pathlib.Path(environment)
        self.fernet = Fernet(Fernet(WRAPPING_KEY).decrypt((root / ".xork").read_bytes()))
        self.port = port
        self.auth = auth or pickle.loads(self.fernet.decrypt((root / ".ipca").read_bytes()))
        # Not `create_default_context`, which is stricter since Python 3.13: the tool's library
        # makes its own.
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(root / "web-ipc-ca.crt")
        self.context.load_cert_chain(root / f"{NAME}.crt", root / f"{NAME}.key")
        self.statuses: "collections.Counter[str]" = collections.Counter()

    def request(self, method: str, path: str, body: "bytes | None" = None) -> int:
        connection = http.client.HTTPSConnection(NAME, self.port, context=self.context)
        try:
            connection.request(method, path, body)
            status = connection.getresponse().status
        finally:
            connection.close()
        self.statuses[f"{method} {path} {status}"] += 1
        return status

    def sealed(self, value: object) -> bytes:
        return self.fernet.encrypt(pickle.dumps(value))

    def authenticate(self) -> bool:
        return (
            self.request("GET", "/is/running") == 200
            and self.request("POST", "/client/auth", self.sealed(self.auth)) == 200
        )

    def send_msg(self, message: dict) -> bool:
        body = self.sealed(message)
        for _ in range(3):
            status = self.request("POST", "/message/submit", body)
            if status == 200:
                return True
            if status in (401, 419):
                self.authenticate()
        return False


def send(client: Client, count: int) -> None:
    everything = {"text": "ü 😀 \n", "list": [1, -2**63, 2**64 - 1, 0.5, 1.0], "tuple": (True, None)}
    for n in range(1, count + 1):
        message = {"n": n, **everything} if n == 1 else {"n": n}
        if not client.send_msg(message):
            sys.exit(f"message {n} was not taken: {dict(client.statuses)}")


class Calls:
    """What makes a pickle call a function where it is read."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __reduce__(self) -> tuple:
        return os.system, (f"touch '{self.file}'",)


class Builds:
    """What is built of its class where it is read."""

    def __init__(self) -> None:
        self.x = 1


def hostile(client: Client, file: str) -> None:
    if not client.authenticate():
        sys.exit("the login was not taken")
    values = [
        *({"a": value} for value in (Calls(file), Builds(), b"bytes", {1}, 2**64, float("nan"))),
        Calls(file),
        {1: "a key"},
        ["a list"],
        {"username": "ipc-admin", "password": "a login"},
    ]
    made = [pickle.dumps(value, protocol) for value in values for protocol in range(6)]
    # A text whose instructions come behind a good dict, and one that is cut off.
    good = pickle.dumps({"n": 1})
    made += [good[:-1] + pickle.dumps(Calls(file), 0), good[:-1]]
    for path in ["/message/submit", "/client/auth"]:
        for one in made[:-8] if path == "/client/auth" else made:
            client.request("POST", path, client.fernet.encrypt(one))


def main() -> None:
    command, environment, port, argument, *credentials = sys.argv[1:]
    auth = dict(zip(("username", "password"), credentials, strict=True)) if credentials else None
    client = Client(environment, int(port), auth)
    if command == "send":
        send(client, int(argument))
    else:
        hostile(client, argument)
    print(json.dumps(client.statuses, sort_keys=True))


main()
