"""Sends one JSON object to a web-ipc server; written from docs/protocol.md alone, with `requests` and `cryptography`.

python3 client.py [--home DIR] [--server NAME] [--address HOST:PORT] '{"test": 1}'
The home of an enrolled client says the rest: server, addresses, certificate and user. In a server's home they are localhost,
127.0.0.1:3000, localhost and the default admin. Without --home it is $WEB_IPC_HOME, or ~/.local/share/web-ipc.
Exit status: 0 the message is in the server's inbox, 1 it is not, or nobody knows, 2 wrong usage.
"""
import argparse, json, os, pathlib, sys, time, uuid
import requests
from cryptography.fernet import Fernet, MultiFernet

class VerifiesName(requests.adapters.HTTPAdapter):
    """Connects to the address in the URL, but wants the certificate of the server's name."""
    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, server_hostname=server, **options)

def post(route, message_id, body, session=None):
    frame = {"v": 1, "to": route, "id": message_id, "body": body} | ({"session": session} if session else {})
    token = ring.encrypt(json.dumps(frame, allow_nan=False).encode())
    host = {"Host": f"{server}:{addresses[0].rpartition(':')[2]}"}
    return http.post(f"https://{addresses[0]}{route}", data=token, headers=host, timeout=15, allow_redirects=False)

def log_in(login_id):
    answer = post("/client/auth", login_id, json.loads(ring.decrypt(credentials.read_bytes().strip())))
    if answer.status_code != 200:
        return answer, None
    frame = json.loads(ring.decrypt(answer.content, ttl=60))
    assert (frame["to"], frame["id"]) == ("reply", login_id), "a reply to another request"
    return answer, frame["body"]["session"]

def send(message, message_id, deadline_secs=30):
    session, pause, end = None, 0.05, time.monotonic() + deadline_secs
    while True:
        wait, why = pause, None
        try:
            answer = post("/message/submit", message_id, message, session)
            if answer.status_code == 419:
                answer, session = log_in(str(uuid.uuid4()))
                if session:
                    answer = post("/message/submit", message_id, message, session)
            if answer.status_code == 200:
                return
            why = answer.text
            if answer.status_code not in (408, 419, 429, 500, 503) and '"stale_envelope"' not in why:
                sys.exit(f"refused: {why}")
            wait = max(pause, float(answer.headers.get("Retry-After", 0)))
        except requests.exceptions.SSLError as error:
            sys.exit(f"a certificate was refused: {error}")
        except (requests.ConnectionError, requests.Timeout) as error:
            why = error
            addresses.append(addresses.pop(0))  # the next attempt is at the next address
        if time.monotonic() + wait > end:
            sys.exit(f"not acknowledged in {deadline_secs} s: {why}")
        time.sleep(wait)
        pause = min(2 * pause, 2)

parser = argparse.ArgumentParser(description="Sends one JSON object to a web-ipc server.")
parser.add_argument("--home", default=os.environ.get("WEB_IPC_HOME") or pathlib.Path.home() / ".local/share/web-ipc")
parser.add_argument("--server", help="the name in the server's certificate")
parser.add_argument("--address", help="where the server is")
parser.add_argument("message", type=json.loads)
arguments = parser.parse_args()
home = pathlib.Path(arguments.home)
told = home / "client.json"
enrolled = json.loads(told.read_text()) if told.exists() else {}
server = arguments.server or enrolled.get("server", "localhost")
addresses = [arguments.address] if arguments.address else enrolled.get("addresses", ["127.0.0.1:3000"])
identity, credentials = enrolled.get("identity", "localhost"), home / ("client.cred" if enrolled else "admin.cred")
keys = (line.strip() for line in (home / "envelope.keys").read_text().splitlines())
ring = MultiFernet([Fernet(key) for key in keys if key and not key.startswith("#")])  # the first seals, all open
http = requests.Session()
http.trust_env = False  # no proxy and no other authority from the environment
http.mount("https://", VerifiesName())
http.verify = str(home / "web-ipc-ca.crt")
http.cert = (str(home / f"{identity}.crt"), str(home / f"{identity}.key"))
send(arguments.message, str(uuid.uuid4()))
