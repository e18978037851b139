"""Why a send failed, what became of the message, and what to do about it.

The words are those of the Rust client (`docs/delivery.md`). No error holds a secret, and none has
the text of a message.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

#: Codes after which the same message may succeed later, under the same id.
RETRYABLE_CODES = frozenset(
    {
        "stale_envelope",
        "request_timeout",
        "session_expired",
        "too_many_attempts",
        "internal_error",
        "inbox_full",
        "shutting_down",
        "unavailable",
        "no_reply_in_time",
    }
)

#: How many bytes of UTF-8 an application's reason for no reply may have.
REASON_BYTES_MAX = 200

_REMEDIES = {
    "malformed_envelope": "check that both ends have the same envelope.keys",
    "stale_envelope": "set the clocks of both hosts",
    "malformed_frame": "check that both ends have the same version of web-ipc",
    "wrong_certificate": "use the certificate that the user is bound to, or issue one for clients",
    "certificate_revoked": "enrol this client anew: web-ipc --enrol --create in the server's home",
    "too_large": "send less at once, or raise the limit at both ends",
    "inbox_full": "have the receiving application take its messages faster",
    "too_many_attempts": "wait, then try again",
    "internal_error": "look into the server's log",
    "unavailable": "look into the server's log",
    "bad_credentials": "check the user and the password: web-ipc --users --testCredentials",
    "not_answered": "look into the log of the receiving application",
    "no_reply_in_time": "give the receiving application more time, or have it reply sooner",
    "reply_forgotten": "have the server keep replies for longer",
}


class Outcome(enum.Enum):
    """What became of a message whose send failed."""

    #: The client or the server refused it. It is not in the inbox. The same message will be refused
    #: again.
    REFUSED = "refused"
    #: It is not in the inbox: it did not reach the server. It may be sent again.
    NEVER_ARRIVED = "never arrived"
    #: It may be in the inbox or not: it was under way, and no answer came. Send it again with the
    #: same id; with a new one it may be delivered twice.
    NOT_KNOWN = "not known"
    #: It is in the inbox, but there is no reply to it. Only requests have this outcome.
    ACCEPTED = "accepted"


def printable(text: str) -> str:
    """A server's text as it may be shown on a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)


class WebIpcError(Exception):
    """The base of every error of this package."""

    #: What a person can do about it, or None if only the cause can tell.
    remedy: str | None = None


class ConfigurationError(WebIpcError):
    """The client cannot be made: an argument is wrong, or the home cannot be used."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message if remedy is None else f"{message}; {remedy}")
        self.remedy = remedy


class SendError(WebIpcError):
    """Why a message was not sent, or a request not answered. `outcome` says what became of it."""

    outcome: Outcome = Outcome.NOT_KNOWN
    #: The problem code of the server's refusal, if there was one.
    code: str | None = None
    #: The HTTP status of the server's answer, if there was one.
    status: int | None = None
    #: Whether the same message, under the same id, may succeed later.
    is_retryable: bool = False
    #: Whether the time of the call ran out.
    is_timeout: bool = False
    #: The id of the message, once it had one. Give it to send again what is not known.
    id: str | None = None


class BodyError(SendError):
    """The message is no dict, or JSON cannot hold it exactly. Nothing was sent."""

    outcome = Outcome.REFUSED
    remedy = "send a dict whose values JSON can hold"

    def __init__(self, message: str, path: tuple[str | int, ...] = ()) -> None:
        super().__init__(message)
        #: Where in the message it is: names and indexes from the outside in.
        self.path = path


class TooLarge(SendError):
    """The message is longer than `plaintext_bytes_max`. Nothing was sent."""

    outcome = Outcome.REFUSED
    remedy = _REMEDIES["too_large"]

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"the message is too large: {size} bytes, at most {size_max} are allowed")
        self.size = size
        self.size_max = size_max


class Refused(SendError):
    """The server refused the message, or the login before it."""

    #: How many seconds to wait at least before the same is sent again.
    retry_after: float = 0.0
    #: Whether the server's clock and this host's differ by more than an envelope may be old.
    clocks_differ: bool = False

    def __init__(self, status: int, code: str | None, detail: str) -> None:
        name = code or "without a code"
        because = f": {detail}" if detail else ""
        super().__init__(f"the server refused it: {status} {name}{because}")
        self.status = status
        self.code = code
        self.detail = detail
        # A server that failed in the middle has the message or has it not. One that cannot do
        # something at all (501), or not now (503), did not begin.
        unclear = status >= 500 and status not in (501, 503)
        self.outcome = Outcome.NOT_KNOWN if unclear else Outcome.REFUSED
        self.is_retryable = (
            code in RETRYABLE_CODES if code is not None else status == 429 or status >= 500
        )
        self.remedy = _REMEDIES.get(code or "")


class BadCredentials(SendError):
    """The server does not know the user or the password."""

    outcome = Outcome.REFUSED
    code = "bad_credentials"
    status = 401
    remedy = _REMEDIES["bad_credentials"]

    def __init__(self, username: str) -> None:
        super().__init__(f"the server refused the user name or password of `{username}`")
        self.username = username


class CertificateRefused(SendError):
    """The server refused this client's certificate in the TLS handshake."""

    outcome = Outcome.REFUSED
    remedy = "issue a certificate with the server's authority: web-ipc --certs in the server's home"

    def __init__(self, identity: str, alert: str) -> None:
        super().__init__(f"the server refused this client's certificate `{identity}`: {alert}")
        self.identity = identity
        self.alert = alert


class ServerNotTrusted(SendError):
    """The client does not trust the server's certificate."""

    outcome = Outcome.NEVER_ARRIVED
    remedy = "check the server's name, and that web-ipc-ca.crt is the server's authority"

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"the certificate of the server `{name}` is not trusted: {reason}")
        self.name = name
        self.reason = reason


class WrongProtocol(SendError):
    """The server speaks another protocol, so that another attempt would not help."""

    outcome = Outcome.NEVER_ARRIVED
    remedy = "check the address and the protocol"

    def __init__(self, address: str, speaks: str) -> None:
        super().__init__(f"the server at {address} {speaks}")
        self.address = address


class HandshakeFailed(SendError):
    """The TLS handshake failed for a reason other than a certificate."""

    outcome = Outcome.NEVER_ARRIVED
    remedy = "check that the server speaks https at this address"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"no TLS connection could be made with {address}: {reason}")
        self.address = address


class Unreachable(SendError):
    """No connection could be made."""

    outcome = Outcome.NEVER_ARRIVED
    is_retryable = True
    remedy = "check the address and that the server runs"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"no connection to {address} could be made: {reason}")
        self.address = address


class NoAnswer(SendError):
    """The connection broke, or the time ran out, while the message was under way."""

    outcome = Outcome.NOT_KNOWN
    is_retryable = True
    remedy = "check that the server runs and what its log says"

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"no answer from the server at {address}: {reason}")
        self.address = address


class Unexpected(SendError):
    """The answer is not one of a web-ipc server."""

    outcome = Outcome.NOT_KNOWN
    remedy = "check that a web-ipc server answers at this address"

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"unexpected response (status {status}): {detail}")
        self.status = status


class Busy(SendError):
    """Other calls used all connections until the deadline."""

    outcome = Outcome.NEVER_ARRIVED
    is_retryable = True
    remedy = "allow more connections or a longer timeout"

    def __init__(self, connections_max: int) -> None:
        super().__init__(f"all {connections_max} connections were busy")


class _AfterAnother(SendError):
    """An error whose code and status are those of the attempt before it."""

    def __init__(self, message: str, last: SendError) -> None:
        super().__init__(message)
        self.last = last
        self.code = last.code
        self.status = last.status
        self.remedy = last.remedy
        self.is_retryable = last.is_retryable
        self.__cause__ = last


class TimedOut(_AfterAnother):
    """The time ran out, or the server asked for a longer wait than the time that was left."""

    is_timeout = True

    def __init__(self, timeout: float, outcome: Outcome, last: SendError) -> None:
        super().__init__(f"gave up after {timeout:g} s ({outcome.value}): {last}", last)
        self.timeout = timeout
        self.outcome = outcome
        self.is_retryable = True


class InDoubt(_AfterAnother):
    """An attempt got no answer, and the next one was refused: whether the first one delivered the
    message is not known."""

    outcome = Outcome.NOT_KNOWN

    def __init__(self, last: SendError) -> None:
        super().__init__(f"an earlier attempt got no answer, and the last one failed: {last}", last)


class LoginFailed(_AfterAnother):
    """The login got no answer, or one of another form. The message was not sent."""

    outcome = Outcome.NEVER_ARRIVED

    def __init__(self, last: SendError) -> None:
        super().__init__(f"the login failed: {last}", last)


class NoReply(SendError):
    """The server accepted the request, and there is no reply to it. `code` says why."""

    outcome = Outcome.ACCEPTED
    #: The application's words for why it gave no reply, or None if it said nothing.
    reason: str | None = None

    _REASONS = {
        "not_answered": (502, "the application gave no reply"),
        "no_reply_in_time": (504, "no reply came in time"),
        "reply_forgotten": (410, "the server does not have the reply any more"),
    }

    def __init__(self, code: str, reason: str | None = None) -> None:
        status, why = self._REASONS[code]
        if code == "not_answered" and reason:
            self.reason = printable(reason)
            why = f"{why}: {self.reason}"
        super().__init__(f"the server accepted the request, but {why}")
        self.code = code
        self.status = status
        self.remedy = _REMEDIES[code]
        self.is_timeout = self.is_retryable = code == "no_reply_in_time"

    @classmethod
    def of(cls, refusal: Refused) -> NoReply:
        """The error for a response that says that there is no reply."""
        before, found, reason = refusal.detail.partition(": ")
        if before != cls._REASONS["not_answered"][1] or not found:
            return cls(str(refusal.code))
        # No longer than a reason on a channel may be.
        cut = reason.encode("utf-8", "replace")[:REASON_BYTES_MAX]
        return cls(str(refusal.code), cut.decode("utf-8", "ignore"))

    @classmethod
    def knows(cls, code: str | None) -> bool:
        """Whether this code says that a request was accepted and has no reply."""
        return code in cls._REASONS


class Closed(SendError):
    """The client was closed before the message had an answer."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("the client was closed")
        self.outcome = outcome
        self.is_retryable = True


@dataclass
class Refusal:
    """A message of `send_all` that was refused. The others were sent nevertheless."""

    #: The index of the message, counted from 0.
    index: int
    error: SendError


@dataclass
class Report:
    """What became of the messages of `send_all`."""

    #: How many are in the inbox, duplicates included.
    sent: int = 0
    #: How many of these the inbox had already from an earlier attempt. Each is there once.
    duplicates: int = 0
    #: The messages that were refused, in their order.
    refusals: list[Refusal] = field(default_factory=list)


class SendAllError(WebIpcError):
    """Sending ended before all messages had an answer: those before number `start` have one."""

    def __init__(self, report: Report, start: int, until: int, error: SendError) -> None:
        super().__init__(
            "not all messages were sent: "
            f"those before number {start} (counted from 0) have an answer: {error}"
        )
        self.report = report
        #: The index of the first message that was neither accepted nor refused, counted from 0.
        self.start = start
        #: The index of the first message that was certainly not sent.
        self.until = until
        self.error = error
        #: What became of the messages from `start` to `until`.
        self.outcome = error.outcome
        self.remedy = error.remedy
        self.__cause__ = error


def in_doubt(error: SendError) -> SendError:
    """The same failure of a message that an earlier attempt may have delivered."""
    if error.outcome in (Outcome.NOT_KNOWN, Outcome.ACCEPTED):
        return error
    if isinstance(error, TimedOut):
        return TimedOut(error.timeout, Outcome.NOT_KNOWN, error.last)
    return InDoubt(error)
