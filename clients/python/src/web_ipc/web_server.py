"""`WebServer`, as users of the Python tool know it: it runs `web-ipc --serve` and fills a queue.

The program `web-ipc` must be installed: the one on the `PATH`, or the one that `$WEB_IPC_BIN`
names.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from typing import IO, Any, Protocol

from .errors import ConfigurationError

_LISTENING = re.compile(r"Listening on \w+://(.+):(\d+)(?: |$)")
_LEVEL = re.compile(r"^\[[^]]*\]\[([A-Z]+)\]\[[^]]*\]: ")


class _Queue(Protocol):
    def put(self, item: Any, /) -> None: ...


class WebServer:
    """Receives messages and puts each, a dict, on `queue`: a `queue.Queue`, or one of
    `multiprocessing`.

    While the queue is full no message is taken, and senders are told to wait. `inbox="durable"`
    keeps messages in the home until they are taken. With `port` 0 it takes the first free one of
    3000 to 3999; `port` then says which.
    """

    def __init__(
        self,
        name: str = "localhost",
        host: str = "127.0.0.1",
        port: int = 0,
        protocol: str = "https",
        queue: _Queue | None = None,
        logger: logging.Logger | None = None,
        *,
        home: str | os.PathLike[str] | None = None,
        inbox: str = "memory",
        program: str | None = None,
    ) -> None:
        if queue is None:
            raise ValueError("a queue is needed, for the messages")
        self.name = name
        self.host = host
        self.port = port
        self.protocol = protocol
        self.queue = queue
        self.log = logger or logging.getLogger("web_ipc")
        self._home = home
        self._inbox = inbox
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self._threads: list[threading.Thread] = []
        self._is_told = threading.Event()
        self._is_listening = False
        self._last_lines: deque[str] = deque(maxlen=5)

    @property
    def is_running(self) -> bool:
        """Whether the server runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the server. It returns once the server listens; `ConfigurationError` says why it
        does not."""
        if self.is_running:
            return
        program = self._program or os.environ.get("WEB_IPC_BIN") or shutil.which("web-ipc")
        if program is None:
            raise ConfigurationError("the program web-ipc is not on the PATH", "install it")
        command = [program, "--serve", f"--name={self.name}", f"--ip={self.host}"]
        command += [f"--port={self.port}", f"--protocol={self.protocol}", f"--inbox={self._inbox}"]
        if self._home is not None:
            command.append(f"--home={os.fspath(self._home)}")
        self._is_told.clear()
        self._is_listening = False
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise ConfigurationError(f"{program} does not start: {error.strerror}") from None
        assert self._process.stdout is not None and self._process.stderr is not None
        self._threads = [
            threading.Thread(target=work, args=(stream,), daemon=True, name="web-ipc-server")
            for work, stream in (
                (self._take_messages, self._process.stdout),
                (self._take_log, self._process.stderr),
            )
        ]
        for thread in self._threads:
            thread.start()
        atexit.register(self.stop)
        self._is_told.wait()
        if not self._is_listening:
            self._process.wait()
            self._threads[1].join()
            atexit.unregister(self.stop)
            raise ConfigurationError("the server did not start: " + " ".join(self._last_lines))

    def stop(self) -> None:
        """Stops the server: it takes no further message, and hands over those that it has."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        process.wait()
        self._threads[1].join()
        atexit.unregister(self.stop)

    def _take_messages(self, lines: IO[str]) -> None:
        for line in lines:
            try:
                body = json.loads(line)["body"]
            except (ValueError, KeyError, TypeError):
                self.log.error("the server wrote a line that is no message")
                continue
            self.queue.put(body)

    def _take_log(self, lines: IO[str]) -> None:
        try:
            for line in lines:
                line = line.rstrip("\n")
                self._last_lines.append(line)
                level = _LEVEL.match(line)
                text = line[level.end() :] if level else line
                number = logging.getLevelName(level[1]) if level else logging.INFO
                self.log.log(number if isinstance(number, int) else logging.INFO, "%s", text)
                if not self._is_listening and (listening := _LISTENING.search(line)):
                    self.port = int(listening[2])
                    self._is_listening = True
                    self._is_told.set()
        finally:
            self._is_told.set()
