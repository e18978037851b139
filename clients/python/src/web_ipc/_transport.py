"""One HTTP request, and what its failure says of the message.

The engine comes here for every `POST`. No frame is made or read here, and nothing is tried again.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from .envelope import MAX_AGE_SECS
from .errors import (
    CertificateRefused,
    HandshakeFailed,
    NoAnswer,
    Refused,
    SendError,
    ServerNotTrusted,
    Unexpected,
    Unreachable,
    WrongProtocol,
    printable,
)
from .home import Address, Material

CONNECT_SECS_MAX = 5.0
#: How long to listen for an alert after a connection broke.
PROBE_SECS = 0.5
#: Rule 7 for a client: how much of an answer is read.
ANSWER_BYTES_MAX = 128 * 1024
#: The server closes a connection that was idle for 75 s; a client drops its own before.
KEEPALIVE_SECS = 60.0

_CERTIFICATE_ALERTS = (
    "CERTIFICATE",
    "UNKNOWN_CA",
    "ACCESS_DENIED",
    "DECRYPT_ERROR",
)


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whole."""

    status: int
    headers: httpx.Headers
    content: bytes = field(repr=False)


def ssl_error_of(error: BaseException | None) -> ssl.SSLError | None:
    """The TLS library's error behind another one."""
    for _ in range(8):
        if error is None or isinstance(error, ssl.SSLError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _tls_failure(
    material: Material, address: Address, error: ssl.SSLError, in_handshake: bool
) -> SendError | None:
    """What a failure of TLS says; None where it is no more than a broken connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ServerNotTrusted(material.server, error.verify_message or "it is not good")
    reason = error.reason or "unknown"
    if "ALERT" in reason and any(name in reason for name in _CERTIFICATE_ALERTS):
        # Under TLS 1.3 the alert comes when the client's own handshake is done.
        alert = reason.partition("ALERT_")[2].lower().replace("_", " ")
        return CertificateRefused(material.identity, alert)
    if not in_handshake or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return None
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"):
        return WrongProtocol(str(address), "does not speak TLS")
    return HandshakeFailed(str(address), reason.lower().replace("_", " "))


def failure_of(
    material: Material, address: Address, error: BaseException, in_handshake: bool
) -> SendError:
    """The error for a connection that could not be made, or broke."""
    tls_error = ssl_error_of(error)
    if tls_error is not None:
        failure = _tls_failure(material, address, tls_error, in_handshake)
        if failure is not None:
            return failure
    kind = Unreachable if in_handshake else NoAnswer
    return kind(str(address), _reason(error))


def _reason(error: BaseException) -> str:
    cause: BaseException | None = error
    for _ in range(8):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause and (cause.__cause__ or cause.__context__)
    return str(error) or type(error).__name__


class Transport:
    """The connections to the servers of one client, with one certificate."""

    def __init__(self, material: Material, connections_max: int) -> None:
        self.material = material
        self._http = httpx.AsyncClient(
            verify=material.tls if material.tls is not None else True,
            trust_env=False,  # no proxy and no other authority from the environment
            follow_redirects=False,
            limits=httpx.Limits(
                max_connections=connections_max,
                max_keepalive_connections=connections_max,
                keepalive_expiry=KEEPALIVE_SECS,
            ),
            headers={"Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def probe_alert(self, address: Address) -> SendError | None:
        """Why the server breaks connections, if it does so for this client's certificate.

        Under TLS 1.3 its alert comes when the client has begun to write, and is lost where the
        write breaks first. So this connection writes nothing and only listens.
        """
        if self.material.tls is None:
            return None
        try:
            async with asyncio.timeout(PROBE_SECS):
                reader, writer = await asyncio.open_connection(
                    address.host,
                    address.port,
                    ssl=self.material.tls,
                    server_hostname=self.material.server,
                )
                try:
                    await reader.read(1)
                finally:
                    writer.transport.abort()
        except (OSError, TimeoutError) as error:
            failure = failure_of(self.material, address, error, in_handshake=True)
            return None if isinstance(failure, Unreachable) else failure
        return None

    async def post(
        self,
        address: Address,
        path: str,
        content: bytes,
        timeout: float,
        *,
        headers: dict[str, str] | None = None,
        answer_bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """Sends one envelope in raw form. Raises a `SendError` where no whole answer comes."""
        scheme = "http" if self.material.tls is None else "https"
        request = self._http.build_request(
            "POST",
            f"{scheme}://{address}{path}",
            content=content,
            headers={"Content-Type": "application/octet-stream"} | (headers or {}),
            timeout=httpx.Timeout(timeout, connect=min(CONNECT_SECS_MAX, timeout)),
            extensions={"sni_hostname": self.material.server},
        )
        try:
            # The limits of httpx hold for each read; this one holds for all of it.
            async with asyncio.timeout(timeout + 0.25):
                answer = await self._http.send(request, stream=True)
                try:
                    received = bytearray()
                    async for piece in answer.aiter_raw():
                        received += piece
                        if len(received) > answer_bytes_max:
                            raise Unexpected(answer.status_code, "the answer is too long")
                finally:
                    await answer.aclose()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise failure_of(self.material, address, error, in_handshake=True) from None
        except TimeoutError as error:
            raise NoAnswer(str(address), "the time ran out") from error
        except httpx.TimeoutException as error:
            raise NoAnswer(str(address), "the time ran out") from error
        except (httpx.HTTPError, OSError) as error:  # asyncio lets some of its own through
            failure = failure_of(self.material, address, error, in_handshake=False)
            if isinstance(failure, NoAnswer):
                failure = await self.probe_alert(address) or failure
            raise failure from None
        return Answer(answer.status_code, answer.headers, bytes(received))


def refusal_of(status: int, headers: Mapping[str, str], content: bytes) -> Refused:
    """The error for an answer that is not good, by its problem document if it has one."""
    code, detail = None, ""
    try:
        problem = json.loads(content)
        if isinstance(problem, dict):
            if isinstance(problem.get("code"), str):
                code = problem["code"]
            if isinstance(problem.get("detail"), str):
                detail = problem["detail"]
    except (ValueError, RecursionError):
        pass
    error = Refused(status, code and printable(code)[:50], printable(detail)[:500])
    retry_after = headers.get("Retry-After", "")
    if retry_after.isascii() and retry_after.isdigit():
        error.retry_after = float(retry_after)
    try:
        date = email.utils.parsedate_to_datetime(headers.get("Date", ""))
        error.clocks_differ = abs(date.timestamp() - time.time()) > MAX_AGE_SECS
    except (ValueError, TypeError):
        pass
    return error
