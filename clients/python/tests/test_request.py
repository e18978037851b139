"""Requests: `web-ipc --serve --exec` replies."""

from __future__ import annotations

import asyncio
import os
import uuid

import pytest
from conftest import Home, StartServer

from web_ipc import AsyncClient, Client, NoReply, Outcome, Refused


@pytest.mark.parametrize("channel", [False, True])
def test_the_reply_comes_back(serve: StartServer, channel: bool) -> None:
    server = serve("--exec", "cat")
    with Client(address=server.address, channel=channel) as client:
        for n in range(3):
            reply = client.request({"n": n, "text": "grüße"})
            assert reply.body == {"n": n, "text": "grüße"}
            assert not reply.duplicate


def test_asyncio_with_many_requests_at_once(serve: StartServer) -> None:
    server = serve("--exec", "cat", "--jobs", "4")

    async def run() -> None:
        async with AsyncClient(address=server.address) as client:
            replies = await asyncio.gather(*(client.request({"n": n}) for n in range(100)))
        assert [reply.body["n"] for reply in replies] == list(range(100))

    asyncio.run(run())


@pytest.mark.parametrize("channel", [False, True])
def test_no_reply_is_told_as_accepted(serve: StartServer, channel: bool) -> None:
    server = serve("--exec", "exit 1")
    with Client(address=server.address, channel=channel) as client:
        for _ in range(2):
            with pytest.raises(NoReply) as error:
                client.request({"n": 1})
            assert error.value.outcome is Outcome.ACCEPTED
            assert (error.value.code, error.value.status) == ("not_answered", 502)
            assert not error.value.is_retryable
            assert error.value.reason == "the command ended with exit status: 1"
            assert str(error.value).endswith(f"gave no reply: {error.value.reason}")


@pytest.mark.parametrize("channel", [False, True])
def test_a_request_that_is_only_acknowledged_has_no_reason(
    serve: StartServer, channel: bool
) -> None:
    server = serve()
    with Client(address=server.address, channel=channel) as client:
        with pytest.raises(NoReply) as error:
            client.request({"n": 1})
        assert (error.value.code, error.value.reason) == ("not_answered", None)
        assert str(error.value).endswith("the application gave no reply")


def test_a_reason_is_bounded_and_fit_for_a_terminal() -> None:
    error = NoReply("not_answered", "a\x1b[1m\nb")
    assert error.reason == "a [1m b" and str(error).endswith("no reply: a [1m b")
    detail = "the application gave no reply: " + "é" * 150
    assert NoReply.of(Refused(502, "not_answered", detail)).reason == "é" * 100
    for other in ("", "why: not", "the application gave no reply"):
        assert NoReply.of(Refused(502, "not_answered", other)).reason is None
    late = NoReply.of(Refused(504, "no_reply_in_time", "no reply within 30 s"))
    assert (late.code, late.reason) == ("no_reply_in_time", None)


@pytest.mark.parametrize("channel", [False, True])
def test_a_late_reply_is_there_for_the_next_call_with_the_same_id(
    home: Home, serve: StartServer, channel: bool
) -> None:
    fifo = home.path.parent / "fifo"
    os.mkfifo(fifo)
    server = serve("--exec", f"cat; cat {fifo} >&2")
    message_id = str(uuid.uuid4())
    with Client(address=server.address, channel=channel) as client:
        # Over a channel only from the second call on.
        for _ in range(2):
            with pytest.raises(NoReply) as error:
                client.request({"n": 1}, wait=0.7, id=message_id)
            assert (error.value.code, error.value.is_timeout) == ("no_reply_in_time", True)
            assert error.value.outcome is Outcome.ACCEPTED and error.value.is_retryable
        fifo.write_text("go on")
        reply = client.request({"n": 1}, id=message_id)
    assert reply.body == {"n": 1} and reply.duplicate and reply.id == message_id


def test_a_reply_outlives_a_restart_of_the_server(home: Home, serve: StartServer, heard) -> None:
    gate = home.path.parent / "gate"
    command = f"test -e {gate} || {{ echo begun >&2; exit 75; }}; cat"
    server = serve("--inbox", "durable", "--exec", command)

    async def run() -> None:
        async with AsyncClient(address=server.address, timeout=60) as client:
            await client.send({"n": 0})
            request = asyncio.ensure_future(client.request({"n": 1}, wait=100))
            await asyncio.to_thread(heard.wait_for, "logging in")
            await asyncio.to_thread(server.wait_for_log, r"message/channel.* 101")
            await asyncio.to_thread(server.kill)
            gate.touch()
            await asyncio.to_thread(
                serve, "--inbox", "durable", "--exec", command, port=server.port
            )
            assert (await request).body == {"n": 1}

    asyncio.run(run())
