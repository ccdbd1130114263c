"""The JSON bodies of requests: read as a whole, with bounds, and never guessed at."""

from __future__ import annotations

import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

MOST = 4_194_304
"""Bytes of a body."""


async def body_of(request: Request, **kinds: type) -> dict[str, Any]:
    """The object that a request carries, {} for an empty body. `kinds` are its keys and their types: `list`
    is one of texts. Names of keys count in any case, as there. Raises HTTPException for anything else, so
    that nothing happens by mistake."""
    value = await object_of(request)
    if value is None and request.method == "PUT":
        raise HTTPException(
            400, "the body is empty"
        )  # it says what to change; there, only DELETE does without
    names = {name.lower(): name for name in kinds}
    found: dict[str, Any] = {}
    for key, one in (value or {}).items():
        name = names.get(key.lower())
        if name is None or name in found:
            raise HTTPException(400, f"unknown key {key[:100]!r} (there are {', '.join(kinds)})")
        if one is None:
            continue
        if not isinstance(one, kinds[name]) or (isinstance(one, list) and not _texts(one)):
            raise HTTPException(400, f"{name} has the wrong type")
        found[name] = one
    return found


async def object_of(request: Request) -> dict[str, Any] | None:
    """The object that a request carries, None for an empty body. Raises HTTPException for anything else."""
    data = await _bytes(request)
    if not data.strip():
        return None
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "the body must be application/json")
    try:
        value = json.loads(data, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, "the body is not an object")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice")
    return found


def _texts(values: list[Any]) -> bool:
    return all(isinstance(one, str) for one in values)


async def _bytes(request: Request) -> bytes:
    pieces, size = [], 0
    async for piece in request.stream():
        size += len(piece)
        if size > MOST:
            raise HTTPException(413, f"the body is larger than {MOST} bytes")
        pieces.append(piece)
    return b"".join(pieces)
