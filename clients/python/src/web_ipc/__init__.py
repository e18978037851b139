"""Client of web-ipc: delivers JSON messages between processes over HTTPS with mutual TLS.

    from web_ipc import Client

    Client().send({"celsius": 21.5})

`Client` is for plain code, `AsyncClient` for asyncio. Every failure of a call is a `SendError`
whose `outcome` says what became of the message. `web_ipc.web_client` and `web_ipc.web_server` have
the names of the Python tool.
"""

from .aio import AsyncClient, Reply, Sent
from .client import Client
from .errors import (
    BadCredentials,
    BodyError,
    Busy,
    CertificateRefused,
    Closed,
    ConfigurationError,
    HandshakeFailed,
    InDoubt,
    LoginFailed,
    NoAnswer,
    NoReply,
    Outcome,
    Refusal,
    Refused,
    Report,
    SendAllError,
    SendError,
    ServerNotTrusted,
    TimedOut,
    TooLarge,
    Unexpected,
    Unreachable,
    WebIpcError,
    WrongProtocol,
)

__all__ = [
    "AsyncClient",
    "BadCredentials",
    "BodyError",
    "Busy",
    "CertificateRefused",
    "Client",
    "Closed",
    "ConfigurationError",
    "HandshakeFailed",
    "InDoubt",
    "LoginFailed",
    "NoAnswer",
    "NoReply",
    "Outcome",
    "Refusal",
    "Refused",
    "Reply",
    "Report",
    "SendAllError",
    "SendError",
    "Sent",
    "ServerNotTrusted",
    "TimedOut",
    "TooLarge",
    "Unexpected",
    "Unreachable",
    "WebIpcError",
    "WrongProtocol",
]
