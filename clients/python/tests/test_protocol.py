"""The protocol's code against what was not written here: the vectors of the Fernet specification,
those of docs/protocol.md, and the Fernet of `cryptography`."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from web_ipc import frame
from web_ipc.envelope import EnvelopeError, KeyRing, StaleEnvelope, from_text, to_text
from web_ipc.errors import BodyError

ROOT = Path(__file__).resolve().parents[3]
FERNET = ROOT / "crates/ipc-envelope/tests/vectors/fernet"
PAGE = (ROOT / "docs/protocol.md").read_text("utf-8")


def vectors(name: str) -> list[dict[str, Any]]:
    found = re.search(rf"<!-- vectors: {name} -->\n```json\n(.*?)\n```", PAGE, re.DOTALL)
    assert found, name
    return json.loads(found[1])


MADE_WITH = vectors("made with")[0]
RING = KeyRing([MADE_WITH["key"]])
NOW = MADE_WITH["time"]
IV = bytes.fromhex(MADE_WITH["iv"])


def fernet(name: str) -> list[dict[str, Any]]:
    return json.loads((FERNET / name).read_text())


def epoch(text: str) -> int:
    from datetime import datetime

    return int(datetime.fromisoformat(text).timestamp())


# Envelopes


@pytest.mark.parametrize("vector", fernet("generate.json"))
def test_tokens_of_the_fernet_specification_are_made(vector: dict[str, Any]) -> None:
    token = KeyRing([vector["secret"]]).seal(
        vector["src"].encode(), now=epoch(vector["now"]), iv=bytes(vector["iv"])
    )
    assert to_text(token) == vector["token"]


@pytest.mark.parametrize("vector", fernet("verify.json"))
def test_tokens_of_the_fernet_specification_are_opened(vector: dict[str, Any]) -> None:
    plaintext = KeyRing([vector["secret"]]).open(
        from_text(vector["token"]), now=epoch(vector["now"]), max_age_secs=vector["ttl_sec"]
    )
    assert plaintext == vector["src"].encode()


@pytest.mark.parametrize("vector", fernet("invalid.json"), ids=lambda vector: vector["desc"])
def test_bad_tokens_of_the_fernet_specification_are_refused(vector: dict[str, Any]) -> None:
    with pytest.raises(EnvelopeError):
        KeyRing([vector["secret"]]).open(
            from_text(vector["token"]), now=epoch(vector["now"]), max_age_secs=vector["ttl_sec"]
        )


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 31, 32, 1000, 100_000])
def test_fernet_of_cryptography_opens_ours_and_we_open_its(size: int) -> None:
    plaintext = os.urandom(size)
    key, older = Fernet.generate_key().decode(), Fernet.generate_key().decode()
    ring, theirs = KeyRing([key, older]), MultiFernet([Fernet(key), Fernet(older)])
    assert theirs.decrypt(to_text(ring.seal(plaintext)), ttl=60) == plaintext
    for sealer in (Fernet(key), Fernet(older)):
        assert ring.open(from_text(sealer.encrypt(plaintext))) == plaintext
    # The first key seals.
    assert Fernet(key).decrypt(to_text(ring.seal(plaintext))) == plaintext
    with pytest.raises(InvalidToken):
        Fernet(older).decrypt(to_text(ring.seal(plaintext)))


def test_every_flipped_bit_is_refused() -> None:
    token = RING.seal(b"message", now=NOW)
    for bit in range(len(token) * 8):
        flipped = bytearray(token)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(EnvelopeError):
            RING.open(bytes(flipped), now=NOW)
    for length in range(len(token)):
        with pytest.raises(EnvelopeError):
            RING.open(token[:length], now=NOW)


def test_an_envelope_is_stale_a_second_after_a_minute_either_way() -> None:
    token = RING.seal(b"", now=NOW)
    for now in (NOW - 60, NOW, NOW + 60):
        assert RING.open(token, now=now) == b""
    for now in (NOW - 61, NOW + 61, 0, 2**64 - 1):
        with pytest.raises(StaleEnvelope):
            RING.open(token, now=now)
    assert RING.open(token, now=NOW + 10**9, max_age_secs=None) == b""
    far = RING.seal(b"", now=2**64 - 1)
    with pytest.raises(StaleEnvelope):
        RING.open(far, now=NOW)


@pytest.mark.parametrize("vector", vectors("good envelopes"))
def test_good_envelopes_of_the_page(vector: dict[str, Any]) -> None:
    plaintext = vector["plaintext"].encode()
    token = RING.seal(plaintext, now=NOW, iv=IV)
    assert to_text(token) == vector["token"]
    assert RING.open(from_text(vector["token"]), now=NOW) == plaintext


@pytest.mark.parametrize("vector", vectors("bad envelopes"), ids=lambda vector: vector["why"])
def test_bad_envelopes_of_the_page(vector: dict[str, Any]) -> None:
    stale = vector["problem"] == "stale_envelope"
    with pytest.raises(EnvelopeError) as error:
        RING.open(from_text(vector["token"]), now=vector.get("now", NOW))
    assert isinstance(error.value, StaleEnvelope) == stale


@pytest.mark.parametrize(
    "text", ["", "#\n", "no key", "A" * 43, "A" * 42 + "B=", ("A" * 43 + "=\n") * 17]
)
def test_what_is_no_key_ring_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError) as error:
        KeyRing.from_file_text(text)
    assert not text.strip() or text not in str(error.value)


def test_a_key_ring_file_has_comments_and_a_byte_order_mark() -> None:
    ring = KeyRing.from_file_text(f"\ufeff# the keys\n\n  {MADE_WITH['key']}\r\n")
    assert ring == RING
    assert MADE_WITH["key"] not in repr(ring)


# Frames


def test_the_frames_of_a_channel_are_those_of_the_page() -> None:
    vector = vectors("channel messages")[0]
    channel_id = "5d1c7f02-64a1-4f0e-b8f5-0c9a3e2b7d41"
    message = frame.Body.of({"test": 1})
    entry = frame.channel_entry("01890a5d-ac96-774b-bcce-b302099a8057", message.text, None)
    body = frame.channel_body(0, [entry], None)
    made = frame.make("/message/channel", channel_id, body, "SESSION")
    assert made == vector["plaintext"].encode()
    # What the page shows is a WebSocket frame with a mask around the envelope.
    shown = bytes.fromhex(vector["websocket"])
    mask = shown[4:8]
    envelope = bytes(byte ^ mask[index % 4] for index, byte in enumerate(shown[8:]))
    assert RING.seal(made, now=NOW, iv=IV) == envelope
    answer = vectors("channel messages")[1]
    opened = RING.open(bytes.fromhex(answer["websocket"])[4:], now=NOW)
    taken = frame.ChannelAnswer.of(frame.open_reply(opened, channel_id))
    assert taken == frame.ChannelAnswer([(0, 0, "accepted")], None, [])


@pytest.mark.parametrize("vector", vectors("good channel frames"), ids=lambda v: v["name"])
def test_bodies_of_a_channel_are_written_as_the_page_has_them(vector: dict[str, Any]) -> None:
    if not all(isinstance(entry, list) for entry in vector["entries"]):
        pytest.skip("it has entries that a client does not make")
    entries = [frame.channel_entry(*entry) for entry in vector["entries"]]
    made = frame.channel_body(vector["first"], entries, vector["resume"])
    wanted = json.loads(vector["body"])
    for entry in wanted["entries"]:
        entry["id"] = entry["id"].lower()  # the case of the digits does not matter
    assert json.loads(made) == wanted


@pytest.mark.parametrize("vector", vectors("good channel answers"), ids=lambda v: v["name"])
def test_good_answers_of_a_channel(vector: dict[str, Any]) -> None:
    answer = frame.ChannelAnswer.of(frame.parse(vector["body"]))
    assert [list(run) for run in answer.settled] == vector["settled"]
    assert [list(one) for one in answer.reasons.items()] == vector.get("reasons", [])
    assert (answer.refused and list(answer.refused)) == vector["refused"]
    replies = [[reply.entry, reply.duplicate, reply.body] for reply in answer.replies]
    assert replies == [[n, twice, json.loads(text)] for n, twice, text in vector["replies"]]


@pytest.mark.parametrize("vector", vectors("bad channel answers"), ids=lambda v: v["why"])
def test_bad_answers_of_a_channel(vector: dict[str, Any]) -> None:
    with pytest.raises(frame.FrameError):
        frame.ChannelAnswer.of(frame.parse(vector["body"]))


@pytest.mark.parametrize("vector", vectors("channel limits"), ids=lambda v: v["header"] or "empty")
def test_limits_of_a_channel(vector: dict[str, Any]) -> None:
    limits = frame.ChannelLimits.of(vector["header"])
    found = limits and [limits.message_bytes, limits.entries, limits.requests]
    assert found == vector["limits"]


ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        f'{{"v":1,"to":"reply","id":"{ID}"}}',
        f'{{"v":2,"to":"reply","id":"{ID}","body":{{}}}}',
        f'{{"v":1.0,"to":"reply","id":"{ID}","body":{{}}}}',
        f'{{"v":true,"to":"reply","id":"{ID}","body":{{}}}}',
        f'{{"v":1,"to":"/message/submit","id":"{ID}","body":{{}}}}',
        f'{{"v":1,"to":"reply","id":"{ID[:-1]}8","body":{{}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{}},"more":1}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{"a":1,"\\u0061":2}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{"a":1e400}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{"a":NaN}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{"a":18446744073709551616}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{"a":"\\ud800"}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":{{}}}} x',
        "\ufeff" + f'{{"v":1,"to":"reply","id":"{ID}","body":{{}}}}',
        f'{{"v":1,"to":"reply","id":"{ID}","body":' + "[" * 128 + "]" * 128 + "}",
        f'{{"v":1,"to":"reply","id":"{ID}","body":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: repr(text)[:90],
)
def test_bad_replies_are_refused(text: str) -> None:
    with pytest.raises(frame.FrameError):
        frame.open_reply(text.encode(), ID)


def test_good_replies_are_taken() -> None:
    text = f'{{"v":1,"to":"reply","id":"{ID.upper()}","body":' + "[" * 127 + "]" * 127 + "}"
    assert isinstance(frame.open_reply(text.encode(), ID), list)


@pytest.mark.parametrize("vector", vectors("bad frames"), ids=lambda vector: vector["why"])
def test_what_a_server_refuses_is_no_good_reply_either(vector: dict[str, Any]) -> None:
    """Their JSON breaks a rule, or they are for another route."""
    plaintext = vector.get("plaintext")
    data = plaintext.encode() if plaintext is not None else bytes.fromhex(vector["hex"])
    with pytest.raises(frame.FrameError):
        frame.open_reply(data, ID)


def test_body_errors_say_where_and_not_what() -> None:
    with pytest.raises(BodyError) as error:
        frame.Body.of({"a": [{"b": {"secret"}}]})
    assert error.value.path == ("a", 0, "b")
    assert "secret" not in str(error.value)
