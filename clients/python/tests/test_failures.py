"""What goes wrong, and what the errors say became of the message."""

from __future__ import annotations

import asyncio
import shutil
import socket
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Heard, Home, Server, StartServer
from test_send import closed_port

from web_ipc import (
    AsyncClient,
    BadCredentials,
    CertificateRefused,
    Client,
    Closed,
    ConfigurationError,
    Outcome,
    Refused,
    SendAllError,
    SendError,
    ServerNotTrusted,
    TimedOut,
    TooLarge,
    WrongProtocol,
)


def failure(call: Callable[[], object]) -> SendError:
    with pytest.raises(SendError) as error:
        call()
    assert error.value.remedy, error.value
    return error.value


# Refusals


def test_a_wrong_password_is_refused_once_for_many_calls(server: Server) -> None:
    with Client(address=server.address, username="ipc-admin", password="wrong") as client:
        with ThreadPoolExecutor(8) as pool:
            errors = list(pool.map(lambda n: failure(lambda: client.send({"n": n})), range(8)))
    for error in errors:
        assert isinstance(error, BadCredentials)
        assert (error.outcome, error.code, error.status) == (
            Outcome.REFUSED,
            "bad_credentials",
            401,
        )
        assert not error.is_retryable
    with Client(address=server.address) as client:
        client.send({"n": "good"})
    assert server.take()["body"] == {"n": "good"}


def test_send_all_with_a_wrong_password_ends_at_the_first(server: Server) -> None:
    with Client(address=server.address, username="nobody", password="wrong") as client:
        with pytest.raises(SendAllError) as error:
            client.send_all({"n": n} for n in range(10))
    assert (error.value.start, error.value.until, error.value.report.sent) == (0, 0, 0)
    assert error.value.outcome is Outcome.REFUSED
    assert isinstance(error.value.error, BadCredentials)


@pytest.fixture
def stranger(program: str, tmp_path: Path) -> Home:
    """Another home, with an authority and keys of its own."""
    stranger = Home(program, tmp_path / "stranger")
    stranger.run("--init", "--run")
    return stranger


@pytest.mark.parametrize("channel", [False, True])
def test_a_certificate_of_another_authority_is_refused(
    home: Home, server: Server, stranger: Home, channel: bool
) -> None:
    shutil.copy(home.path / "web-ipc-ca.crt", stranger.path)
    with Client(stranger.path, address=server.address, channel=channel) as client:
        for _ in range(2):
            error = failure(lambda: client.send({"n": 1}))
            assert isinstance(error, CertificateRefused), repr(error)
            assert error.outcome is Outcome.REFUSED and not error.is_retryable
        with pytest.raises(SendAllError) as many:
            client.send_all([{"n": 1}, {"n": 2}])
        assert isinstance(many.value.error, CertificateRefused)


def test_a_revoked_certificate_is_refused(home: Home, server: Server) -> None:
    home.run("--certs", "--name", "sensor1")
    with Client(address=server.address, identity="sensor1") as client:
        client.send({"n": 1})
        home.run("--certs", "--revoke", "sensor1")
        server.wait_for_log("revo")
        error = failure(lambda: client.send({"n": 2}))
    assert isinstance(error, CertificateRefused) or error.code == "certificate_revoked"
    assert error.outcome is Outcome.REFUSED


def test_a_server_of_another_authority_or_name_is_not_trusted(
    home: Home, server: Server, stranger: Home
) -> None:
    for client in (
        Client(stranger.path, address=server.address),
        Client(address=server.address, server="another.example"),
    ):
        with client:
            error = failure(lambda: client.send({"n": 1}))
            assert isinstance(error, ServerNotTrusted)
            assert error.outcome is Outcome.NEVER_ARRIVED and not error.is_retryable


def test_another_key_is_a_malformed_envelope(home: Home, server: Server, stranger: Home) -> None:
    for name in ("web-ipc-ca.crt", "localhost.crt", "localhost.key"):
        shutil.copy(home.path / name, stranger.path)
    with Client(stranger.path, address=server.address) as client:
        error = failure(lambda: client.send({"n": 1}))
    assert isinstance(error, Refused)
    assert (error.status, error.code) == (400, "malformed_envelope")
    assert error.outcome is Outcome.REFUSED


def test_what_is_too_large_is_refused_here_or_there(server: Server) -> None:
    with Client(address=server.address, plaintext_bytes_max=5000) as client:
        error = failure(lambda: client.send({"text": "x" * 5000}))
        assert isinstance(error, TooLarge) and error.outcome is Outcome.REFUSED
        client.send({"n": 1})
    with Client(address=server.address, plaintext_bytes_max=64 * 1024 * 1024) as client:
        error = failure(lambda: client.send({"text": "x" * (17 * 1024 * 1024)}))
        assert (error.status, error.code) == (413, "too_large")
        assert error.outcome is Outcome.REFUSED
        client.send({"n": 2})
    assert server.bodies(2) == [{"n": 1}, {"n": 2}]


@pytest.mark.parametrize(
    "message",
    [
        [],
        "text",
        None,
        {1: 2},
        {"a": {None: 1}},
        {"a": float("inf")},
        {"a": 2**64},
        {"a": -(2**63) - 1},
        {"a": (1, 2)},
        {"a": {1, 2}},
        {"a": b"bytes"},
        {"a": "\ud800"},
        {"\ud800": 1},
        {str(n): n for n in range(65_537)},
    ],
    ids=lambda message: repr(message)[:20],
)
def test_what_json_cannot_hold_is_refused_and_not_changed(home: Home, message) -> None:
    with Client(address=f"127.0.0.1:{closed_port()}") as client:
        error = failure(lambda: client.send(message))
        assert error.outcome is Outcome.REFUSED and error.code is None
        with pytest.raises(SendError):
            client.request(message)


def test_a_message_without_end_is_refused(home: Home) -> None:
    message: dict = {}
    message["self"] = message
    with Client(address=f"127.0.0.1:{closed_port()}") as client:
        assert failure(lambda: client.send(message)).outcome is Outcome.REFUSED


# No server, another server, a silent server


def test_without_a_server_it_never_arrived(home: Home) -> None:
    with Client(address=f"127.0.0.1:{closed_port()}", timeout=0.5) as client:
        for _ in range(2):  # the second would go over a channel
            error = failure(lambda: client.send({"n": 1}))
            assert isinstance(error, TimedOut)
            assert error.outcome is Outcome.NEVER_ARRIVED and error.is_retryable
        with pytest.raises(SendAllError) as many:
            client.send_all([{"n": 1}, {"n": 2}], timeout=0.5)
        assert many.value.outcome is Outcome.NEVER_ARRIVED
        assert (many.value.start, many.value.until) == (0, 0)


def test_a_server_that_does_not_take_the_connection_is_not_reached(home: Home) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with Client(address=address, timeout=0.5) as client:
            error = failure(lambda: client.send({"n": 1}))
    assert isinstance(error, TimedOut) and error.outcome is Outcome.NEVER_ARRIVED


def test_a_server_without_tls_is_another_protocol(home: Home, serve: StartServer) -> None:
    server = serve("--protocol", "http")
    with Client(address=server.address) as client:
        error = failure(lambda: client.send({"n": 1}))
    assert isinstance(error, WrongProtocol) and error.outcome is Outcome.NEVER_ARRIVED


@pytest.mark.parametrize("channel", [False, True])
def test_a_silent_server_leaves_it_not_known_and_the_same_id_arrives_once(
    server: Server, channel: bool
) -> None:
    message_id = str(uuid.uuid4())
    with Client(address=server.address, channel=channel) as client:
        client.send({"n": 0})
        client.send({"n": 1})
        server.freeze()
        error = failure(lambda: client.send({"n": 2}, id=message_id, timeout=0.7))
        assert isinstance(error, TimedOut) and error.is_timeout
        assert error.outcome is Outcome.NOT_KNOWN and error.id == message_id
        server.thaw()
        client.send({"n": 2}, id=message_id)
        client.send({"n": 3})
    assert server.bodies(4) == [{"n": n} for n in range(4)]


def test_a_cancelled_call_leaves_the_client_as_it_was(server: Server) -> None:
    async def run() -> None:
        async with AsyncClient(address=server.address) as client:
            await client.send({"n": 0})
            await client.send({"n": 1})
            server.freeze()
            call = asyncio.ensure_future(client.send({"n": 2}))
            await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            server.thaw()
            await client.send({"n": 3})

    asyncio.run(run())
    server.stop()
    bodies = [server.take()["body"] for _ in range(server.messages.qsize())]
    assert [body for body in bodies if body != {"n": 2}] == [{"n": 0}, {"n": 1}, {"n": 3}]


def test_close_ends_what_is_under_way(server: Server) -> None:
    async def run() -> None:
        client = AsyncClient(address=server.address)
        await client.send({"n": 0})
        await client.send({"n": 1})
        server.freeze()
        call = asyncio.ensure_future(client.send({"n": 2}))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(Closed):
            await call

    asyncio.run(run())


# A server that dies and comes back


@pytest.mark.parametrize("channel", [False, True])
def test_a_message_waits_for_a_server_that_was_killed(
    serve: StartServer, heard: Heard, channel: bool
) -> None:
    first = serve("--inbox", "durable")
    with Client(address=first.address, channel=channel) as client, ThreadPoolExecutor(1) as pool:
        client.send({"n": 0})
        client.send({"n": 1})
        assert first.bodies(2) == [{"n": 0}, {"n": 1}]
        first.kill()
        sent = pool.submit(client.send, {"n": 2}, timeout=60)
        heard.wait_for("attempt failed" if not channel else "another one follows")
        second = serve("--inbox", "durable", port=first.port)
        assert not sent.result().duplicate
        client.send({"n": 3})
        last = [second.take() for _ in range(2)]
    while "redelivered" in last[0]:  # the kill came before the line of an earlier one was marked
        last = [*last[1:], second.take()]
    assert [message["body"] for message in last] == [{"n": 2}, {"n": 3}]


def test_kills_under_load_lose_nothing_and_repeat_nothing_unmarked(serve: StartServer) -> None:
    count = 3000
    server = serve("--inbox", "durable")
    arrived = []
    with Client(address=server.address) as client, ThreadPoolExecutor(1) as pool:
        report = pool.submit(client.send_all, ({"n": n} for n in range(count)), timeout=60)
        for _ in range(2):
            arrived.append(server.take())
            server.kill()
            while not server.messages.empty():
                arrived.append(server.take())
            server = serve("--inbox", "durable", port=server.port)
        assert report.result().sent == count
    while len({message["id"] for message in arrived}) < count:
        arrived.append(server.take())
    first = [message for message in arrived if "redelivered" not in message]
    assert len({message["id"] for message in first}) == len(first), "a repetition without a mark"
    seen: dict[str, int] = {}
    for message in arrived:
        seen.setdefault(message["id"], message["body"]["n"])
    assert list(seen.values()) == list(range(count)), "not in order"


def test_an_orderly_restart_repeats_nothing(serve: StartServer) -> None:
    count = 2000
    first = serve()
    with Client(address=first.address) as client, ThreadPoolExecutor(1) as pool:
        report = pool.submit(client.send_all, ({"n": n} for n in range(count)), timeout=60)
        first.take()
        first.stop()
        second = serve(port=first.port)
        assert report.result().sent == count
    second.stop()
    numbers = [0] + [first.take()["body"]["n"] for _ in range(first.messages.qsize())]
    numbers += [second.take()["body"]["n"] for _ in range(second.messages.qsize())]
    assert numbers == list(range(count))


# No room


def test_a_full_inbox_refuses_and_the_rest_follows_in_order(
    serve: StartServer, heard: Heard
) -> None:
    count = 1500  # 1024 find room, and some more in the pipe that nobody reads
    reads = threading.Event()
    server = serve(reads=reads)
    with Client(address=server.address) as client, ThreadPoolExecutor(1) as pool:
        messages = ({"n": n, "pad": "x" * 300} for n in range(count))
        report = pool.submit(client.send_all, messages, timeout=60)
        heard.wait_for("inbox_full")
        with Client(address=server.address) as other:
            other_error = failure(lambda: other.send({"n": "no room"}, timeout=5))
        reads.set()
        assert report.result().sent == count
    assert isinstance(other_error, TimedOut) and other_error.code == "inbox_full"
    assert other_error.outcome is Outcome.REFUSED and other_error.is_retryable
    assert [body["n"] for body in server.bodies(count)] == list(range(count))


# Arguments and homes


def test_arguments_that_cannot_be_used_are_refused(home: Home) -> None:
    for arguments in (
        {"timeout": 0},
        {"timeout": 481},
        {"address": "host:0"},
        {"address": "host:port"},
        {"address": "[::1"},
        {"address": ""},
        {"address": []},
        {"address": "user@host:1"},
        {"protocol": "ftp"},
        {"username": "ada"},
        {"password": "only"},
        {"identity": "../localhost"},
        {"identity": "nobody"},
        {"connections_max": 0},
    ):
        with pytest.raises(ConfigurationError):
            Client(**arguments)
    with Client(address="127.0.0.1:1") as client:
        for id in ("", "1", 7):
            with pytest.raises(ConfigurationError):
                client.send({}, id=id)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            client.request({}, wait=481)


def test_homes_that_cannot_be_used_are_refused_with_what_mends_them(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="--init --run"):
        Client(tmp_path / "nothing")
    for name in ("envelope.keys", "admin.cred", "localhost.key"):
        path = home.path / name
        path.chmod(0o640)
        with pytest.raises(ConfigurationError, match=f"chmod 600 {path}"):
            Client()
        monkeypatch.setenv("WEB_IPC_DANGEROUSLY_READABLE_HOME", "1")
        Client().close()
        monkeypatch.delenv("WEB_IPC_DANGEROUSLY_READABLE_HOME")
        path.chmod(0o600)
        good = path.read_bytes()
        path.write_bytes(b"nonsense\n")
        with pytest.raises(ConfigurationError):
            Client()
        path.unlink()
        with pytest.raises(ConfigurationError):
            Client()
        path.touch(0o600)
        path.write_bytes(good)
    (home.path / "client.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="client.json"):
        Client()


def test_rotated_keys_of_the_home_are_used_without_a_restart(
    home: Home, server: Server, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web_ipc._engine.LOOK_SECS", 0.0)
    with Client(address=server.address, channel=False) as client:
        client.send({"n": 1})
        before = (home.path / "envelope.keys").read_text()
        home.run("--keys", "--rotate")
        assert (home.path / "envelope.keys").read_text() != before
        client.send({"n": 2})
        heard.wait_for("its new files are used")
        client.send({"n": 3})
    assert server.bodies(3) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_threads_end_with_the_client(home: Home) -> None:
    before = threading.active_count()
    client = Client(address="127.0.0.1:1")
    assert threading.active_count() == before + 1
    client.close()
    client.close()
    assert threading.active_count() == before
