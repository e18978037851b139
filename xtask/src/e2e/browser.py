"""Opens a page in headless Chromium and waits for what it must show; for `status_page.rs`.

python3 browser.py CHROMIUM PROFILE URL STEP...
A step is `wait:NAME:EXPRESSION`, which waits until the JavaScript expression is true and prints `NAME`, or
`shot:FILE:SCHEME:WIDTH:HEIGHT`, which saves a picture with the colours `light` or `dark`. An error of the page's script, or
a request of the page to another server, is printed and ends with 1. The Chrome DevTools Protocol is documented at
https://chromedevtools.github.io/devtools-protocol/.
"""
import base64, json, pathlib, subprocess, sys, time
from urllib.request import urlopen
from urllib.parse import urlsplit
from websockets.sync.client import connect

PATIENCE_SECS = 100

class Page:
    """One tab, by the Chrome DevTools Protocol."""
    def __init__(self, address, own):
        self.line, self.number, self.own = connect(address, max_size=None, proxy=None), 0, own

    def call(self, method, **parameters):
        self.number += 1
        self.line.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.line.recv(timeout=PATIENCE_SECS))
            self.check(answer)
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]

    def check(self, event):
        """Ends with 1 if the page did what it must not do."""
        if event.get("method") == "Runtime.exceptionThrown":
            sys.exit(f"the page's script failed: {event['params']['exceptionDetails']}")
        if event.get("method") == "Network.requestWillBeSent":
            url = event["params"]["request"]["url"]
            if urlsplit(url).scheme != "data" and urlsplit(url).netloc != self.own:
                sys.exit(f"the page asked {url}")

    def is_true(self, expression):
        result = self.call("Runtime.evaluate", expression=f"Boolean({expression})", returnByValue=True)
        return result["result"].get("value") is True

    def wait(self, name, expression):
        end = time.monotonic() + PATIENCE_SECS
        while not self.is_true(expression):
            if time.monotonic() > end:
                text = self.call("Runtime.evaluate", expression="document.body.innerText", returnByValue=True)
                sys.exit(f"not shown: {name}\n{text['result'].get('value')}")
            time.sleep(0.05)
        print(name, flush=True)

    def shot(self, file, scheme, width, height):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call("Emulation.setDeviceMetricsOverride", width=int(width), height=int(height), deviceScaleFactor=1, mobile=False)
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        pathlib.Path(file).write_bytes(base64.b64decode(picture["data"]))

def start(chromium, profile):
    """Starts Chromium and returns it with the address of its tab."""
    flags = ["--headless", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--remote-debugging-port=0"]
    # Chromium's own sandbox refuses root, which continuous integration often is.
    flags += ["--no-sandbox"]
    browser = subprocess.Popen([chromium, *flags, f"--user-data-dir={profile}", "about:blank"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    told = pathlib.Path(profile) / "DevToolsActivePort"
    end = time.monotonic() + PATIENCE_SECS
    while True:
        try:
            port = told.read_text().splitlines()[0]
            tabs = json.load(urlopen(f"http://127.0.0.1:{port}/json/list"))
            return browser, next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        except (OSError, IndexError, StopIteration) as error:
            if time.monotonic() > end or browser.poll() is not None:
                browser.kill()
                sys.exit(f"chromium does not start: {error}")
            time.sleep(0.05)

def main():
    chromium, profile, url, *steps = sys.argv[1:]
    browser, address = start(chromium, profile)
    try:
        page = Page(address, urlsplit(url).netloc)
        page.call("Runtime.enable")
        page.call("Network.enable")
        page.call("Page.enable")
        page.call("Page.navigate", url=url)
        for step in steps:
            kind, rest = step.split(":", 1)
            if kind == "wait":
                page.wait(*rest.split(":", 1))
            else:
                page.shot(*rest.rsplit(":", 3))
    finally:
        browser.kill()
        browser.wait()

main()
