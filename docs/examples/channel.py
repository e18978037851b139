"""Sends JSON objects over one channel of a web-ipc server; written from docs/protocol.md alone, with `websockets` (15 or later)
and `cryptography`.

python3 channel.py [--home DIR] [--server NAME] [--address HOST:PORT] [--request '{"what": "time"}'] '{"n": 1}' '{"n": 2}' ...
The home of an enrolled client says the rest: server, addresses, certificate and user. In a server's home they are localhost,
127.0.0.1:3000, localhost and the default admin. Without --home it is $WEB_IPC_HOME, or ~/.local/share/web-ipc.
Prints a line for each object, in their order: what became of it, or the reply. Exit status: 0 all are in the server's inbox and the
request has its reply, 1 not so, or nobody knows, 2 wrong usage.
"""
import argparse, base64, contextlib, http.client, json, os, pathlib, random, socket, ssl, sys, time, uuid
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

class Again(Exception):
    """Something that may be tried again after a pause."""

def seal(route, frame_id, body, session=None):
    frame = {"v": 1, "to": route, "id": frame_id, "body": body} | ({"session": session} if session else {})
    return base64.urlsafe_b64decode(ring.encrypt(json.dumps(frame, allow_nan=False).encode()))

def open_reply(envelope, frame_id):
    frame = json.loads(ring.decrypt(base64.urlsafe_b64encode(envelope), ttl=60))
    if (frame["to"], frame["id"]) != ("reply", frame_id):
        raise ValueError("a reply to another frame")
    return frame["body"]

def log_in():
    login_id, login = str(uuid.uuid4()), ring.decrypt(credentials.read_bytes().strip())
    connection = http.client.HTTPConnection(server, addresses[0][1], timeout=15)
    connection.sock = tls.wrap_socket(socket.create_connection(addresses[0], 15), server_hostname=server)
    connection.request("POST", "/client/auth", seal("/client/auth", login_id, json.loads(login)),
                       {"Content-Type": "application/octet-stream"})
    answer = connection.getresponse()
    content = answer.read(128 * 1024)
    if answer.status in (408, 429, 500, 503):
        raise Again(content.decode())
    if answer.status != 200:
        sys.exit(f"login refused: {content.decode()}")
    return open_reply(content, login_id)["session"]

def front(queue, limits):
    """As many entries from the front of the queue as one frame may have; 1 KiB is left for what stands around them."""
    entries, room = [], limits["message-bytes"] - 1024
    for entry in queue[:limits["entries"]]:
        room -= len(json.dumps(entry)) + 2
        if room < 0:
            break
        entries.append(entry)
    return entries or sys.exit("an object is too long for a channel: send it by POST, as client.py does")

def use_channel(session, queue, answers, end):
    """Opens a channel and sends the queue over it. What has no answer when the channel ends is in front of the queue again."""
    channel_id, number, resume, resume_at, sent = str(uuid.uuid4()), 0, {}, 0, {}
    with connect(f"wss://{server}:{addresses[0][1]}/message/channel", sock=socket.create_connection(addresses[0], 15), ssl=tls,
                 server_hostname=server, subprotocols=["web-ipc.1"], compression=None, max_size=17 * 1024 * 1024) as websocket:
        if websocket.subprotocol != "web-ipc.1":
            sys.exit("no channel here: send by POST, as client.py does")
        told = (limit.split("=") for limit in websocket.response.headers["Web-IPC-Limits"].split(","))
        limits = {"message-bytes": 73728, "entries": 1000} | {name.strip(): int(value) for name, value in told}
        try:
            while (queue or sent) and time.monotonic() < end:
                sends = bool(queue) and time.monotonic() >= resume_at
                if sends:
                    entries = front(queue, limits)
                    body = {"first": number, "entries": entries} | resume
                    with contextlib.suppress(ConnectionClosed):  # what came before the end is read first, then recv says why
                        websocket.send(seal("/message/channel", channel_id, body, session))
                    sent.update(enumerate(entries, number))
                    del queue[:len(entries)]
                    number, session, resume = number + len(entries), None, {}
                try:
                    body = open_reply(websocket.recv(0 if sends and queue else 1), channel_id)
                except TimeoutError:
                    continue
                for first, last, code in body.get("settled", []):
                    for settled in range(first, last + 1):
                        answers[sent.pop(settled)["id"]] = code
                for reply in body.get("replies", []):
                    answers[sent.pop(reply["entry"])["id"]] = reply["body"]
                if "refused" in body:  # what found no room goes again, in its order, no sooner than in a second
                    resume, resume_at = {"resume": body["refused"]["from"]}, time.monotonic() + 1
                    queue[:0] = [sent.pop(taken) for taken in sorted(sent) if taken >= resume["resume"]]
        except (InvalidToken, ValueError, KeyError, TypeError) as error:
            websocket.close(1002, "not an answer of this channel")
            raise Again(f"not an answer of this channel: {error!r}")
        finally:
            queue[:0] = sent.values()

def send_all(queue, answers, deadline_secs=60):
    session, pause, end = None, 0.05, time.monotonic() + deadline_secs
    while queue:
        try:
            is_new, session = session is None, session or log_in()
            use_channel(session, queue, answers, end)
            why = "no answer"
        except ConnectionClosed as error:
            code, why = (error.rcvd.code, error.rcvd.reason) if error.rcvd else (1006, "the connection broke")
            if code == 4419 and not is_new:
                session = None
                continue
            if code not in (1001, 1006, 4500, 4503) and why != "stale_envelope":
                sys.exit(f"the server closed the channel: {code} {why}")
        except InvalidStatus as error:
            why = error.response.body.decode()
            if error.response.status_code not in (408, 500, 503):
                sys.exit(f"no channel here, send by POST as client.py does: {why}")
        except ssl.SSLError as error:
            sys.exit(f"a certificate was refused: {error}")
        except (Again, OSError, InvalidHandshake) as error:
            why = error
            addresses.append(addresses.pop(0))  # the next attempt is at the next address
        if queue and time.monotonic() + pause > end:
            return print(f"not all has an answer in {deadline_secs} s: {why}", file=sys.stderr)
        time.sleep(pause * random.uniform(0.75, 1.25) if queue else 0)
        pause = min(2 * pause, 2)

def address(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)

parser = argparse.ArgumentParser(description="Sends JSON objects over one channel of a web-ipc server.")
parser.add_argument("--home", default=os.environ.get("WEB_IPC_HOME") or pathlib.Path.home() / ".local/share/web-ipc")
parser.add_argument("--server", help="the name in the server's certificate")
parser.add_argument("--address", help="where the server is")
parser.add_argument("--request", type=json.loads, help="an object that the application replies to, sent last")
parser.add_argument("messages", type=json.loads, nargs="*")
arguments = parser.parse_args()
home = pathlib.Path(arguments.home)
told = home / "client.json"
enrolled = json.loads(told.read_text()) if told.exists() else {}
server = arguments.server or enrolled.get("server", "localhost")
addresses = [arguments.address] if arguments.address else enrolled.get("addresses", ["127.0.0.1:3000"])
addresses = [address(text) for text in addresses]
identity, credentials = enrolled.get("identity", "localhost"), home / ("client.cred" if enrolled else "admin.cred")
keys = (line.strip() for line in (home / "envelope.keys").read_text().splitlines())
ring = MultiFernet([Fernet(key) for key in keys if key and not key.startswith("#")])  # the first seals, all open
tls = ssl.create_default_context(cafile=home / "web-ipc-ca.crt")  # this authority and no other
tls.load_cert_chain(home / f"{identity}.crt", home / f"{identity}.key")
entries = [{"id": str(uuid.uuid4()), "body": message} for message in arguments.messages]
if arguments.request is not None:
    entries.append({"id": str(uuid.uuid4()), "body": arguments.request, "reply_wait_ms": 30_000})
answers = {}
send_all(list(entries), answers)
for entry in entries:
    print(json.dumps(answers.get(entry["id"], "not known")))
good = [isinstance(answer, dict) or answer in ("accepted", "duplicate") for answer in answers.values()]
sys.exit(0 if all(good) and len(good) == len(entries) else 1)
