"""The names of the Python tool: `WebClient` and `WebServer`."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import re
from pathlib import Path

import pytest
from conftest import Heard, Home
from test_send import closed_port

from web_ipc import ConfigurationError
from web_ipc.web_client import WebClient
from web_ipc.web_server import WebServer


def test_the_snippets_of_the_python_tool(home: Home, program: str, monkeypatch) -> None:
    monkeypatch.setenv("WEB_IPC_BIN", program)
    messages: multiprocessing.Queue = multiprocessing.Queue(20)
    server = WebServer(name="localhost", host="127.0.0.1", port=0, queue=messages)
    server.start()
    try:
        assert server.is_running and 3000 <= server.port < 4000
        client = WebClient(
            server_name="localhost", server_ip="127.0.0.1", server_port=server.port
        )
        for i in range(1, 4):
            assert client.send_msg({"test": i}) is True
        assert [messages.get(timeout=60) for _ in range(3)] == [{"test": i} for i in range(1, 4)]
    finally:
        server.stop()
    assert not server.is_running
    server.stop()


def test_what_is_not_sent_is_false_and_logged_with_its_outcome(
    home: Home, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = WebClient("localhost", "127.0.0.1", closed_port())
    client._client._options["timeout"] = 0.3
    client._client.close()
    client._client._start()
    assert client.send_msg({"test": 1}) is False
    heard.wait_for("never arrived")
    assert client.send_msg(["no dict"]) is False  # type: ignore[arg-type]
    heard.wait_for("Invalid message type")
    assert client.send_msg({"no json": b""}) is False
    heard.wait_for("(refused)")
    client.close()


def test_auth_is_a_user_of_the_server(home: Home, program: str, monkeypatch) -> None:
    monkeypatch.setenv("WEB_IPC_BIN", program)
    home.run("--users", "--add", "--user", "test1", "--password", "pass321")
    messages: queue.Queue = queue.Queue()
    server = WebServer(queue=messages, logger=logging.getLogger("quiet"))
    server.start()
    try:
        good = {"username": "test1", "password": "pass321"}
        assert WebClient("localhost", "127.0.0.1", server.port, auth=good).send_msg({"n": 1})
        bad = {"username": "test1", "password": "pass322"}
        assert not WebClient("localhost", "127.0.0.1", server.port, auth=bad).send_msg({"n": 2})
    finally:
        server.stop()
    assert messages.get(timeout=60) == {"n": 1} and messages.empty()
    with pytest.raises(ValueError, match="username and password"):
        WebClient("localhost", "127.0.0.1", 3000, auth={"username": "test1"})


def test_a_server_that_cannot_start_says_why(home: Home, program: str, monkeypatch) -> None:
    server = WebServer(name="nobody", queue=queue.Queue(), program=program)
    with pytest.raises(ConfigurationError, match="nobody"):
        server.start()
    assert not server.is_running
    with pytest.raises(ConfigurationError, match="does not start"):
        WebServer(queue=queue.Queue(), program="/no/such/program").start()
    monkeypatch.delenv("WEB_IPC_BIN", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="PATH"):
        WebServer(queue=queue.Queue()).start()
    with pytest.raises(ValueError, match="queue"):
        WebServer()


def test_the_python_code_of_the_readme_compiles() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(blocks) >= 4
    for block in blocks:
        compile(block, "README.md", "exec")
