"""The hooks and fixtures. pytest loads this module in every run, so it imports the others where a test asks
for a mailbox."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from smtp_relay_testing.mailbox import Mailbox
    from smtp_relay_testing.server import Server

_OPTION: Final = "smtp_relay_settings"
_MAILBOX: Final = pytest.StashKey["Mailbox"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Which settings lead to the mailbox."""
    text = "what is set to the mailbox in tests that use it, of: django flask env"
    parser.addini(_OPTION, text, type="args", default=[])
    group = parser.getgroup("smtp-relay")
    group.addoption("--smtp-relay-settings", metavar="NAMES", help=f"{text} (instead of the ini option)")


@pytest.fixture(scope="session")
def _smtp_relay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests of this process; each worker of pytest-xdist has its own."""
    from smtp_relay_testing.server import Server

    folder = tmp_path_factory.mktemp("smtp-relay")
    with closing(Server(folder)) as server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mailbox(request: pytest.FixtureRequest, _smtp_relay_server: Server) -> Iterator[Mailbox]:
    """The mails of one test: an SMTP server to send to, and what came."""
    from smtp_relay_testing.mailbox import Mailbox
    from smtp_relay_testing.settings import lead_to

    made = Mailbox(_smtp_relay_server, request.node.name)
    request.node.stash[_MAILBOX] = made
    try:
        with lead_to(made, _settings(request.config), request):
            yield made
    finally:
        del request.node.stash[_MAILBOX]
        made.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Add the mails of a failed test to its report."""
    report: pytest.TestReport = yield  # type: ignore[assignment] # pytest sends it
    mailbox = item.stash.get(_MAILBOX, None)
    if mailbox is not None and report.failed:
        report.sections.append((f"Mails of {mailbox.username}", mailbox.report()))
    return report  # type: ignore[return-value] # as a wrapper must


def _settings(config: pytest.Config) -> list[str]:
    given: str | None = config.getoption("--smtp-relay-settings")
    names: list[str] = config.getini(_OPTION) if given is None else given.replace(",", " ").split()
    return names
