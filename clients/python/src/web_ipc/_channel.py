"""One channel: a WebSocket that carries what many calls send together.

The clients come here with entries, and get what became of each. Logins, and whatever a channel
cannot carry, go by `POST`: an entry is then settled with `BY_POST`, and its caller posts it.
`docs/protocol.md`, "Channel".
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import CloseCode
from websockets.typing import Subprotocol

from . import frame
from ._engine import ATTEMPT_SECS_MAX, Backoff, Call, Engine, Result, Session
from ._transport import failure_of, refusal_of
from .envelope import OVERHEAD_BYTES_MAX, EnvelopeError
from .errors import Closed, NoAnswer, NoReply, Outcome, Refused, SendError, Unreachable
from .frame import ChannelAnswer, ChannelLimits, FrameError
from .home import Address

log = logging.getLogger("web_ipc")

SUBPROTOCOL = Subprotocol("web-ipc.1")
#: Longer messages go by `POST` at once: a channel takes 72 KiB unless the server says otherwise.
BODY_BYTES_MAX = 64 * 1024
#: How long everything goes by `POST` after no channel could be opened.
WITHOUT_SECS = 60.0
#: The least pause before what was refused for want of room goes again.
REFUSED_SECS = 1.0
_PING_SECS = 15.0

#: Statuses of the codes in `settled`.
_STATUSES = {
    "malformed_frame": 400,
    "not_an_object": 400,
    "id_reused": 422,
    "shutting_down": 503,
    "unavailable": 503,
}


class ByPost:
    """The channel cannot carry this entry: it goes by `POST`."""


BY_POST = ByPost()


@dataclass(eq=False)
class Entry:
    """One message or request of a channel."""

    call: Call
    done: asyncio.Future[Result | ByPost] = field(repr=False)
    #: Whether it is on its way now.
    is_in_flight: bool = False

    def settle(self, result: Result | ByPost) -> None:
        if not self.done.done():
            self.done.set_result(result)

    def fail(self, error: SendError) -> None:
        if not self.done.done():
            self.done.set_exception(self.call.failed(error))

    def text(self) -> str:
        wait = None if self.call.wait is None else int(self.call.reply_wait() * 1000)
        return frame.channel_entry(self.call.id, self.call.body.text, wait)


class _Connect(connect):
    """Follows no redirect, and makes one attempt."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Broken(Exception):
    """The channel is of no use any more."""

    def __init__(self, reason: str, *, pauses: bool = True) -> None:
        super().__init__(reason)
        self.pauses = pauses


class Channel:
    """Opens a channel when there is something to send, and another one when it breaks."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: deque[Entry] = deque()
        self._in_flight: dict[int, Entry] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._without_until = 0.0
        self._has_said_so = False

    def carries(self, call: Call) -> bool:
        """Whether this call can go on a channel now."""
        return (
            time.monotonic() >= self._without_until
            and call.body.size <= BODY_BYTES_MAX
            and call.body.levels <= frame.CHANNEL_LEVELS_MAX
        )

    def put(self, call: Call) -> Entry:
        """Queues an entry behind all others."""
        entry = Entry(call, asyncio.get_running_loop().create_future())
        self._queue.append(entry)
        self._wake.set()
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._run())
        return entry

    async def result(self, entry: Entry, end: float) -> Result | ByPost:
        """What became of an entry. At `end` the call times out."""
        try:
            async with asyncio.timeout(max(0.0, end - time.monotonic())):
                return await asyncio.shield(entry.done)
        except TimeoutError:
            raise self.give_up(entry).timed_out() from None
        except asyncio.CancelledError:
            self.give_up(entry)
            raise

    def give_up(self, entry: Entry) -> Call:
        """Nobody waits for this entry any more. One that is queued is not sent."""
        entry.call.may_be_there |= entry.is_in_flight
        if entry.is_in_flight and entry.call.last is None:
            entry.call.last = NoAnswer(str(self._engine.address()), "the time ran out")
        entry.done.cancel()
        return entry.call

    async def close(self) -> None:
        """Ends the channel. What has no answer fails."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for entry in self._take_all():
            in_flight = entry.is_in_flight or entry.call.may_be_there
            entry.fail(Closed(Outcome.NOT_KNOWN if in_flight else Outcome.NEVER_ARRIVED))

    def _take_all(self) -> list[Entry]:
        """Everything without an answer, in its order."""
        entries = [self._in_flight[number] for number in sorted(self._in_flight)]
        entries += self._queue
        self._in_flight.clear()
        self._queue.clear()
        return [entry for entry in entries if not entry.done.done()]

    def _put_back(self, error: SendError, start: int = 0, *, may_be_there: bool) -> None:
        """What was sent from number `start` on goes again: in front, in its order."""
        numbers = sorted((number for number in self._in_flight if number >= start), reverse=True)
        for number in numbers:
            entry = self._in_flight.pop(number)
            entry.is_in_flight = False
            entry.call.may_be_there |= may_be_there
            entry.call.last = error
            if not entry.done.done():
                self._queue.appendleft(entry)

    def _note(self, error: SendError) -> None:
        for entry in self._queue:
            entry.call.last = error

    def _all_by_post(self, reason: str) -> None:
        self._without_until = time.monotonic() + WITHOUT_SECS
        say = log.debug if self._has_said_so else log.warning
        say("no channel, messages go by POST: %s", reason)
        self._has_said_so = True
        for entry in self._take_all():
            entry.call.may_be_there |= entry.is_in_flight
            entry.settle(BY_POST)

    def _drop_ended(self) -> None:
        if any(entry.done.done() for entry in self._queue):
            self._queue = deque(entry for entry in self._queue if not entry.done.done())

    # The connection

    async def _run(self) -> None:
        backoff, logins, failures = Backoff(), 0, 0
        while True:
            self._drop_ended()
            if not self._queue:
                return  # put() begins anew
            material = self._engine.refresh()
            address = self._engine.address()
            try:
                session, _ = await self._engine.session()
                websocket = await self._open(address)
                use = _Use(self, self._engine, websocket, session)
                try:
                    await use.run()
                finally:
                    if use.has_answers:
                        backoff.reset()
                        logins, failures = 0, 0
                    await websocket.close()
            except ConnectionClosed as closed:
                code, reason = (
                    (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
                )
                last = NoAnswer(str(address), reason or "the channel broke")
                self._put_back(last, may_be_there=True)
                if code == 4419:
                    self._engine.forget_session(session)
                    logins += 1
                    if logins > 1:
                        self._all_by_post("the session is refused")
                        return
                    continue
                if code == CloseCode.GOING_AWAY and reason != "the server is stopping":
                    continue  # it was idle
                failures += 1
                is_break = code in (1001, 1006, 4500, 4503) or reason == "stale_envelope"
                if not is_break and material is self._engine.refresh() or failures > 100:
                    self._all_by_post(f"the server closed the channel: {code} {reason}")
                    return
                self._engine.next_address(address)
            except _Broken as broken:
                self._put_back(NoAnswer(str(address), str(broken)), may_be_there=True)
                self._engine.next_address(address)
                if not broken.pauses:
                    continue
            except InvalidStatus as error:
                response = error.response
                content = bytes(response.body or b"")
                refusal = refusal_of(response.status_code, response.headers, content)
                if refusal.status not in (408, 500, 503):
                    self._all_by_post(str(refusal))
                    return
                self._note(refusal)
                self._engine.next_address(address)
            except SendError as error:  # the login's: POST says what is wrong with it
                if not isinstance(error, Unreachable):
                    self._all_by_post(str(error))
                    return
                self._note(error)
            except (OSError, InvalidHandshake, TimeoutError, EOFError) as error:
                failure = failure_of(material, address, error, in_handshake=True)
                is_break = not isinstance(error, InvalidHandshake) or isinstance(
                    error.__cause__, EOFError | OSError
                )
                if is_break and isinstance(error, InvalidHandshake):
                    failure = await self._engine.probe_alert(address) or failure
                if not is_break or not isinstance(failure, Unreachable):
                    self._all_by_post(str(failure))
                    return
                self._note(failure)
                self._engine.next_address(address)
            log.debug("the channel ended, or none could be opened; another one follows")
            await asyncio.sleep(backoff.next())

    def _open(self, address: Address) -> _Connect:
        material = self._engine.material
        scheme = "ws" if material.tls is None else "wss"
        tls: dict[str, Any] = {}
        if material.tls is not None:
            tls = {"ssl": material.tls, "server_hostname": material.server}
        return _Connect(
            f"{scheme}://{address}/message/channel",
            subprotocols=[SUBPROTOCOL],
            compression=None,
            user_agent_header=None,
            proxy=None,
            open_timeout=ATTEMPT_SECS_MAX,
            ping_interval=_PING_SECS,
            ping_timeout=_PING_SECS,
            close_timeout=2,
            max_size=self._engine.plaintext_bytes_max + OVERHEAD_BYTES_MAX,
            **tls,
        )


class _Use:
    """What happens on one WebSocket, from its opening to its end."""

    def __init__(
        self, channel: Channel, engine: Engine, websocket: ClientConnection, session: Session
    ) -> None:
        self._channel = channel
        self._engine = engine
        self._ring = engine.material.ring
        self._websocket = websocket
        self._id = str(uuid.uuid4())
        self._session = session
        self._tells_session = True
        self._number = 0
        self._requests = 0
        self._resume: int | None = None
        self._resume_at = 0.0
        self._limits = ChannelLimits()
        self.has_answers = False

    async def run(self) -> NoReturn:
        """Ends with the exception that says why the channel ended."""
        response = self._websocket.response
        limits = ChannelLimits.of(response.headers.get("Web-IPC-Limits") if response else None)
        if self._websocket.subprotocol != SUBPROTOCOL or limits is None:
            raise InvalidHandshake("not a channel of version 1")
        self._limits = limits
        writer = asyncio.ensure_future(self._write())
        try:
            # What came before the end is read to the last, also if a write has failed.
            while True:
                message = await self._websocket.recv()
                try:
                    if not isinstance(message, bytes):
                        raise FrameError("a text message")
                    body = frame.open_reply(self._ring.open(message), self._id)
                    self._take(ChannelAnswer.of(body))
                except (EnvelopeError, FrameError) as error:
                    await self._websocket.close(1002, "not an answer of this channel")
                    raise _Broken(f"not an answer of this channel: {error}") from None
                self.has_answers = True
                if writer.done() and not writer.cancelled() and writer.exception() is not None:
                    await writer
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    async def _write(self) -> None:
        channel = self._channel
        while True:
            channel._wake.clear()
            pause = self._resume_at - time.monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
                continue
            if not self._session.is_good():
                try:
                    self._session, _ = await self._engine.session()
                    self._tells_session = True
                except SendError as error:
                    log.debug("no new session yet: %s", error)
            entries, texts = self._front()
            if not entries:
                await channel._wake.wait()
                continue
            for number, entry in enumerate(entries, self._number):
                channel._in_flight[number] = entry
                entry.is_in_flight = True
                self._requests += entry.call.wait is not None
            body = frame.channel_body(self._number, texts, self._resume)
            token = self._session.token if self._tells_session else None
            self._number += len(entries)
            self._resume, self._tells_session = None, False
            plaintext = frame.make("/message/channel", self._id, body, token)
            try:
                await self._websocket.send(self._ring.seal(plaintext))
            except ConnectionClosed:
                return  # the reader says why

    def _front(self) -> tuple[list[Entry], list[str]]:
        """As much from the front of the queue as one frame may have."""
        queue = self._channel._queue
        around = len(frame.make("/message/channel", self._id, "", self._session.token))
        around += len(frame.channel_body(2**64 - 1, [], 2**64 - 1))
        room = self._limits.message_bytes - OVERHEAD_BYTES_MAX - around
        room_max = room
        entries: list[Entry] = []
        texts: list[str] = []
        requests = self._requests
        while queue and len(entries) < self._limits.entries:
            entry = queue[0]
            if entry.done.done():
                queue.popleft()
                continue
            if entry.call.wait is not None and requests >= self._limits.requests:
                break
            text = entry.text()
            size = len(text.encode()) + 1
            if size > room_max:
                queue.popleft()
                entry.settle(BY_POST)
                continue
            if size > room:
                break
            room -= size
            requests += entry.call.wait is not None
            entries.append(entry)
            texts.append(text)
            queue.popleft()
        return entries, texts

    def _taken(self, number: int) -> Entry:
        entry = self._channel._in_flight.pop(number, None)
        if entry is None:
            raise FrameError("an entry that was not sent or has its answer")
        entry.is_in_flight = False
        self._requests -= entry.call.wait is not None
        return entry

    def _take(self, answer: ChannelAnswer) -> None:
        again: list[Entry] = []
        for first, last, code in answer.settled:
            if last - first >= self._number:
                raise FrameError("entries that were not sent")
            for number in range(first, last + 1):
                entry = self._taken(number)
                if not self._settle(entry, code, answer.reasons.get(number)):
                    again.append(entry)
        for reply in answer.replies:
            entry = self._taken(reply.entry)
            if entry.call.wait is None:
                raise FrameError("a reply to a message")
            entry.settle(Result(entry.call.id, reply.duplicate, reply.body))
        if answer.refused is not None:
            self._no_room(*answer.refused)
        if again:
            # A request whose reply the server has not now, or not any more in time: it is asked
            # again under its id, behind everything else.
            self._channel._queue.extend(again)
        self._channel._wake.set()

    def _settle(self, entry: Entry, code: str, reason: str | None) -> bool:
        """Whether this was the entry's last word; a request may have to be asked again."""
        call = entry.call
        if code in ("accepted", "duplicate"):
            if call.wait is not None:
                raise FrameError("`accepted` for a request")
            entry.settle(Result(call.id, code == "duplicate"))
        elif call.wait is not None and NoReply.knows(code):
            call.is_there = True
            if code == "no_reply_in_time" and call.reply_wait() > 0.5:
                return False
            entry.fail(NoReply(code, reason))
        elif call.wait is not None and code in ("shutting_down", "unavailable"):
            call.may_be_there = True
            call.last = Refused(503, code, "")
            entry.settle(BY_POST)  # which waits as told, and goes to the next server
        else:
            entry.fail(Refused(_STATUSES.get(code, 422), code, ""))
        return True

    def _no_room(self, start: int, code: str) -> None:
        if start > self._number:
            raise FrameError("an entry that was not sent")
        channel = self._channel
        refused = [entry for number, entry in channel._in_flight.items() if number >= start]
        self._requests -= sum(entry.call.wait is not None for entry in refused)
        log.debug("refused from entry %d on: %s", start, code)
        channel._put_back(Refused(503, code, "no room"), start, may_be_there=False)
        self._resume, self._resume_at = start, time.monotonic() + REFUSED_SECS
        elsewhere = code == "unavailable" and len(self._engine.material.addresses) > 1
        if elsewhere and not channel._in_flight:
            raise _Broken("the server cannot store messages", pauses=False)
