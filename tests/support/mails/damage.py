"""Kinds of damage to a stored mail, and envelopes that no code should trust."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from functions.message.envelope import FIELD_NAME, Envelope

DAMAGED: Final = "the stored mail is damaged"
"""The reason of a dead record."""


def flipped(data: bytes) -> bytes:
    """The same length with one bit changed, near the end."""
    at = max(0, len(data) - 3)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGES: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "a bit flipped": flipped,
    "the last byte gone": lambda data: data[:-1],
    "half of it gone": lambda data: data[: len(data) // 2],
    "nothing left": lambda data: b"",
    "zeros at the end": lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    "a byte too many": lambda data: data + b"x",
    "two bytes swapped": lambda data: data[:-3] + data[-2:-1] + data[-3:-2] + data[-1:],
}


def _changed(**values: Any) -> Callable[[Envelope], bytes]:
    def text(envelope: Envelope) -> bytes:
        return json.dumps(json.loads(envelope.to_json()) | values).encode()

    return text


def _with_notes(results: str) -> Callable[[Envelope], bytes]:
    """`results` is JSON text that json.dumps would not write."""

    def text(envelope: Envelope) -> bytes:
        raw = json.loads(envelope.to_json()) | {"notes": {"in": {"results": {"x": "HERE"}}}}
        return json.dumps(raw).replace('"HERE"', results).encode()

    return text


HOSTILE: Final[Mapping[str, Callable[[Envelope], bytes]]] = {
    "no JSON": lambda envelope: envelope.to_json()[:-1],
    "an empty text": lambda envelope: b"",
    "a list": lambda envelope: b"[]",
    "null": lambda envelope: b"null",
    "nested lists": lambda envelope: b"[" * 200_000 + b"]" * 200_000,
    "nested objects": lambda envelope: b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "nested beyond what is written": _with_notes('{"a":' * 600 + "1" + "}" * 600),
    "another schema": _changed(schema=2),
    "a schema that is true": _changed(schema=True),
    "a schema that is a fraction": _changed(schema=1.0),
    "no schema": _changed(schema=None),
    "a size that is a list": _changed(size=[1]),
    "a negative size": _changed(size=-1),
    "a received time beyond all calendars": _changed(received=10**30),
    "a negative received time": _changed(received=-(10**15)),
    "a received time that is a text": _changed(received="yesterday"),
    "a number of 5,000 digits": lambda envelope: envelope.to_json()[:-1] + b',"x":' + b"9" * 5_000 + b"}",
    "NaN": _with_notes("NaN"),
    "infinity": _with_notes("-Infinity"),
    "a number beyond all floats": _with_notes("1e999"),
    "a key twice": lambda envelope: envelope.to_json()[:-1] + b',"size":1}',
    "a key twice within": _with_notes('{"a": 1, "a": 2}'),
    "bytes that are no UTF-8": lambda envelope: envelope.to_json()[:-1] + b',"helo":"\xff\xfe"}',
    "half a surrogate pair": _changed(helo="\ud800"),
    "half a surrogate pair in a result": _with_notes('"\\ud800"'),
    "no recipient": _changed(recipients=[]),
    "a recipient of no flow": _changed(recipients=[{"address": "a@b.example", "flows": []}]),
    "recipients that are numbers": _changed(recipients=[1, 2]),
    "an id that is a number": _changed(id=7),
    "a client that is null": _changed(client=None),
    "a replay number that is negative": _changed(replay=-1),
}
"""Name to the envelope's JSON. None of these may be delivered, and none may end the run."""


def object_of(text: bytes, content: bytes) -> bytes:
    """A spool object with this as its envelope's JSON."""
    return FIELD_NAME + b": " + base64.b64encode(text) + b"\r\n" + content
