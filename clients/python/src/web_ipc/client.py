"""The client for code that is not async.

It runs an `AsyncClient` on a thread of its own, so that both have one behaviour.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from ._engine import PLAINTEXT_BYTES_MAX
from .aio import AsyncClient, Reply, SendAll, Sent
from .errors import Report

T = TypeVar("T")


class _Runner:
    """An event loop on a thread, with one client on it."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="web-ipc", daemon=True)
        self._thread.start()
        try:
            self.client = self.run(self._make(options))
        except BaseException:
            self._end()
            raise

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    @staticmethod
    async def _make(options: dict[str, Any]) -> AsyncClient:
        return AsyncClient(**options)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # after Ctrl-C nothing goes on behind the caller's back
            raise

    def close(self) -> None:
        if os.getpid() == self.process and self._thread.is_alive():
            self.run(self.client.close())
            self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()


class Client:
    """Sends messages and requests to one server, which may have several addresses.

    Everything that is left out comes from the home. Any number of threads may use one client:

        with Client() as client:
            client.send({"celsius": 21.5})
            reply = client.request({"what": "time"})
    """

    def __init__(
        self,
        home: str | os.PathLike[str] | None = None,
        *,
        server: str | None = None,
        address: str | Sequence[str] | None = None,
        identity: str | None = None,
        username: str | None = None,
        password: str | None = None,
        timeout: float = 30.0,
        protocol: str = "https",
        channel: bool = True,
        connections_max: int = 16,
        plaintext_bytes_max: int = PLAINTEXT_BYTES_MAX,
    ) -> None:
        """The arguments are those of `AsyncClient`."""
        self._options: dict[str, Any] = {
            "home": home,
            "server": server,
            "address": address,
            "identity": identity,
            "username": username,
            "password": password,
            "timeout": timeout,
            "protocol": protocol,
            "channel": channel,
            "connections_max": connections_max,
            "plaintext_bytes_max": plaintext_bytes_max,
        }
        self._lock = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._runner = _Runner(self._options)
        self._finalizer = weakref.finalize(self, self._runner.close)

    def _here(self) -> _Runner:
        """The runner of this process: after a fork the parent's thread is not there."""
        if self._runner.process != os.getpid():
            with self._lock:
                if self._runner.process != os.getpid():
                    self._finalizer.detach()
                    self._start()
        return self._runner

    def __repr__(self) -> str:
        return repr(self._runner.client).replace("AsyncClient", type(self).__name__)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Without it they close with the program."""
        self._finalizer()

    def send(
        self, message: Mapping[str, Any], *, id: str | None = None, timeout: float | None = None
    ) -> Sent:
        """Sends one message. It returns once the server has stored it; a `SendError` says in
        `outcome` what became of it. Give `id`, a UUID, to repeat a call whose outcome was not
        known: the message is stored once."""
        runner = self._here()
        return runner.run(runner.client.send(message, id=id, timeout=timeout))

    def request(
        self,
        message: Mapping[str, Any],
        *,
        wait: float = 30.0,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Sends one message and waits for its reply, for `wait` seconds at most. `timeout` is how
        long to look for the server before that."""
        runner = self._here()
        return runner.run(runner.client.request(message, wait=wait, id=id, timeout=timeout))

    def send_all(
        self, messages: Iterable[Mapping[str, Any]], *, timeout: float | None = None
    ) -> Report:
        """Sends many messages, in their order. A message that is refused is in the report, and the
        others are sent nevertheless. `SendAllError` if there was no progress for `timeout` seconds.
        """
        runner = self._here()

        async def begin() -> SendAll:
            return SendAll(runner.client, timeout)

        async def give_up(sending: SendAll) -> None:
            sending.give_up()

        sending = runner.run(begin())
        try:
            # The iterable runs on the caller's thread: it may block.
            for message in messages:
                runner.run(sending.feed(message))
            return runner.run(sending.finish())
        finally:
            runner.run(give_up(sending))
