"""The client for asyncio."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ._channel import ByPost, Channel, Entry
from ._engine import PLAINTEXT_BYTES_MAX, TIMEOUT_SECS_MAX, Call, Engine, Result
from .errors import (
    ConfigurationError,
    Outcome,
    Refusal,
    Report,
    SendAllError,
    SendError,
)
from .frame import Body
from .home import Address, Source, locate

#: How many messages of `send_all` are on their way at a time, and how many bytes of them.
WINDOW_MESSAGES = 2000
WINDOW_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Sent:
    """A message that is in the server's inbox."""

    #: The id of the message, as the receiving application sees it.
    id: str
    #: Whether the server had the message already from an earlier attempt. It is there once.
    duplicate: bool


@dataclass(frozen=True)
class Reply:
    """The application's reply to a request."""

    id: str
    duplicate: bool
    #: The JSON object.
    body: dict[str, Any] = field(repr=False)


class AsyncClient:
    """Sends messages and requests to one server, which may have several addresses.

    Everything that is left out comes from the home. Use it in one event loop:

        async with AsyncClient() as client:
            await client.send({"celsius": 21.5})
            reply = await client.request({"what": "time"})
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
        """`server` is the name in the server's certificate; `address` is `HOST:PORT`, or several of
        them (in a list, or with commas between), of which the first that answers is used.
        `identity` is the certificate pair to present. `timeout` is how long a call tries, in
        seconds, at most 480. With `channel` False everything goes by `POST`."""
        if protocol not in ("https", "http"):
            raise ConfigurationError("the protocol is https or http")
        if (username is None) != (password is None):
            raise ConfigurationError("give both, a username and a password")
        if connections_max < 1:
            raise ConfigurationError("connections_max is 1 or more")
        self._timeout = _checked_timeout(timeout)
        addresses = None
        if address is not None:
            texts = address.split(",") if isinstance(address, str) else address
            addresses = tuple(Address.parse(text.strip()) for text in texts)
            if not addresses:
                raise ConfigurationError("give one address or more")
        credentials = None if username is None or password is None else (username, password)
        source = Source(
            locate(home), server, addresses, identity, credentials, is_plain=protocol == "http"
        )
        self._engine = Engine(source, plaintext_bytes_max, connections_max)
        if source.is_plain and not all(at.is_loopback for at in self._engine.material.addresses):
            raise ConfigurationError("plain http is for loopback addresses only", "use https")
        self._channel = Channel(self._engine) if channel else None
        self._calls = 0

    def __repr__(self) -> str:
        material = self._engine.material
        return f"<{type(self).__name__} of {material.server} as {material.username}>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Calls that have no answer yet fail with `Closed`."""
        if self._channel is not None:
            await self._channel.close()
        await self._engine.close()

    async def send(
        self, message: Mapping[str, Any], *, id: str | None = None, timeout: float | None = None
    ) -> Sent:
        """Sends one message. It returns once the server has stored it; a `SendError` says in
        `outcome` what became of it. Give `id`, a UUID, to repeat a call whose outcome was not
        known: the message is stored once."""
        result = await self._call(Body.of(message), timeout, id, None)
        return Sent(result.id, result.duplicate)

    async def request(
        self,
        message: Mapping[str, Any],
        *,
        wait: float = 30.0,
        id: str | None = None,
        timeout: float | None = None,
    ) -> Reply:
        """Sends one message and waits for its reply, for `wait` seconds at most. `timeout` is how
        long to look for the server before that."""
        if not 0 <= wait <= TIMEOUT_SECS_MAX:
            raise ConfigurationError(f"wait is 0 to {TIMEOUT_SECS_MAX:g} seconds")
        result = await self._call(Body.of(message), timeout, id, wait)
        assert result.reply is not None
        return Reply(result.id, result.duplicate, result.reply)

    async def send_all(
        self,
        messages: Iterable[Mapping[str, Any]] | AsyncIterable[Mapping[str, Any]],
        *,
        timeout: float | None = None,
    ) -> Report:
        """Sends many messages, in their order. A message that is refused is in the report, and the
        others are sent nevertheless. `SendAllError` if there was no progress for `timeout` seconds.
        """
        sending = SendAll(self, timeout)
        try:
            if isinstance(messages, AsyncIterable):
                async for message in messages:
                    await sending.feed(message)
            else:
                for message in messages:
                    await sending.feed(message)
            return await sending.finish()
        finally:
            sending.give_up()

    async def _call(
        self, body: Body, timeout: float | None, message_id: str | None, wait: float | None
    ) -> Result:
        timeout = self._timeout if timeout is None else _checked_timeout(timeout)
        self._engine.check_size(body)
        call = Call.new(body, timeout, message_id, wait)
        # One message is sooner there by POST: it saves the handshake of a channel.
        is_first = self._calls == 0
        self._calls += 1
        if self._channel is not None and not is_first and self._channel.carries(call):
            entry = self._channel.put(call)
            result = await self._channel.result(entry, call.end)
            if not isinstance(result, ByPost):
                return result
        return await self._engine.post(call)


class SendAll:
    """Many messages on their way, in order. `AsyncClient.send_all` feeds it."""

    def __init__(self, client: AsyncClient, timeout: float | None) -> None:
        self._engine = client._engine
        self._channel = client._channel
        self._timeout = client._timeout if timeout is None else _checked_timeout(timeout)
        self._report = Report()
        self._pending: deque[tuple[int, Entry]] = deque()
        self._pending_bytes = 0
        self._index = 0
        self._progress_at = time.monotonic()
        client._calls += 1

    async def feed(self, message: Mapping[str, Any]) -> None:
        """Takes the next message, and waits while enough are on their way."""
        index, self._index = self._index, self._index + 1
        try:
            body = Body.of(message)
            self._engine.check_size(body)
        except SendError as error:
            self._refused(index, error)
            return
        # The time of a call here is counted from the last progress, by _settle_first.
        call = Call.new(body, self._timeout, None)
        if not self._pending:
            self._progress_at = time.monotonic()
        if self._channel is None or not self._channel.carries(call):
            # What follows waits for its answer, so that the order is kept.
            await self._settle_all()
            await self._post(index, call)
            return
        call.end = time.monotonic() + TIMEOUT_SECS_MAX
        self._pending.append((index, self._channel.put(call)))
        self._pending_bytes += body.size
        while len(self._pending) >= WINDOW_MESSAGES or self._pending_bytes > WINDOW_BYTES:
            await self._settle_first()
        # The channel gets its turn also where the messages come without a pause.
        if index % 100 == 0:
            await asyncio.sleep(0)

    async def finish(self) -> Report:
        """Waits until every message has its answer."""
        await self._settle_all()
        self._report.refusals.sort(key=lambda refusal: refusal.index)
        return self._report

    def give_up(self) -> None:
        """Sends nothing more. What has been sent may be in the inbox."""
        for _, entry in self._pending:
            assert self._channel is not None
            if not entry.done.done():
                self._channel.give_up(entry)
            elif not entry.done.cancelled():
                entry.done.exception()  # it is known, so that asyncio does not log it
        self._pending.clear()

    async def _settle_all(self) -> None:
        while self._pending:
            await self._settle_first()

    async def _settle_first(self) -> None:
        assert self._channel is not None
        index, entry = self._pending[0]
        self._pending_bytes -= entry.call.body.size
        try:
            result = await self._channel.result(entry, self._progress_at + self._timeout)
        except SendError as error:
            self._settled_badly(index, error)
        else:
            if isinstance(result, ByPost):
                entry.call.end = time.monotonic() + self._timeout
                await self._post(index, entry.call)
            else:
                self._settled(result)
        self._pending.popleft()
        self._progress_at = time.monotonic()

    async def _post(self, index: int, call: Call) -> None:
        try:
            result = await self._engine.post(call)
        except SendError as error:
            self._settled_badly(index, error)
        else:
            self._settled(result)

    def _settled(self, result: Result) -> None:
        self._report.sent += 1
        self._report.duplicates += result.duplicate

    def _refused(self, index: int, error: SendError) -> None:
        self._report.refusals.append(Refusal(index, error))

    def _settled_badly(self, index: int, error: SendError) -> None:
        """A refusal of this message alone is noted; anything else ends the sending."""
        alone = ("malformed_frame", "not_an_object", "id_reused", "too_large")
        if error.code in alone and not error.is_timeout:
            self._refused(index, error)
            return
        sent = [at for at, entry in self._pending if entry.is_in_flight or entry.call.may_be_there]
        until = max([index, *sent]) + 1 if sent or error.outcome is Outcome.NOT_KNOWN else index
        raise SendAllError(self._report, index, until, error)


def _checked_timeout(timeout: float) -> float:
    if not 0 < timeout <= TIMEOUT_SECS_MAX:
        raise ConfigurationError(f"a timeout is more than 0 and at most {TIMEOUT_SECS_MAX:g} s")
    return float(timeout)


__all__ = ["AsyncClient", "Reply", "SendAll", "Sent"]
