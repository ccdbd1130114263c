"""`loggers` as the replaced system documents them: types, level and LOG_LEVEL, size limit, format,
and silence."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import pytest

from tests.support.clients.wire import submit
from tests.support.servers.reference import example
from tests.support.servers.relay import Relay

MAIL: Final = b"Subject: x\r\n\r\ny\r\n"

Make = Callable[..., Relay]


@pytest.fixture(params=["top", "options"])
def place(request: pytest.FixtureRequest) -> str:
    """The places of `loggers`: both places are documented."""
    return str(request.param)


def served(new_relay: Make, loggers: Any, *, place: str = "top", **env: str) -> Relay:
    """A relay with these loggers that has taken one mail and ended."""
    part = {"loggers": loggers}
    relay = new_relay(part if place == "top" else {"options": part}, env=env).start()
    assert submit(relay.port, MAIL).code == 250
    assert relay.stop() == 0
    return relay


def test_as_printed(new_relay: Make, place: str) -> None:
    relay = served(new_relay, example("loggers")["loggers"], place=place)
    file = (relay.folder / "smtp.log").read_text()
    assert "[ INFO]" in file
    assert "mail accepted" in file
    # The console has the same mail in a person's words.
    assert len([line for line in relay.log().splitlines() if " → 1 recipient  " in line]) == 1


def test_a_single_console_logger_by_default(new_relay: Make) -> None:
    relay = new_relay()
    del relay.config["loggers"]
    relay.start()
    assert submit(relay.port, MAIL).code == 250
    assert relay.stop() == 0
    assert relay.log().count(" → 1 recipient  ") == 1


def test_none_at_all(new_relay: Make, place: str) -> None:
    assert served(new_relay, [], place=place).log() == ""


@pytest.mark.parametrize(
    ("level", "variable", "info", "debug"),
    [
        ("DEBUG", "", True, True),
        ("WARN", "DEBUG", False, False),
        (None, "", True, False),
        (None, "DEBUG", True, True),
        (None, "ERROR", False, False),
    ],
)
def test_level(new_relay: Make, level: str | None, variable: str, info: bool, debug: bool) -> None:
    one = {"type": "CONSOLE"} | ({"level": level} if level else {})
    text = served(new_relay, [one], **({"LOG_LEVEL": variable} if variable else {})).log()
    assert (" → 1 recipient  " in text, "[DEBUG]" in text) == (info, debug)


def test_a_number_is_added_at_the_size_limit(new_relay: Make) -> None:
    relay = new_relay({"loggers": [{"type": "FILE", "filepath": "./smtp.log", "sizeLimit": 2_000}]}).start()
    for _ in range(20):
        assert submit(relay.port, MAIL).code == 250
    assert relay.stop() == 0
    files = sorted(path.name for path in relay.folder.glob("smtp.log*"))
    assert "smtp.log" in files
    assert len(files) > 2
    assert all(re.fullmatch(r"smtp\.log(\.\d+)?", name) for name in files)
    assert relay.log() == ""


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("%(d)s [%(l)s] %(m)s", r"^\d{4}-\d\d-\d\dT\S+Z \[ INFO\] mail accepted"),
        ("%(t)s %(m)s", r"^\d{13} mail accepted"),
    ],
)
def test_format(new_relay: Make, template: str, line: str) -> None:
    text = served(new_relay, [{"type": "CONSOLE", "format": template}]).log()
    assert re.search(line, text, re.MULTILINE), text


def test_every_mail_has_its_line_when_its_client_has_the_answer(new_relay: Make) -> None:
    """A mail that comes alone at once; one of many with those that were stored with it."""
    relay = new_relay({"loggers": [{"type": "FILE", "filepath": "./smtp.log"}]}).start()
    file = relay.folder / "smtp.log"
    for number in range(1, 11):
        assert submit(relay.port, MAIL).code == 250
        assert file.read_text().count("mail accepted") == number
    with ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(lambda _: submit(relay.port, MAIL).code, range(200)))
    assert codes == [250] * 200
    assert relay.stop() == 0
    ids = re.findall(r"mail accepted id=(\S+)", file.read_text())
    assert len(ids) == len(set(ids)) == 210
