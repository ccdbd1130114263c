"""Where the public conformance suites are, and how they are read.

They are not part of the project: the folder is SMTP_RELAY_CONFORMANCE, else `shared/conformance` beside
the repository. Where there is none, tests that need it skip and say so.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.support.servers.relay import ROOT

_BESIDE: Final = ROOT.parent / "shared" / "conformance"
FOLDER: Final = Path(os.environ.get("SMTP_RELAY_CONFORMANCE", _BESIDE))

Zone = dict[str, dict[str, Any]]

_MISSING: Final = "conformance data is not here: set SMTP_RELAY_CONFORMANCE to its folder"

needs_suites: Final = pytest.mark.skipif(not FOLDER.is_dir(), reason=_MISSING)


def each(names: tuple[str, ...], cases: Iterable[tuple[str, tuple[Any, ...]]]) -> pytest.MarkDecorator:
    """Run a test for each (id, values); one test that skips and says why when there is none."""
    found = [pytest.param(*values, id=name) for name, values in cases]
    absent = pytest.param(*[None] * len(names), id="absent", marks=pytest.mark.skip(reason=_MISSING))
    return pytest.mark.parametrize(names, found or [absent])


@dataclass(frozen=True)
class Case:
    """One mail with its zone and what is right to find of it."""

    name: str
    message: bytes
    zone: Zone
    facts: dict[str, Any]

    def right(self, what: str, found: str) -> bool:
        """Whether the finding is one of those expected, where any is."""
        expected = self.facts["expect"].get(what)
        return expected is None or found in ([expected] if isinstance(expected, str) else expected)


@cache
def cases() -> list[Case]:
    """The recorded mails."""
    if not (FOLDER / "cases").is_dir():
        return []
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
    """Name, test and zone of each case of RFC 7208's suite."""
    found = []
    for scenario in _documents("rfc7208-tests.yml"):
        zone = _spf_zone(scenario["zonedata"])
        found += [(name, test, zone) for name, test in scenario["tests"].items()]
    return found


@cache
def arc_suite() -> list[tuple[str, dict[str, Any], Zone]]:
    """Name, test and zone of each case of the ARC validation suite."""
    found = []
    for scenario in _documents("arc-draft-validation-tests.yml"):
        records = scenario.get("txt-records") or {}
        zone = {name: {"TXT": [text]} for name, text in records.items()}
        found += [(name, test, zone) for name, test in scenario["tests"].items()]
    return found


def _documents(name: str) -> list[dict[str, Any]]:
    path = FOLDER / name
    if not path.is_file():
        return []
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def _spf_zone(data: dict[str, list[Any]]) -> Zone:
    """The suite's zone format as ours. Where a name has no TXT, its SPF records stand for them."""
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
