"""`WebClient`, as users of the Python tool know it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .client import Client
from .errors import SendError


class WebClient:
    """Sends dicts to a server. A server's home, or that of an enrolled client, is at
    `$WEB_IPC_HOME`, or where `web-ipc --init --run` puts it.

    It connects to `server_ip` and wants the certificate of `server_name`. `auth` has the keys
    `username` and `password`; without it the user of the home logs in.
    """

    def __init__(
        self,
        server_name: str,
        server_ip: str,
        server_port: int,
        protocol: str = "https",
        auth: Mapping[str, str] | None = None,
        logger: logging.Logger | None = None,
        *,
        home: str | None = None,
    ) -> None:
        if auth and ("username" not in auth or "password" not in auth):
            raise ValueError("Invalid auth credentials. Requires username and password")
        self.server_name = server_name
        self.server_ip = server_ip
        self.server_port = server_port
        self.protocol = protocol
        self.log = logger or logging.getLogger("web_ipc")
        host = f"[{server_ip}]" if ":" in server_ip else server_ip
        self._client = Client(
            home,
            server=server_name,
            address=f"{host}:{server_port}",
            protocol=protocol,
            username=auth["username"] if auth else None,
            password=auth["password"] if auth else None,
        )

    def send_msg(self, msg: dict[str, Any]) -> bool:
        """Sends one message. True if the server has stored it; else the log says why not, and what
        became of it."""
        if not isinstance(msg, dict):
            self.log.error("Invalid message type received: %s", type(msg))
            return False
        try:
            self._client.send(msg)
        except SendError as error:
            remedy = f"; {error.remedy}" if error.remedy else ""
            outcome = error.outcome.value
            self.log.error("the message was not sent (%s): %s%s", outcome, error, remedy)
            return False
        return True

    def close(self) -> None:
        """Closes the connections. Without it they close with the program."""
        self._client.close()
