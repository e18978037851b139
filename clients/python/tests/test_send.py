"""Messages to the real server: what goes well."""

from __future__ import annotations

import asyncio
import threading
import uuid

import pytest
from conftest import Home, Server, StartServer

from web_ipc import AsyncClient, Client, ConfigurationError, Outcome, Refused, SendError


def test_the_home_alone_is_enough(home: Home, serve: StartServer) -> None:
    server = serve()
    with Client(address=server.address) as client:
        sent = client.send({"a": 1})
    message = server.take()
    assert message["body"] == {"a": 1}
    assert (message["id"], message["user"], message["peer"]) == (sent.id, "ipc-admin", "localhost")
    assert not sent.duplicate
    assert uuid.UUID(sent.id).version == 7


@pytest.mark.parametrize("channel", [False, True])
def test_values_arrive_as_they_were(server: Server, channel: bool) -> None:
    message = {
        "text": "grüße \U0001f600 \u0000 \" \\",
        "numbers": [0, -(2**63), 2**64 - 1, 0.1, -1e300, 1.0],
        "others": [None, True, False, {}, []],
        "": {"a": {"b": {"c": [[[]]]}}},
    }
    with Client(address=server.address, channel=channel) as client:
        for _ in range(3):
            client.send(message)
    assert server.bodies(3) == [message] * 3


def test_the_second_message_opens_a_channel_and_the_first_does_not(server: Server) -> None:
    with Client(address=server.address) as client:
        client.send({"n": 0})
        assert not any("/message/channel" in line for line in server.log)
        client.send({"n": 1})
        client.send({"n": 2})
    server.wait_for_log(r'"GET /message/channel" 101')
    assert server.bodies(3) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("channel", [False, True])
def test_a_repeated_id_is_a_duplicate_and_arrives_once(server: Server, channel: bool) -> None:
    message_id = str(uuid.uuid4())
    with Client(address=server.address, channel=channel) as client:
        client.send({"n": 0})
        assert not client.send({"n": 1}, id=message_id).duplicate
        assert client.send({"n": 1}, id=message_id.upper()).duplicate
        client.send({"n": 2})
    assert server.bodies(3) == [{"n": 0}, {"n": 1}, {"n": 2}]


@pytest.mark.parametrize("channel", [False, True])
def test_one_login_serves_many_threads(server: Server, channel: bool) -> None:
    with Client(address=server.address, channel=channel) as client:
        threads = [threading.Thread(target=client.send, args=({"n": n},)) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(body["n"] for body in server.bodies(50)) == list(range(50))
    assert sum("/client/auth" in line for line in server.log) == 1


def test_asyncio_with_many_in_flight(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(address=server.address) as client:
            await asyncio.gather(*(client.send({"n": n}) for n in range(2000)))

    asyncio.run(run())
    numbers = [body["n"] for body in server.bodies(2000)]
    assert sorted(numbers) == list(range(2000))
    # The first went by POST, beside the channel; the others kept their order.
    assert [n for n in numbers if n != 0] == list(range(1, 2000))


@pytest.mark.parametrize("channel", [False, True])
def test_send_all_keeps_the_order_also_around_long_messages(server: Server, channel: bool) -> None:
    count = 3000 if channel else 60
    long = "x" * 100_000

    def messages():
        for n in range(count):
            yield {"n": n, "long": long} if n % (count // 3) == 7 else {"n": n}

    with Client(address=server.address, channel=channel) as client:
        report = client.send_all(messages())
    assert (report.sent, report.duplicates, report.refusals) == (count, 0, [])
    assert [body["n"] for body in server.bodies(count)] == list(range(count))


def test_send_all_goes_on_behind_a_bad_message_and_says_which_it_was(server: Server) -> None:
    messages = [{"n": 0}, [1], {"n": float("nan")}, {"n": 3}]
    with Client(address=server.address) as client:
        report = client.send_all(messages)
    assert report.sent == 2
    assert [refusal.index for refusal in report.refusals] == [1, 2]
    assert all(refusal.error.outcome is Outcome.REFUSED for refusal in report.refusals)
    assert server.bodies(2) == [{"n": 0}, {"n": 3}]


def test_send_all_of_asyncio_takes_an_async_iterator(server: Server) -> None:
    async def messages():
        for n in range(300):
            await asyncio.sleep(0)
            yield {"n": n}

    async def run() -> int:
        async with AsyncClient(address=server.address) as client:
            return (await client.send_all(messages())).sent

    assert asyncio.run(run()) == 300
    assert [body["n"] for body in server.bodies(300)] == list(range(300))


def test_deep_messages_go_by_post(server: Server) -> None:
    deep: dict = {}
    for _ in range(126):
        deep = {"a": deep}
    with Client(address=server.address) as client:
        client.send({"n": 0})
        client.send(deep)
        with pytest.raises(SendError) as error:
            client.send({"a": deep})
    assert error.value.outcome is Outcome.REFUSED
    assert server.bodies(2) == [{"n": 0}, deep]


@pytest.mark.parametrize("channel", [False, True])
def test_plain_http_on_loopback(home: Home, serve: StartServer, channel: bool) -> None:
    server = serve("--protocol", "http")
    with Client(address=server.address, protocol="http", channel=channel) as client:
        for n in range(3):
            client.send({"n": n})
    assert server.bodies(3) == [{"n": n} for n in range(3)]
    with pytest.raises(ConfigurationError, match="loopback"):
        Client(address="192.0.2.1:3000", protocol="http")


def test_the_next_address_is_used_where_one_does_not_answer(server: Server) -> None:
    for addresses in ([f"127.0.0.1:{closed_port()}", server.address], f"[::1]:9,{server.address}"):
        with Client(address=addresses) as client:
            client.send({"n": 1})
            client.send({"n": 2})
    assert server.bodies(4) == [{"n": 1}, {"n": 2}] * 2


def test_another_user_and_another_certificate(home: Home, serve: StartServer) -> None:
    home.run("--users", "--add", "--user", "sensor", "--password", "s3cret-s3cret")
    home.run("--certs", "--name", "sensor1")
    server = serve()
    options = {"identity": "sensor1", "username": "sensor", "password": "s3cret-s3cret"}
    with Client(address=server.address, **options) as client:
        client.send({"n": 1})
        client.send({"n": 2})
    for _ in range(2):
        message = server.take()
        assert (message["user"], message["peer"]) == ("sensor", "sensor1")


def test_an_enrolled_client_needs_only_its_home(
    home: Home, serve: StartServer, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    there = Home(home.program, tmp_path / "client")
    bundle = tmp_path / "bundle"
    made = home.run(
        "--enrol", "--create", "--name", "worker1", "--server", server.address, "--out", str(bundle)
    )
    code = next(line for line in made.stderr.splitlines() if line.startswith("Code: ")).split()[1]
    monkeypatch.setenv("WEB_IPC_CODE", code)
    there.run("--enrol", "--accept", str(bundle))
    with Client(there.path) as client:
        client.send({"n": 1})
        client.send({"n": 2})
    for _ in range(2):
        assert server.take()["peer"] == "worker1"


def test_a_fork_gets_connections_of_its_own(server: Server) -> None:
    import os

    with Client(address=server.address) as client:
        client.send({"n": 1})
        child = os.fork()
        if child == 0:
            status = 1
            try:
                client.send({"n": 2})
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0)[1] == 0
        client.send({"n": 3})
    assert server.bodies(3) == [{"n": 1}, {"n": 2}, {"n": 3}]


@pytest.mark.parametrize("channel", [False, True])
def test_a_session_that_ends_is_replaced_by_one_login(
    home: Home, server: Server, channel: bool
) -> None:
    home.run("--users", "--add", "--user", "sensor", "--password", "s3cret-s3cret")
    options = {"username": "sensor", "password": "s3cret-s3cret", "channel": channel}
    with Client(address=server.address, **options) as client:
        for n in range(3):
            client.send({"n": n})
        # The same password, set again, ends all sessions of the user.
        home.run("--users", "--change", "--user", "sensor", "--password", "s3cret-s3cret")
        for n in range(3, 6):
            client.send({"n": n})
    assert server.bodies(6) == [{"n": n} for n in range(6)]
    assert 1 <= sum('"POST /client/auth" 200' in line for line in server.log) <= 2


def test_id_reused_is_refused_on_both_ways(server: Server) -> None:
    message_id = str(uuid.uuid4())
    with Client(address=server.address) as client:
        client.send({"n": 0}, id=message_id)
        with pytest.raises(Refused) as error:
            client.send({"n": 1}, id=message_id)
        assert (error.value.code, error.value.status) == ("id_reused", 422)
        assert error.value.outcome is Outcome.REFUSED and error.value.id == message_id
    with Client(address=server.address, channel=False) as client:
        with pytest.raises(Refused) as error:
            client.send({"n": 1}, id=message_id)
        assert error.value.code == "id_reused"


def closed_port() -> int:
    """A port of this host on which nobody listens."""
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
