"""The conformance suites, and their readers.

Recorded mails and the ARC suite are in tests/data/conformance, whose README names their sources.
RFC 7208's own suite is in pyspf's source distribution: scripts/setup.py puts it into .state. If it
was not fetched, tests that need it skip and say so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import pytest
import yaml

from scripts.setup import SPF_SUITE
from tests.support.servers.relay import ROOT

FOLDER: Final = ROOT / "tests" / "data" / "conformance"

Zone = dict[str, dict[str, Any]]

_MISSING: Final = "the SPF suite is missing (`make test` fetches it with pyspf's source distribution)"

needs_spf_suite: Final = pytest.mark.skipif(not SPF_SUITE.is_file(), reason=_MISSING)


def each(names: tuple[str, ...], cases: Iterable[tuple[str, tuple[Any, ...]]]) -> pytest.MarkDecorator:
    """Run a test for each (id, values); without any, one test that skips with the reason."""
    found = [pytest.param(*values, id=name) for name, values in cases]
    absent = pytest.param(*[None] * len(names), id="absent", marks=pytest.mark.skip(reason=_MISSING))
    return pytest.mark.parametrize(names, found or [absent])


@dataclass(frozen=True)
class Case:
    """One mail with its zone and the right findings."""

    name: str
    message: bytes
    zone: Zone
    facts: dict[str, Any]

    def right(self, what: str, found: str) -> bool:
        """True if the finding is one of those expected, if any is."""
        expected = self.facts["expect"].get(what)
        return expected is None or found in ([expected] if isinstance(expected, str) else expected)


@cache
def cases() -> list[Case]:
    """The recorded mails."""
    return [
        Case(
            folder.name,
            (folder / "message.eml").read_bytes(),
            json.loads((folder / "zone.json").read_text()),
            json.loads((folder / "case.json").read_text()),
        )
        for folder in sorted((FOLDER / "cases").iterdir())
    ]


@cache
def spf_suite() -> list[tuple[str, dict[str, Any], Zone]]:
    """Name, test and zone of each case of RFC 7208's suite; none if it was not fetched."""
    found = []
    for scenario in yaml.load_all(SPF_SUITE.read_text(), yaml.CSafeLoader) if SPF_SUITE.is_file() else ():
        zone = _spf_zone(scenario["zonedata"])
        found += [(name, test, zone) for name, test in scenario["tests"].items()]
    return found


@cache
def arc_suite() -> list[tuple[str, bytes, str, Zone]]:
    """Name, mail, right result ("" if a seal reports a failure itself) and zone of each case of the ARC
    validation suite."""
    found = []
    for path in sorted((FOLDER / "arc").iterdir()):
        scenario = json.loads(path.read_text())
        zone: Zone = {name: {"TXT": [text]} for name, text in scenario["records"].items()}
        for name, test in scenario["tests"].items():
            found.append((name, "\r\n".join(test["message"]).encode(), test["cv"].lower(), zone))
    return found


def _spf_zone(data: dict[str, list[Any]]) -> Zone:
    """The suite's zone format as this project's. If a name has no TXT, its SPF records replace them."""
    zone: Zone = {}
    for name, records in data.items():
        types = zone.setdefault(name.lower().removesuffix("."), {})
        has_txt = any(isinstance(record, dict) and "TXT" in record for record in records)
        for record in records:
            if isinstance(record, str):
                types["*"] = record
                continue
            for type_, value in record.items():
                if (type_ == "SPF" and has_txt) or value == "NONE":
                    continue
                types.setdefault("TXT" if type_ == "SPF" else type_, []).append(value)
    return zone
