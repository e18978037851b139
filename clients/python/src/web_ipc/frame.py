"""Frames: what an envelope holds, and the JSON rules that hold for them.

`docs/protocol.md`, "Frame", "JSON" and "Channel". No network and no file here.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import REASON_BYTES_MAX, BodyError

MEMBERS_MAX = 65_536
#: Levels of objects and arrays in a message; the frame around it is one more.
MESSAGE_LEVELS_MAX = 127
#: The same on a channel, where the frame, its body and the array of entries surround a message.
CHANNEL_LEVELS_MAX = 124
INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**64 - 1


class FrameError(ValueError):
    """A text that is no frame, or breaks a rule for JSON."""


@dataclass(frozen=True)
class Body:
    """A message as JSON text. It is made once, since the server compares it byte for byte."""

    text: str = field(repr=False)
    size: int
    levels: int

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Body:
        """Raises `BodyError` for what JSON cannot hold exactly. Nothing is mended or rounded."""
        if not isinstance(message, dict):
            raise BodyError(f"a message is a dict, not {_kind(message)}")
        levels = _check(message)
        text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        try:
            size = len(text.encode("utf-8"))
        except UnicodeEncodeError:
            raise BodyError("a string has half of a surrogate pair") from None
        return cls(text, size, levels)


def _kind(value: object) -> str:
    return f"a value of the type {type(value).__name__}"


def _check(message: object) -> int:
    """How many levels a message has. `BodyError` for what JSON cannot hold."""
    deepest = 0
    todo: list[tuple[object, tuple[str | int, ...]]] = [(message, ())]
    while todo:
        value, path = todo.pop()
        if value is None or isinstance(value, str | bool):
            continue
        if isinstance(value, int):
            if not INTEGER_MIN <= value <= INTEGER_MAX:
                raise BodyError("an integer has more than 64 bits: send it as a string", path)
        elif isinstance(value, float):
            if not math.isfinite(value):
                raise BodyError("JSON has no NaN and no Infinity", path)
        elif isinstance(value, dict | list):
            deepest = max(deepest, len(path) + 1)
            if deepest > MESSAGE_LEVELS_MAX:
                raise BodyError(f"more than {MESSAGE_LEVELS_MAX} levels of dicts and lists", path)
            if isinstance(value, list):
                todo.extend((item, (*path, index)) for index, item in enumerate(value))
                continue
            if len(value) > MEMBERS_MAX:
                raise BodyError(f"a dict has more than {MEMBERS_MAX} members: send a list", path)
            for name, item in value.items():
                if not isinstance(name, str):
                    raise BodyError(f"a member's name is a string, not {_kind(name)}", path)
                todo.append((item, (*path, name)))
        else:
            raise BodyError(f"JSON cannot hold {_kind(value)} exactly", path)
    return deepest


def parse(text: bytes | str) -> Any:
    """JSON as the protocol has it. `FrameError` for everything else."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise FrameError("an object has a name twice")
        if len(found) > MEMBERS_MAX:
            raise FrameError("an object has too many members")
        return found

    def integer(digits: str) -> int:
        value = int(digits)
        if not INTEGER_MIN <= value <= INTEGER_MAX:
            raise FrameError("an integer has more than 64 bits")
        return value

    def number(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise FrameError("a number is beyond the range of a double")
        return value

    def constant(name: str) -> None:
        raise FrameError(f"JSON has no {name}")

    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text,
            object_pairs_hook=members,
            parse_int=integer,
            parse_float=number,
            parse_constant=constant,
        )
    except FrameError:
        raise
    except (ValueError, RecursionError):
        # The JSON library's own error would hold the whole text.
        raise FrameError("not JSON") from None
    _check_levels_and_strings(value)
    return value


def _check_levels_and_strings(value: object) -> None:
    todo: list[tuple[object, int]] = [(value, 1)]
    while todo:
        item, level = todo.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict | list):
            if level > MESSAGE_LEVELS_MAX + 1:
                raise FrameError("too many levels")
            if isinstance(item, dict):
                for name in item:
                    _check_text(name)
                todo.extend((member, level + 1) for member in item.values())
            else:
                todo.extend((member, level + 1) for member in item)


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise FrameError("a string has half of a surrogate pair") from None


def make(to: str, frame_id: str, body: str, session: str | None = None) -> bytes:
    """The text of a frame. `body` is JSON text and goes in as it is."""
    around = "" if session is None else f',"session":{json.dumps(session)}'
    return f'{{"v":1,"to":{json.dumps(to)},"id":"{frame_id}"{around},"body":{body}}}'.encode()


def open_reply(plaintext: bytes, frame_id: str) -> Any:
    """The body of a frame to `reply` with this id. `FrameError` for any other."""
    frame = parse(plaintext)
    if not isinstance(frame, dict) or set(frame) - {"v", "to", "id", "session", "body"}:
        raise FrameError("not a frame")
    if type(frame.get("v")) is not int or frame["v"] != 1 or "body" not in frame:
        raise FrameError("not a frame of version 1")
    its_id = frame.get("id")
    if frame.get("to") != "reply" or not isinstance(its_id, str) or its_id.lower() != frame_id:
        raise FrameError("a reply to another frame")
    return frame["body"]


@dataclass(frozen=True)
class ChannelReply:
    """The application's reply to the request with the number `entry`."""

    entry: int
    body: dict[str, Any] = field(repr=False)
    duplicate: bool


@dataclass(frozen=True)
class ChannelAnswer:
    """The body of a frame that the server sends on a channel."""

    settled: list[tuple[int, int, str]]
    refused: tuple[int, str] | None
    replies: list[ChannelReply]
    #: Why requests have no reply, by the numbers of their entries.
    reasons: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, body: object) -> ChannelAnswer:
        """Members that a later version may add are ignored; any other form is a `FrameError`."""
        if not isinstance(body, dict):
            raise FrameError("an answer on a channel is an object")
        settled = []
        for run in _array(body, "settled"):
            if not isinstance(run, list) or len(run) != 3:
                raise FrameError("`settled` holds ranges")
            first, last, code = _number(run[0]), _number(run[1]), _code(run[2])
            if last < first:
                raise FrameError("a range ends before it begins")
            settled.append((first, last, code))
        given = _array(body, "reasons")
        if len(given) > sum(last - first + 1 for first, last, _ in settled):
            raise FrameError("more reasons than entries")
        reasons: dict[int, str] = {}
        for one in given:
            if not isinstance(one, dict) or not isinstance(one.get("reason"), str):
                raise FrameError("`reasons` holds objects with a reason")
            if len(one["reason"].encode("utf-8", "surrogatepass")) > REASON_BYTES_MAX:
                raise FrameError("a reason is too long")
            reasons.setdefault(_number(one.get("entry")), one["reason"])
        refused = None
        if "refused" in body:
            refusal = body["refused"]
            if not isinstance(refusal, dict):
                raise FrameError("`refused` is an object")
            refused = (_number(refusal.get("from")), _code(refusal.get("code")))
        replies = []
        for reply in _array(body, "replies"):
            if not isinstance(reply, dict) or not isinstance(reply.get("body"), dict):
                raise FrameError("`replies` holds objects with a body")
            duplicate = reply.get("duplicate", False)
            if not isinstance(duplicate, bool):
                raise FrameError("`duplicate` is true or false")
            replies.append(ChannelReply(_number(reply.get("entry")), reply["body"], duplicate))
        return cls(settled, refused, replies, reasons)


def _array(body: dict[str, Any], name: str) -> list[Any]:
    value = body.get(name, [])
    if not isinstance(value, list):
        raise FrameError(f"`{name}` is an array")
    return value


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise FrameError("not the number of an entry")
    return value


def _code(value: object) -> str:
    if not isinstance(value, str):
        raise FrameError("a code is a string")
    return value


@dataclass(frozen=True)
class ChannelLimits:
    """What a server takes on a channel, by its `Web-IPC-Limits`."""

    message_bytes: int = 73_728
    entries: int = 1000
    requests: int = 4096

    @classmethod
    def of(cls, header: str | None) -> ChannelLimits | None:
        """None for what is no such header. Names that are not known are ignored; the default holds
        for one that is missing."""
        names = {"message-bytes": "message_bytes", "entries": "entries", "requests": "requests"}
        found = {}
        for limit in (header or "").split(","):
            name, equals, value = (part.strip(" \t") for part in limit.partition("="))
            if not name or not equals:
                return None
            if name in names:
                if not (value.isascii() and value.isdigit() and 0 < int(value) <= INTEGER_MAX):
                    return None
                found[names[name]] = int(value)
        return cls(**found)


def channel_entry(message_id: str, body: str, reply_wait_ms: int | None) -> str:
    """The text of one entry; with a time to wait it is a request."""
    wait = "" if reply_wait_ms is None else f',"reply_wait_ms":{reply_wait_ms}'
    return f'{{"id":"{message_id}","body":{body}{wait}}}'


def channel_body(first: int, entries: list[str], resume: int | None) -> str:
    """The body of a frame that a client sends on a channel."""
    again = "" if resume is None else f'"resume":{resume},'
    return f'{{"first":{first},{again}"entries":[{",".join(entries)}]}}'
