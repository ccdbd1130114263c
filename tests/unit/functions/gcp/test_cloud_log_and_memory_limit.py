"""Log entries as Cloud Logging reads them, and the room for which mails take turns."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from functions.bucket.memory_limit import MemoryLimit
from functions.gcp import cloud_log

MIB = 1_048_576


@pytest.fixture
def entries() -> Iterator[Any]:
    root, ours = logging.getLogger(), logging.getLogger("smtp_relay")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    cloud_log.set_up(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], level, own = before
    root.setLevel(level)
    ours.setLevel(own)


def test_entries(entries: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    token = cloud_log.trace.set(cloud_log.trace_of("0af7651916cd43dd8448eb211c80319c/1;o=1"))
    log = logging.getLogger("smtp_relay.delivery")
    log.info("delivered %s", "it", extra={"id": "1", "odd": {1, 2}, "text": "a\nb\u2028ä"})
    log.debug("not at INFO")
    logging.getLogger("other").info("not ours")
    logging.getLogger("other").warning("ours to know")
    cloud_log.trace.reset(token)
    try:
        raise ValueError("why")
    except ValueError:
        log.exception("fault")
    first, second, third = entries()
    assert first["severity"] == "INFO"
    assert first["message"] == "delivered it"
    assert first["id"] == "1"
    assert first["text"] == "a\nb\u2028ä"
    assert first["logging.googleapis.com/trace"] == "projects/p/traces/0af7651916cd43dd8448eb211c80319c"
    assert second["severity"] == "WARNING"
    assert third["severity"] == "ERROR"
    assert "ValueError: why" in third["message"]
    assert "logging.googleapis.com/trace" not in third
    assert "exc_info" not in third


@pytest.mark.parametrize("header", [None, "", "x", "0af7"])
def test_no_trace(header: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "p")
    assert cloud_log.trace_of(header) == ""


def test_room_for_small_and_none_for_large() -> None:
    budget = MemoryLimit(100 * MIB)
    with budget.room(6 * MIB, 0) as one, budget.room(1000, 0) as two, budget.room(6 * MIB, 0.01) as three:
        assert (one, two, three) == (True, True, False)
    with budget.room(500 * MIB, 0) as alone, budget.room(0, 0) as beside:
        assert (alone, beside) == (True, False)


def test_a_mail_that_waits_gets_its_turn() -> None:
    budget = MemoryLimit(10 * MIB)
    got = []

    def wait() -> None:
        with budget.room(MIB, 10) as had:
            got.append(had)

    with budget.room(MIB, 0):
        thread = threading.Thread(target=wait)
        thread.start()
        assert got == []
    thread.join(10)
    assert got == [True]
