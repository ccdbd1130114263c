"""An endpoint, filters that ask it, and a client's session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from functions.ids import uuid7
from functions.message.envelope import Tls
from listener.api.filter import BuildContext
from listener.api.session import Session, Transaction
from listener.filters.http.filter import HttpFilter
from listener.filters.registry import FILTERS, build_filter
from listener.intake.capture import Capture
from tests.support.servers.endpoint import Endpoint, endpoint

BOTH = ("bob@example.com", "Eve@example.com")
JSON = {"Content-Type": "application/json; charset=utf-8"}


def said(**answer: Any) -> bytes:
    return json.dumps(answer).encode()


def session(**changes: Any) -> Session:
    facts: dict[str, Any] = {
        "id": "c0ffee",
        "listener": "smtp",
        "ip": "192.0.2.1",
        "port": 4000,
        "name": "mail.example.org",
        "server": "127.0.0.1:25",
        "helo": "client.example",
        "esmtp": True,
        "tls": Tls(version="TLSv1.3", cipher="X"),
        "user": "ann",
    }
    return Session(**{**facts, **changes})


def transaction() -> Transaction:
    return Transaction(uuid7(), "bounce@example.org", recipients=list(BOTH))


@pytest.fixture
def server() -> Iterator[Endpoint]:
    with endpoint() as made:
        yield made


@pytest.fixture(autouse=True)
def _direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")  # despite the proxies of this machine


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Builds filters as the configuration would, starts them, and stops them at the end."""
    made: list[HttpFilter] = []

    async def build(url: str, **options: Any) -> HttpFilter:
        context = replace(BuildContext.of(tmp_path, {}), flow="inbound")
        one = build_filter(FILTERS.parse({"type": "http-filter", "url": url, **options}), "http_0", context)
        assert isinstance(one, HttpFilter)
        await one.start()
        made.append(one)
        return one

    yield build
    for one in made:
        await one.stop()


@pytest.fixture
def take(tmp_path: Path) -> Callable[[bytes], Capture]:
    """The mail as the listener holds it: in memory, or in a file if it is large."""

    def capture(content: bytes) -> Capture:
        made = Capture(
            tmp_path, uuid7(), lambda head, rest: (b"", head), max_size=50_000_000, max_header=1_048_576
        )
        for at in range(0, len(content), 100_000):
            made.feed(content[at : at + 100_000])
        made.finish()
        return made

    return capture
