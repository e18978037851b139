"""The real server for the tests: the program that `$WEB_IPC_BIN` names, or `web-ipc` on the PATH.

Each test gets a home of its own. Nothing sleeps: a test waits for a line of the server.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

WAIT_SECS = 60


@pytest.fixture(scope="session")
def program() -> str:
    found = os.environ.get("WEB_IPC_BIN") or shutil.which("web-ipc")
    if found is None:
        pytest.fail("set WEB_IPC_BIN to the program web-ipc")
    return found


class Home:
    """A home, and the program that is run in it."""

    def __init__(self, program: str, path: Path) -> None:
        self.program = program
        self.path = path

    def run(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.program, *arguments, "--home", str(self.path)],
            check=True,
            capture_output=True,
            encoding="utf-8",
            **options,
        )


@pytest.fixture(scope="session")
def first_home(program: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "home"
    Home(program, path).run("--init", "--run")
    return path


@pytest.fixture
def home(
    program: str, first_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Home:
    path = tmp_path / "home"
    shutil.copytree(first_home, path)
    monkeypatch.setenv("WEB_IPC_HOME", str(path))
    return Home(program, path)


class Server:
    """A running `web-ipc --serve`."""

    def __init__(
        self,
        home: Home,
        *arguments: str,
        port: int = 0,
        reads: threading.Event | None = None,
    ) -> None:
        self._reads = reads
        # With --port 0 the program begins at 3000; tests that run side by side pass each other.
        command = [home.program, "--serve", "--home", str(home.path), "--port", str(port)]
        self.process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.messages: queue.Queue[dict[str, Any]] = queue.Queue()
        self.log: list[str] = []
        self._heard = threading.Condition()
        self._threads = [
            threading.Thread(target=self._read_messages), threading.Thread(target=self._read_log)
        ]
        for thread in self._threads:
            thread.start()
        line = self.wait_for_log(r"Listening on \w+://\S+:\d+")
        self.port = int(re.search(r"Listening on \w+://\S+:(\d+)", line)[1])  # type: ignore[index]
        self.address = f"127.0.0.1:{self.port}"

    def _read_messages(self) -> None:
        assert self.process.stdout is not None
        if self._reads is not None:
            self._reads.wait()
        for line in self.process.stdout:
            self.messages.put(json.loads(line))

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._heard:
                self.log.append(line)
                self._heard.notify_all()
        with self._heard:
            self.log.append("END")
            self._heard.notify_all()

    def wait_for_log(self, pattern: str) -> str:
        """The first line of the server's log in which this is found."""

        def found() -> str | None:
            return next((line for line in self.log if re.search(pattern, line)), None)

        with self._heard:
            self._heard.wait_for(
                lambda: found() is not None or self.log[-1:] == ["END"], WAIT_SECS
            )
            line = found()
        assert line is not None, f"no line with {pattern!r}:\n{''.join(self.log)}"
        return line

    def take(self) -> dict[str, Any]:
        """The next message that the server printed."""
        return self.messages.get(timeout=WAIT_SECS)

    def bodies(self, count: int) -> list[dict[str, Any]]:
        return [self.take()["body"] for _ in range(count)]

    def kill(self) -> None:
        self.process.kill()
        self._end()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self._end()

    def freeze(self) -> None:
        """The server stays connected and answers nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def _end(self) -> None:
        self.process.wait(WAIT_SECS)
        for thread in self._threads:
            thread.join(WAIT_SECS)


StartServer = Callable[..., Server]


@pytest.fixture
def serve(home: Home) -> Iterator[StartServer]:
    servers: list[Server] = []

    def start(*arguments: str, port: int = 0, reads: threading.Event | None = None) -> Server:
        servers.append(Server(home, *arguments, port=port, reads=reads))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.thaw()
            server.process.kill()
        if server._reads is not None:
            server._reads.set()
        server._end()


@pytest.fixture
def server(serve: StartServer) -> Server:
    return serve()


class Heard(logging.Handler):
    """What the package logs, at every level."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []
        self._heard = threading.Condition()

    def emit(self, record: logging.LogRecord) -> None:
        with self._heard:
            self.lines.append(f"{record.name}: {record.getMessage()}")
            self._heard.notify_all()

    def wait_for(self, text: str) -> None:
        with self._heard:
            found = self._heard.wait_for(
                lambda: any(text in line for line in self.lines), WAIT_SECS
            )
        assert found, f"nothing logged with {text!r}: {self.lines}"


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, logger = Heard(), logging.getLogger("web_ipc")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
