"""No key, password, session or message is in any log or error."""

from __future__ import annotations

import logging
import traceback

import pytest
from conftest import Heard, Home, Server
from test_send import closed_port

from web_ipc import Client, SendAllError, SendError
from web_ipc._engine import Engine
from web_ipc.envelope import KeyRing, from_text


def test_no_secret_is_logged_or_raised(
    home: Home, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    keys = (home.path / "envelope.keys").read_text()
    sealed = from_text((home.path / "admin.cred").read_bytes().strip())
    stored = json.loads(KeyRing.from_file_text(keys).open(sealed, max_age_secs=None))
    marker = "marker-of-a-message"
    secrets = [keys.strip(), stored["password"], marker, "wrong-password"]
    secrets += (home.path / "localhost.key").read_text().splitlines()[1:-1]

    handler, root = Heard(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    said: list[str] = []
    granted: list[str] = []
    session_of = Engine.session

    async def session(engine: Engine):
        found = await session_of(engine)
        granted.append(found[0].token)
        said.append(repr(found))
        return found

    monkeypatch.setattr(Engine, "session", session)

    def fails(call) -> None:
        with pytest.raises((SendError, SendAllError)) as raised:
            call()
        error = raised.value
        said.extend([str(error), repr(error), repr(vars(error))])
        said.extend(traceback.format_exception(error))

    try:
        client = Client(address=server.address)
        said.append(repr(client))
        for n in range(3):
            sent = client.send({"text": marker, "n": n})
        said.append(repr(client._runner.client._engine.material))
        fails(lambda: client.send({"text": marker, "other": 1}, id=sent.id))
        fails(lambda: client.send({"text": marker, "bad": {marker}}))
        client.close()
        for wrong in (
            {"address": server.address, "username": "ipc-admin", "password": "wrong-password"},
            {"address": f"127.0.0.1:{closed_port()}", "timeout": 0.3},
            {"address": server.address, "server": "another.example"},
        ):
            with Client(**wrong) as client:
                said.append(repr(client))
                fails(lambda: client.send({"text": marker}))
                fails(lambda: client.send_all([{"text": marker}] * 2))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    assert granted and handler.lines
    everything = "\n".join(handler.lines + said)
    for secret in secrets + granted:
        assert secret not in everything
