"""Sends numbered messages from the home of an enrolled client, by POST, until it is refused; for `trust.rs`.

python3 load.py --home DIR --from TAG
It reads the home again when a file there has changed. A message keeps its id until it is acknowledged. A refusal is
final when the home has not changed since it was read. Then it prints `refused N: STATUS BODY` on stderr and ends with 1.
"""
import argparse, json, pathlib, sys, time, uuid
import requests
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

DEADLINE_SECS = 30
FILES = ("envelope.keys", "web-ipc-ca.crt", "{identity}.crt", "{identity}.key", "client.json", "client.cred")

class Refused(Exception):
    """An answer that no further attempt would change."""

class Again(Exception):
    """An answer that may be another one later, or with other files."""

class VerifiesName(requests.adapters.HTTPAdapter):
    """Connects to the address in the URL, but wants the certificate of the server's name."""
    def __init__(self, server):
        self.server = server
        super().__init__()
    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, server_hostname=self.server, **options)

class Line:
    """What was read from the home, with a connection and a session."""
    def __init__(self, home):
        self.home, self.session = home, None
        self.stamps = self.now()
        client = json.loads((home / "client.json").read_text())
        keys = (line.strip() for line in (home / "envelope.keys").read_text().splitlines())
        self.ring = MultiFernet([Fernet(key) for key in keys if key and not key.startswith("#")])
        self.credentials = json.loads(self.ring.decrypt((home / "client.cred").read_bytes().strip()))
        self.address = client["addresses"][0]
        self.http = requests.Session()
        self.http.trust_env = False
        self.http.mount("https://", VerifiesName(client["server"]))
        self.http.headers["Host"] = f"{client['server']}:{self.address.rpartition(':')[2]}"
        self.http.verify = str(home / "web-ipc-ca.crt")
        self.http.cert = tuple(str(home / f"{client['identity']}.{kind}") for kind in ("crt", "key"))
    def now(self):
        identity = json.loads((self.home / "client.json").read_text())["identity"]
        stats = ((self.home / name.format(identity=identity)).stat() for name in FILES)
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]
    def changed(self):
        return self.now() != self.stamps
    def post(self, route, message_id, body):
        frame = {"v": 1, "to": route, "id": message_id, "body": body} | ({"session": self.session} if self.session else {})
        token = self.ring.encrypt(json.dumps(frame, separators=(",", ":")).encode())
        return self.http.post(f"https://{self.address}{route}", data=token, timeout=15, allow_redirects=False)
    def log_in(self):
        login_id, self.session = str(uuid.uuid4()), None
        answer = self.post("/client/auth", login_id, self.credentials)
        checked(answer)
        frame = json.loads(self.ring.decrypt(answer.content, ttl=60))
        assert (frame["to"], frame["id"]) == ("reply", login_id), "a reply to another request"
        self.session = frame["body"]["session"]
    def send(self, message_id, body):
        answer = self.post("/message/submit", message_id, body)
        if answer.status_code == 419:
            self.log_in()
            answer = self.post("/message/submit", message_id, body)
        checked(answer)

def checked(answer):
    if answer.status_code == 200:
        return
    said = f"{answer.status_code} {answer.text}"
    raise (Again if answer.status_code in (408, 419, 429, 500, 503) else Refused)(said)

def deliver(home, line, n, body):
    """Sends one message until it is acknowledged. Returns what to send the next one with."""
    message_id, end = str(uuid.uuid4()), time.monotonic() + DEADLINE_SECS
    while True:
        try:
            if line is None or line.changed():
                line = Line(home)
            line.send(message_id, body)
            return line
        except Refused as refusal:
            if not line.changed():
                sys.exit(f"refused {n}: {refusal}")
            why = refusal
        # A file may be away for a moment, or belong to another one than the rest; the connection may be closed.
        except (Again, OSError, InvalidToken, ValueError) as error:
            why, line = error, None
        if time.monotonic() > end:
            sys.exit(f"not acknowledged {n}: {why!r}")
        time.sleep(0.02)

parser = argparse.ArgumentParser(description="Sends numbered messages until it is refused.")
parser.add_argument("--home", required=True, type=pathlib.Path)
parser.add_argument("--from", required=True, dest="tag")
arguments = parser.parse_args()
line, n = None, 0
while True:
    n += 1
    line = deliver(arguments.home, line, n, {"from": arguments.tag, "n": n})
    time.sleep(0.003)
