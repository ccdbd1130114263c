"""What the filter makes of recorded mails, to the last byte: header fields, results, log and decision are
those of tests/data/mail_auth_before.json, whether a mail is the first of its sender or not, and whatever is
known of its line ends. `python -m tests.unit.listener.mailauth.test_as_before` writes that file anew."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import types
from collections.abc import Iterator
from typing import Any, Final

import pytest

from functions.message.headers import head_size
from listener.api.decision import Decision
from listener.api.session import Session, Transaction
from listener.filters.mail_auth import MailAuthFilter
from listener.filters.registry import FILTERS
from listener.mailauth import check
from listener.mailauth.dns.zone import MemoryResolver
from tests.support.mails.conformance import arc_suite, cases
from tests.support.servers.relay import ROOT

BEFORE: Final = ROOT / "tests" / "data" / "mail_auth_before.json"
NOW: Final = 1_750_000_000.0
OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "usual": {},
    "strict": {"refuse": ["spf-fail", "dkim-fail", "dmarc-quarantine"]},
    "little": {"mailauth": {"disableArc": True, "disableDmarc": True}},
}


class Arrived:
    """A mail as the listener holds it; `crlf` says what it knows of the line ends."""

    def __init__(self, data: bytes, *, crlf: bool) -> None:
        self.data = data
        self.head = data[: head_size(data)]
        self.size = len(data)
        self.crlf = crlf

    def content(self) -> bytes:
        return self.data

    def chunks(self, size: int = 262_144) -> Iterator[bytes]:
        for at in range(0, len(self.data), size):
            yield self.data[at : at + size]


def mails() -> Iterator[tuple[str, bytes, Any, tuple[str, str, str]]]:
    """Name, bytes, zone, and the client's address, name and reverse-path."""
    for case in cases():
        facts = case.facts
        yield case.name, case.message, case.zone, (facts["ip"], facts["helo"], facts["mail_from"])
    for name, mail, _, zone in arc_suite():
        yield f"arc {name}", mail, zone, ("192.0.2.1", "mx.example.org", "jqd@d1.example")


async def answered(one: MailAuthFilter, mail: bytes, whose: tuple[str, str, str], *, crlf: bool) -> Any:
    """All that the filter says of a mail."""
    lines: list[dict[str, Any]] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append({"message": record.getMessage(), **shown(record)})

    handler = Lines()
    logger = logging.getLogger("smtp_relay.mailauth")
    logger.addHandler(handler)
    try:
        ip, helo, path = whose
        session = Session("S", "smtp", ip, 4000, f"[{ip}]", "127.0.0.1:25", helo=helo)
        arrived: Any = Arrived(mail, crlf=crlf)
        decision = one.on_data(session, Transaction("T", path), arrived, ("bob@example.net",))
        if not isinstance(decision, Decision):  # a thread checks it
            decision = await decision
    finally:
        logger.removeHandler(handler)
    return {
        "verdict": decision.verdict,
        "reply": decision.reply and str(decision.reply),
        "headers": [list(pair) for pair in decision.headers],
        "results": decision.results,
        "log": lines,
    }


def shown(record: logging.LogRecord) -> dict[str, Any]:
    names = list(vars(record))
    return {name: vars(record)[name] for name in names[names.index("session") :]}


def made(zone: Any, options: str) -> MailAuthFilter:
    parsed: Any = FILTERS.parse({"type": "mail-auth", **OPTIONS[options]})
    one = MailAuthFilter("auth_0", parsed.checks(), frozenset(parsed.refuse), MemoryResolver(zone))
    one.removals("mx.receiver.example")
    return one


@pytest.fixture(autouse=True)
def _time_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "time", types.SimpleNamespace(time=lambda: NOW))
    monkeypatch.setattr(logging.getLogger("smtp_relay.mailauth"), "level", logging.INFO)


@pytest.mark.parametrize("options", OPTIONS)
async def test_all_that_the_filter_says_is_as_before(options: str) -> None:
    before = json.loads(BEFORE.read_text())
    found = {}
    for name, mail, zone, whose in mails():
        one = made(zone, options)
        first = found[name] = await answered(one, mail, whose, crlf=False)
        crlf = not any(end in mail.replace(b"\r\n", b"") for end in (b"\r", b"\n"))
        assert await answered(one, mail, whose, crlf=crlf) == first, name
        other = (whose[0], whose[1], f"other{whose[2]}" if whose[2] else "")
        alone = await answered(made(zone, options), mail, other, crlf=False)
        assert await answered(one, mail, other, crlf=False) == alone, name
        assert await answered(one, mail, whose, crlf=crlf) == first, name
    for name, one_found in found.items():
        assert written(one_found, options) == before[f"{options} {name}"], name
    assert len(before) == len(found) * len(OPTIONS)


def written(found: Any, options: str) -> Any:
    """All of it for recorded mails with the usual options, else only a digest."""
    if options == "usual" and not found["results"].get("arc", {}).get("instances"):
        return json.loads(json.dumps(found))
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


async def write() -> None:
    """Write the file."""
    logging.getLogger("smtp_relay.mailauth").setLevel(logging.INFO)
    check.time = types.SimpleNamespace(time=lambda: NOW)  # type: ignore[assignment]
    lines = []
    for options in OPTIONS:
        for name, mail, zone, whose in mails():
            found = await answered(made(zone, options), mail, whose, crlf=False)
            lines.append(f"{json.dumps(f'{options} {name}')}: {json.dumps(written(found, options))}")
    BEFORE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    asyncio.run(write())
