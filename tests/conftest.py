"""Fixtures around a running server, and the rule that no test skips in CI."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from scripts.fresh import MAY_SKIP
from tests.support.clients.dialogue import play
from tests.support.servers.pool import Pool
from tests.support.servers.relay import Relay, Stock

# Tests start many hundred processes, which all import the server: they keep byte-code, also where the machine
# tells Python to keep none, and look for no plugins of pydantic in the packages of this environment.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"

# The duration of an example depends on the machine, not on the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


_LONGEST: Final = (
    *("aws-cdk", "aws", "gcp", "image", "aws-wheels", "cdk", "aws-terraform", "terraform-aws"),
    *("test_attacks_fair", "test_attacks_slow", "test_docs"),
)
"""Groups that take longest, in the order of their start: the last ones to start must be short, because
all processes should end together."""

_TESTS: Final = Path(__file__).parent


def _shares_servers(path: Path) -> bool:
    """True if the tests of a file share servers, because starting one takes half a second of a core."""
    room, *rest = path.relative_to(_TESTS).parts
    return room == "dialogue" or (room == "e2e" and rest[0] not in ("aws", "gcp"))


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    for item in items:
        if _shares_servers(item.path) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    yield
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    group = item.get_closest_marker("xdist_group")
    return _LONGEST.index(group.args[0]) if group and group.args[0] in _LONGEST else len(_LONGEST)


def _in_ci() -> bool:
    return os.environ.get("CI") == "true"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report: pytest.TestReport = yield  # type: ignore[assignment, misc]
    if _in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        _forbid(report)
    return report  # type: ignore[return-value]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report: pytest.CollectReport = yield  # type: ignore[assignment, misc]
    if _in_ci() and report.skipped:
        _forbid(report)
    return report  # type: ignore[return-value]


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    reason = reason.removeprefix("Skipped: ")
    if not reason.startswith(MAY_SKIP):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI, where nothing may skip: {reason}"


@pytest.fixture(scope="session")
def pool() -> Iterator[Pool]:
    with tempfile.TemporaryDirectory(prefix="relays-") as folder:
        shared = Pool(Path(folder))
        try:
            yield shared
        finally:
            shared.close()


@pytest.fixture
def relay_for(pool: Pool) -> Iterator[Callable[..., Relay]]:
    """Gives a running relay for a configuration, shared with other tests and emptied of mails.
    Afterwards it must still run, and must not have logged a traceback."""
    used: dict[int, tuple[Relay, int]] = {}

    def get(config: Mapping[str, Any] | None = None, **options: Any) -> Relay:
        relay = pool.get(config, options)
        used.setdefault(relay.port, (relay, len(relay.log())))
        return relay

    yield get
    for relay, seen in used.values():
        assert relay.alive, f"the server ended:\n{relay.log()[seen:]}"
        assert "Traceback" not in relay.log()[seen:], relay.log()[seen:]


@pytest.fixture
def relay(relay_for: Callable[..., Relay]) -> Relay:
    """A relay that takes all mail from loopback into a folder, with default options."""
    return relay_for()


@pytest.fixture
def new_relay(tmp_path: Path) -> Iterator[Callable[..., Relay]]:
    """Makes relays of this test's own, not started yet; for tests that stop, kill or starve them."""
    made: list[Relay] = []

    def make(config: Mapping[str, Any] | None = None, **arguments: Any) -> Relay:
        made.append(Relay(tmp_path / f"relay-{len(made)}", config, **arguments))
        return made[-1]

    yield make
    for each in made:
        if each.alive:
            each.kill()


@pytest.fixture
def stock_for(tmp_path: Path) -> Iterator[Callable[..., Stock]]:
    """Starts stock aiosmtpd servers, the ones whose traps the relay avoids."""
    made: list[Stock] = []

    def start(*flags: str) -> Stock:
        made.append(Stock(tmp_path / f"stock-{len(made)}", *flags).start())
        return made[-1]

    yield start
    for each in made:
        if each.alive:
            each.kill()


@pytest.fixture
def dialogue(relay: Relay) -> Callable[..., None]:
    """Plays a transcript against the default relay, or against `on`."""

    def run(transcript: str, *, on: Relay | None = None, chunks: int | None = None) -> None:
        play((on or relay).port, transcript, chunks=chunks)

    return run
