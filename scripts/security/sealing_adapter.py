"""Stands between a tool that tests HTTP APIs and a web-ipc server: seals what comes, opens what goes back.

python3 sealing_adapter.py --home DIR --server NAME --address HOST:PORT --port PORT
`GET /openapi.json` is docs/openapi.yaml with the plaintexts in the place of the envelopes. Needs requests, cryptography, pyyaml.
"""
import argparse, http.server, json, pathlib, uuid
import requests, yaml
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "openapi.yaml"
PASSED_ON = ("Retry-After", "Allow", "WWW-Authenticate", "Web-IPC-Duplicate", "Upgrade", "Sec-WebSocket-Version")

class VerifiesName(requests.adapters.HTTPAdapter):
    """Connects to the address in the URL, but wants the certificate of the server's name."""
    def init_poolmanager(self, *args, **options):
        super().init_poolmanager(*args, server_hostname=arguments.server, **options)

def plaintext_page():
    page = yaml.safe_load(PAGE.read_text())
    page["servers"] = [{"url": f"http://127.0.0.1:{arguments.port}"}]
    del page["security"], page["components"]["securitySchemes"]
    del page["paths"]["/message/channel"]  # a WebSocket
    for operation in (operation for methods in page["paths"].values() for operation in methods.values()):
        for holder, body in ((operation, operation.get("requestBody")), (operation["responses"]["200"],) * 2):
            schema = holder.pop("x-web-ipc-plaintext", None)
            if schema and holder is operation:
                operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": {"$ref": schema}}}}
            elif schema:
                body["content"] = {"application/json": {"schema": {"$ref": schema}}}
    return page

def post(route, plaintext):
    return http_session.post(f"https://{arguments.address}{route}", data=ring.encrypt(plaintext), timeout=60)

def log_in():
    credentials = json.loads(ring.decrypt((home / "admin.cred").read_bytes().strip()))
    frame = {"v": 1, "to": "/client/auth", "id": str(uuid.uuid4()), "body": credentials}
    return json.loads(ring.decrypt(post("/client/auth", json.dumps(frame).encode()).content))["body"]["session"]

def with_good_values(body):
    """A frame with any session gets a good one, one with any id gets a new one: no tool can make them up."""
    try:
        frame = json.loads(body)
        if frame.get("session"):
            frame["session"] = session if isinstance(frame["session"], str) else frame["session"]
        if len(frame["id"]) == 36 and uuid.UUID(frame["id"]):
            frame["id"] = str(uuid.uuid4())
        return json.dumps(frame).encode()
    except (ValueError, TypeError, KeyError, AttributeError):
        return body

class Adapter(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/openapi.json":
            return self.answer(200, "application/json", json.dumps(plaintext_page()).encode(), {})
        if self.command != "POST":
            answer = http_session.request(self.command, f"https://{arguments.address}{self.path}", timeout=60)
        else:
            body = with_good_values(body)
            answer = post(self.path, body)
        content, media_type = answer.content, answer.headers.get("Content-Type", "")
        if answer.status_code == 200 and media_type.startswith("text/plain"):
            try:
                content, media_type = ring.decrypt(content, ttl=60), "application/json"
            except InvalidToken:
                pass  # `success`, and that it runs
        self.answer(answer.status_code, media_type, content, answer.headers)

    def answer(self, status, media_type, content, headers):
        self.send_response(status)
        for name in PASSED_ON:
            if name in headers:
                self.send_header(name, headers[name])
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_QUERY = handle_any

    def log_message(self, *_):
        pass

parser = argparse.ArgumentParser(description=__doc__)
for option in ("--home", "--server", "--address", "--port"):
    parser.add_argument(option, required=True)
arguments = parser.parse_args()
home = pathlib.Path(arguments.home)
ring = MultiFernet([Fernet(key) for key in (home / "envelope.keys").read_text().split()])
http_session = requests.Session()
http_session.trust_env = False
http_session.mount("https://", VerifiesName())
http_session.verify, http_session.cert = str(home / "web-ipc-ca.crt"), (str(home / "localhost.crt"), str(home / "localhost.key"))
session = log_in()
http.server.ThreadingHTTPServer(("127.0.0.1", int(arguments.port)), Adapter).serve_forever()
