"""Sends messages and requests: logins, attempts, pauses, outcomes.

`AsyncClient` and `Client` come here. Everything runs on one event loop. `_channel` carries what
many calls send together; what it cannot carry goes by `POST` from here.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from . import frame
from ._transport import Transport, refusal_of
from .envelope import OVERHEAD_BYTES_MAX, EnvelopeError, StaleEnvelope
from .errors import (
    BadCredentials,
    Busy,
    Closed,
    ConfigurationError,
    LoginFailed,
    NoAnswer,
    NoReply,
    Outcome,
    Refused,
    SendError,
    TimedOut,
    TooLarge,
    Unexpected,
    Unreachable,
    in_doubt,
)
from .frame import Body
from .home import Address, Material, Source

log = logging.getLogger("web_ipc")

PLAINTEXT_BYTES_MAX = 16 * 1024 * 1024
TIMEOUT_SECS_MAX = 480.0
#: What stands around a message in its frame, at most.
AROUND_BYTES = 1024
#: How long one attempt waits for its answer before the next one is made.
ATTEMPT_SECS_MAX = 15.0
#: How much earlier than its end a session is replaced.
SESSION_MARGIN_SECS = 30.0
#: How long after a failed look for changes of the home, or a look without one, comes the next.
LOOK_SECS = 1.0
#: How long after a change of the home a server may not know it yet.
CHANGE_SECS = 5.0

_RETRY_STATUSES = frozenset({408, 429, 500, 503})


@dataclass(frozen=True)
class Session:
    """What a login granted. It is kept in memory alone."""

    token: str = field(repr=False)
    ends_at: float

    def is_good(self) -> bool:
        """Whether it lasts for long enough to be used."""
        return time.monotonic() < self.ends_at


class Backoff:
    """Pauses that grow from 50 ms to 2 s, varied at random by half."""

    def __init__(self) -> None:
        self._next = 0.05

    def next(self) -> float:
        """The next pause, in seconds."""
        pause = self._next * random.uniform(0.75, 1.25)
        self._next = min(2 * self._next, 2.0)
        return pause

    def reset(self) -> None:
        """Begins anew, after something went well."""
        self._next = 0.05


@dataclass
class Call:
    """One message or request on its way."""

    id: str
    body: Body
    timeout: float
    #: The end of the call, by `time.monotonic`. For a request the wait for its reply is in it.
    end: float
    #: How long to wait for the reply; None for a message.
    wait: float | None = None
    #: Whether an attempt that had no answer may have delivered it.
    may_be_there: bool = False
    #: Whether the server has said that it has the request.
    is_there: bool = False
    last: SendError | None = None
    reply_by: float | None = None

    @classmethod
    def new(
        cls, body: Body, timeout: float, message_id: str | None, wait: float | None = None
    ) -> Call:
        if message_id is None:
            message_id = new_id()
        else:
            try:
                message_id = str(uuid.UUID(message_id))
            except (ValueError, AttributeError, TypeError):
                raise ConfigurationError("an id is a UUID with hyphens") from None
        return cls(message_id, body, timeout, time.monotonic() + timeout + (wait or 0.0), wait)

    def left(self) -> float:
        return self.end - time.monotonic()

    def reply_wait(self) -> float:
        """How long to go on waiting for the reply. The wait begins with the first attempt."""
        now = time.monotonic()
        if self.reply_by is None:
            self.reply_by = now + (self.wait or 0.0)
        return max(0.0, min(self.reply_by, self.end) - now)

    def failed(self, error: SendError) -> SendError:
        """The error of the whole call for that of its last attempt."""
        error = in_doubt(error) if self.may_be_there or self.is_there else error
        error.id = self.id
        return error

    def timed_out(self, last: SendError | None = None) -> SendError:
        """The error of a call whose time has run out."""
        last = last or self.last
        if self.is_there:
            error: SendError = NoReply("no_reply_in_time")
        else:
            last = last or Unreachable("the server", "the time ran out")
            outcome = Outcome.NOT_KNOWN if self.may_be_there else last.outcome
            error = TimedOut(self.timeout, outcome, last)
        error.id = self.id
        return error


@dataclass(frozen=True)
class Result:
    """What became of a call that went well."""

    id: str
    duplicate: bool
    reply: dict[str, Any] | None = field(default=None, repr=False)


def new_id() -> str:
    """A UUID of version 7 (RFC 9562), whose time in front lets a server's index grow at one end."""
    milliseconds = time.time_ns() // 1_000_000
    bits = (milliseconds & (2**48 - 1)) << 80 | random.SystemRandom().getrandbits(80)
    bits = bits & ~(0xF << 76) | 7 << 76
    bits = bits & ~(0x3 << 62) | 2 << 62
    return str(uuid.UUID(int=bits))


class Engine:
    """What all calls of a client share: the home, the connections, the session."""

    def __init__(self, source: Source, plaintext_bytes_max: int, connections_max: int) -> None:
        self._source = source
        self.plaintext_bytes_max = plaintext_bytes_max
        self._connections_max = connections_max
        self._connections = asyncio.Semaphore(connections_max)
        self._transport = Transport(source.load(), connections_max)
        self._old_transports: list[Transport] = []
        self._looked_at = time.monotonic()
        self._changed_at = float("-inf")
        self._address_index = 0
        self._session: Session | None = None
        self._login: asyncio.Task[Session] | None = None
        self.is_closed = False

    async def close(self) -> None:
        self.is_closed = True
        if self._login is not None:
            self._login.cancel()
        for transport in (*self._old_transports, self._transport):
            await transport.close()

    @property
    def material(self) -> Material:
        """The newest contents of the home that could be used."""
        return self._transport.material

    def refresh(self) -> Material:
        """Reads the home again if its files have changed: a renewed certificate, other keys."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECS:
            self._looked_at = now
            if self._source.signature() != self.material.signature:
                try:
                    material = self._source.load()
                except ConfigurationError as error:
                    # The files may be in the middle of a change.
                    log.warning("the home has changed, and is not used yet: %s", error)
                else:
                    self._old_transports.append(self._transport)
                    self._transport = Transport(material, self._connections_max)
                    self._changed_at = now
                    self._address_index = 0
                    self._session = None  # it was granted to the certificate before
                    log.info("the home has changed; its new files are used")
        return self.material

    def address(self) -> Address:
        """Where the next connection goes."""
        addresses = self.material.addresses
        return addresses[self._address_index % len(addresses)]

    def next_address(self, failed: Address) -> None:
        """The next connection goes elsewhere, unless another call has said so already."""
        if self.address() == failed:
            self._address_index += 1

    async def probe_alert(self, address: Address) -> SendError | None:
        """Whether the server breaks connections for this client's certificate."""
        return await self._transport.probe_alert(address)

    def check_size(self, body: Body) -> None:
        """Refuses what the server would refuse for its length."""
        size = body.size + AROUND_BYTES
        if size > self.plaintext_bytes_max:
            raise TooLarge(body.size, self.plaintext_bytes_max - AROUND_BYTES)

    # Sessions

    async def session(self) -> tuple[Session, bool]:
        """A session, and whether it was made just now. Of many calls at once, one logs in."""
        if self._session is not None and self._session.is_good():
            return self._session, False
        if self._login is None:
            self._login = asyncio.ensure_future(self._log_in())
            self._login.add_done_callback(self._login_done)
        return await asyncio.shield(self._login), True

    def _login_done(self, login: asyncio.Task[Session]) -> None:
        self._login = None
        if not login.cancelled() and login.exception() is None:
            self._session = login.result()

    def forget_session(self, session: Session) -> None:
        """The server has ended this session."""
        if self._session is session:
            self._session = None

    async def _log_in(self) -> Session:
        transport, address = self._transport, self.address()
        material = transport.material
        login_id = str(uuid.uuid4())
        credentials = json.dumps({"username": material.username, "password": material.password})
        plaintext = frame.make("/client/auth", login_id, credentials)
        log.debug("logging in at %s as %s", address, material.username)
        try:
            answer = await transport.post(
                address, "/client/auth", material.ring.seal(plaintext), ATTEMPT_SECS_MAX
            )
        except NoAnswer as error:
            self.next_address(address)
            raise LoginFailed(error) from error
        except Unreachable:
            self.next_address(address)
            raise
        if answer.status == 401:
            raise BadCredentials(material.username)
        if answer.status != 200:
            raise refusal_of(answer.status, answer.headers, answer.content)
        try:
            body = frame.open_reply(material.ring.open(answer.content), login_id)
            token, expires_in = body["session"], body["expires_in"]
            if not isinstance(token, str) or type(expires_in) is not int or expires_in < 0:
                raise TypeError
        except (EnvelopeError, frame.FrameError, KeyError, TypeError):
            raise LoginFailed(Unexpected(200, "not the answer to a login")) from None
        margin = min(SESSION_MARGIN_SECS, expires_in / 10)
        return Session(token, time.monotonic() + expires_in - margin)

    # Calls by POST

    async def post(self, call: Call) -> Result:
        """Sends by `POST` until there is an answer, or the call's time is over."""
        backoff = Backoff()
        while True:
            if self.is_closed:
                raise call.failed(Closed(Outcome.NEVER_ARRIVED))
            if call.left() <= 0:
                raise call.timed_out()
            self.refresh()
            address = self.address()
            attempt = _Attempt()
            try:
                return await self._attempt(call, attempt)
            except SendError as error:
                pause = self._recover(call, attempt, error, address, backoff)
            except TimeoutError:
                raise call.timed_out() from None
            await asyncio.sleep(pause)

    async def _attempt(self, call: Call, attempt: _Attempt) -> Result:
        async with asyncio.timeout(max(0.0, call.left())):
            session, attempt.is_new_session = await self.session()
        attempt.session = session
        try:
            async with asyncio.timeout(max(0.0, call.left())):
                await self._connections.acquire()
        except TimeoutError:
            raise call.timed_out(Busy(self._connections_max)) from None
        try:
            return await self._post_once(call, session)
        finally:
            self._connections.release()

    async def _post_once(self, call: Call, session: Session) -> Result:
        transport, address = self._transport, self.address()
        material = transport.material
        path, headers, wait = "/message/submit", {}, 0.0
        answer_bytes_max = 128 * 1024
        if call.wait is not None:
            path, wait = "/message/request", call.reply_wait()
            headers = {"Prefer": f"wait={max(1, round(wait))}"}
            answer_bytes_max = self.plaintext_bytes_max + OVERHEAD_BYTES_MAX
        plaintext = frame.make(path, call.id, call.body.text, session.token)
        timeout = min(call.left(), ATTEMPT_SECS_MAX + wait)
        answer = await transport.post(
            address,
            path,
            material.ring.seal(plaintext),
            max(0.001, timeout),
            headers=headers,
            answer_bytes_max=answer_bytes_max,
        )
        if answer.status != 200:
            raise refusal_of(answer.status, answer.headers, answer.content)
        duplicate = answer.headers.get("Web-IPC-Duplicate") == "true"
        if call.wait is None:
            if answer.content != b"success":
                raise Unexpected(200, "not the answer of a web-ipc server")
            return Result(call.id, duplicate)
        try:
            reply = frame.open_reply(material.ring.open(answer.content), call.id)
        except StaleEnvelope:
            raise Unexpected(200, "the reply is stale: set the clocks of both hosts") from None
        except (EnvelopeError, frame.FrameError):
            raise Unexpected(200, "not a reply of this request") from None
        if not isinstance(reply, dict):
            raise Unexpected(200, "the reply is no object")
        return Result(call.id, duplicate, reply)

    def _recover(
        self, call: Call, attempt: _Attempt, error: SendError, address: Address, backoff: Backoff
    ) -> float:
        """The pause before the next attempt. Raises the error of the call if there is none."""
        last = error.last if isinstance(error, LoginFailed) else error
        pause = backoff.next()
        call.last = error
        if isinstance(error, TimedOut):
            raise call.failed(error)
        if isinstance(last, NoAnswer | Unreachable):
            call.may_be_there |= isinstance(error, NoAnswer)
            self.next_address(address)
        elif isinstance(last, Refused):
            if last.status == 419:
                if attempt.session is not None:
                    self.forget_session(attempt.session)
                if attempt.is_new_session:
                    raise call.failed(error)
                return 0.0
            if call.wait is not None and NoReply.knows(last.code):
                call.is_there = True
                if last.code == "no_reply_in_time" and call.reply_wait() > 0.5:
                    return 0.0  # the server's own limit is shorter than this caller's wait
                raise self._no_reply(call, last)
            # A server follows its home within a second; this client may have been faster.
            is_ahead = time.monotonic() - self._changed_at < CHANGE_SECS
            may_pass = last.code == "stale_envelope" or (
                last.code == "malformed_envelope" and is_ahead
            )
            if last.status not in _RETRY_STATUSES and not may_pass:
                raise call.failed(error)
            if last.code == "stale_envelope" and last.clocks_differ:
                raise call.failed(error)
            pause = max(pause, last.retry_after)
            elsewhere = last.code in ("shutting_down", "unavailable")
            if attempt.session is not None:  # else it was the login that was refused
                # A stopping server says the same of a request that it has accepted.
                call.may_be_there |= last.status == 500 or (elsewhere and call.wait is not None)
            if elsewhere:
                self.next_address(address)
        else:
            raise call.failed(error)
        if pause >= call.left():
            raise call.timed_out(error)
        log.debug("attempt failed, the next follows in %.2f s: %s", pause, error)
        return pause

    @staticmethod
    def _no_reply(call: Call, refusal: Refused) -> SendError:
        error = NoReply.of(refusal)
        error.id = call.id
        return error


@dataclass
class _Attempt:
    session: Session | None = None
    is_new_session: bool = False
