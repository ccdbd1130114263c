"""Receipts, marks and identities of earlier versions: no effect that took place takes place again.

The recordings are `golden/recorded-*`; `tests.support.golden.recording` describes their content.
Those of the clouds are read in `tests/e2e/aws/test_aws_upgrade.py` and
`tests/e2e/gcp/test_gcp_upgrade.py`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from functions.local.deadletters import open_dead_letters
from functions.processors.registry import KINDS, OUTPUTS
from functions.spool.deadletters import KeptSelection, Selection
from tests.support.golden.identities import OPTIONS, keys_of
from tests.support.golden.local import LocalSite, record, restore
from tests.support.golden.recording import GOLDEN, name_of, once, read_json, recordings
from tests.support.servers.smarthost import smarthost

OWED: Final = once(
    *("first fresh fine", "second fresh fine", "first large fine", "second large fine"),
    *("first kept fine", "second kept fine", "first partly later-first", "first waiting later-first"),
    *("second dropped later-second", "first replayed never-first", "second claimed silent-first"),
)
"""The effects that the recording version left undone. It began everything else, and recorded that."""

DOUBTS: Final = once("first claimed silent-first", "second receipts silent-second")
"""The effects that it began without seeing their end."""

IDENTITIES: Final[list[dict[str, Any]]] = [
    one for path in recordings("identities.json") for one in read_json(path)
]


@pytest.fixture(params=recordings("local.json"), ids=lambda path: path.parent.name)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalSite]:
    """A recorded spool, and next servers that accept everything now."""
    with smarthost() as first, smarthost() as second:
        yield restore(request.param.parent, tmp_path, {"first": first, "second": second})


async def deliver(site: LocalSite, **options: Any) -> None:
    """Make this version deliver all unfinished mails."""
    local = site.start(again=0.01, **options)
    await site.until(
        lambda: not local._busy() and site.rows("SELECT count(*) FROM mail WHERE parked = 0") == [(0,)],
        "everything to be finished or parked",
    )
    assert await local.stop(5) == 0


def received(site: LocalSite) -> Counter[str]:
    """How many files the `file` output made of each mail."""
    return Counter(name_of(path.read_bytes()) for path in (site.folder / "received").iterdir())


ONE_FILE_EACH: Final = dict.fromkeys(
    (
        *("claimed", "receipts", "done", "partly", "waiting", "parked"),
        *("partly-refused", "dropped", "replayed", "fresh", "large"),
    ),
    1,
) | {"kept": 2}
"""The replay of a kept mail is stored beside the first copy."""


async def test_a_local_spool_goes_on_where_an_earlier_version_stopped(site: LocalSite) -> None:
    await deliver(site)
    assert site.effects() == OWED + DOUBTS
    assert sorted(site.doubts.outputs) == ["mailer_1", "second"]
    assert received(site) == ONE_FILE_EACH
    assert not list(site.part.staging.iterdir())
    # This layout keeps a mail whose dead record was dropped before its other outputs were done.
    assert site.left() - {"dropped"} == {"parked", "partly-refused"}
    assert site.rows("SELECT count(*) FROM receipt WHERE state <> 'done'") == [(0,)]


async def test_a_local_doubt_of_an_earlier_version_is_given_up_where_that_is_asked_for(
    site: LocalSite,
) -> None:
    await deliver(site, on_doubt="dead-letter")
    assert site.effects() == OWED
    assert sorted(site.doubts.outputs) == ["mailer_1", "second"]
    with closing(open_dead_letters(site.config, site.folder, {})) as letters:
        reasons = [record.reason for record in letters.list(Selection())]
    assert reasons.count("an earlier run ended before it knew the outcome") == 2


async def test_a_local_dead_letter_of_an_earlier_version_asks_only_refused_recipients(
    site: LocalSite,
) -> None:
    with closing(open_dead_letters(site.config, site.folder, {})) as letters:
        assert len(list(letters.kept(KeptSelection()))) == 1
        records = list(letters.list(Selection()))
        assert sorted(record.output for record in records) == ["mailer_1", "mailer_1", "unknown"]
        for record in records:
            if record.flow:
                letters.replay(record, now=False)
    await deliver(site)
    replayed = once("first parked never-first", "first partly-refused never-first")
    assert site.effects() == OWED + DOUBTS + replayed


async def test_a_local_output_of_another_identity_has_no_receipts(site: LocalSite) -> None:
    outputs = site.raw["flows"]["in"]["outputs"]
    (second,) = [one for one in outputs if one.get("name") == "second"]
    second["name"] = "renamed"
    changed = LocalSite(site.folder, site.raw, site.hosts)
    changed.servers = {"mailer_1": "first", "renamed": "second"}
    await deliver(changed)
    repeated = {effect for effect in changed.effects() - OWED if effect[0] == "second"}
    assert {("second", "done", "fine"), ("second", "partly", "fine")} <= repeated


async def test_a_recording_made_now_is_read_like_the_earlier_ones(tmp_path: Path) -> None:
    await record(tmp_path / "recording", tmp_path / "made")
    with smarthost() as first, smarthost() as second:
        site = restore(tmp_path / "recording", tmp_path / "read", {"first": first, "second": second})
        await deliver(site)
        assert site.effects() == OWED + DOUBTS


@pytest.mark.parametrize("recorded", IDENTITIES, ids=lambda one: one["identity"])
def test_an_output_is_known_by_the_identity_and_keys_of_earlier_versions(recorded: dict[str, Any]) -> None:
    identity = OUTPUTS.parse(recorded["options"]).identity()
    assert identity.encode() == recorded["identity"].encode()
    assert keys_of(identity) == recorded["keys"]


@pytest.mark.parametrize("recorded", [one for one in IDENTITIES if one["options"]["type"] == "file"])
@pytest.mark.parametrize("later", [{"addRawHeaders": True}, {"retention": {"count": 1}}])
def test_options_of_later_versions_leave_a_file_output_its_identity(
    recorded: dict[str, Any], later: dict[str, Any]
) -> None:
    identity = OUTPUTS.parse(recorded["options"] | later).identity()
    assert identity.encode() == recorded["identity"].encode()
    assert keys_of(identity) == recorded["keys"]


def test_every_type_of_output_has_recorded_identities() -> None:
    recorded = {one["options"]["type"] for one in IDENTITIES}
    newer = {"webhook"}  # than the last recording; the next one will have it
    assert recorded.isdisjoint(newer)
    assert recorded | newer == set(KINDS)
    assert {one["type"] for one in OPTIONS} == set(KINDS)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("recorded-*/*")), ids=lambda path: path.name)
def test_recordings_hold_no_secret_and_no_path_of_the_machine_that_made_them(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"/(?:tmp|home|root|Users|work|private|opt)/|PRIVATE KEY|BEGIN CERT|AKIA", text)
    for password in re.findall(r'"(?:pass|accessToken)": "([^"]*)"', text):
        assert password.startswith("env:"), password
