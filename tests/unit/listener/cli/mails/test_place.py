"""The server that `send` speaks to when it is told all, a part, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from listener.cli.mails.place import Place, address, place, server_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configured(name: str = "smtp-relay.json", **keys: Any) -> None:
    Path(name).write_text(json.dumps({"flows": {}, **keys}))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("h.test", ("h.test", None)),
        ("h.test:25", ("h.test", 25)),
        ("[::1]:25", ("::1", 25)),
        ("[::1]", ("::1", None)),
    ],
)
def test_addresses(text: str, found: tuple[str, int | None]) -> None:
    assert address(text) == found


@pytest.mark.parametrize(
    "text",
    ["", ":25", "h:port", "::1", "h:123456", "h:65536", "h:0", "a b:25", "a\nb", "h:2:2", "h:\u0662"],
)
def test_no_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--server: .* is not HOST:PORT"):
        address(text)


@pytest.mark.parametrize(
    ("server", "port", "secure", "found"),
    [
        (None, None, False, Place("localhost", 10025)),
        (None, 2525, False, Place("localhost", 2525)),
        ("localhost", None, False, Place("localhost", 10025)),
        ("localhost:26", None, False, Place("localhost", 26)),
        ("h.test", None, False, Place("h.test", 10025)),
        ("h.test", None, True, Place("h.test", 465, True)),
        ("h.test", 587, True, Place("h.test", 587, True)),
        ("h.test:25", 25, False, Place("h.test", 25)),
        ("[::1]:25", None, True, Place("::1", 25, True)),
    ],
)
def test_what_is_said_counts(server: str | None, port: int | None, secure: bool, found: Place) -> None:
    assert place(server, port, {}, secure=secure) == found


def test_two_ports_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^--port 26: --server names another one: h:25"):
        place("h:25", 26, {}, secure=False)


class TestServerOf:
    def test_the_file_of_the_folder_says_the_port(self) -> None:
        configured(port=2526)
        assert server_of({}) == Place("localhost", 2526)
        configured("smtp-relay.jsonc", port=2527)
        assert server_of({}).port == 2527
        assert place("127.0.0.1", None, {}, secure=False) == Place("127.0.0.1", 2527)
        assert place("h.test", None, {}, secure=False).port == 10025

    def test_the_environment_stands_over_it(self) -> None:
        configured(port=2526)
        assert server_of({"SMTP_RELAY_PORT": "2528"}) == Place("localhost", 2528)

    def test_a_bound_address_is_the_host(self) -> None:
        configured(port=2526, bind="127.0.0.9")
        assert server_of({}) == Place("127.0.0.9", 2526)
        configured(port=2526, bind="0.0.0.0")
        assert server_of({}) == Place("localhost", 2526)

    def test_of_several_listeners_a_plain_one_is_chosen(self) -> None:
        one, two, three = {"port": 465, "secure": True}, {"port": 24, "lmtp": True}, {"port": 587}
        configured(listeners=[one, two, three])
        assert server_of({}) == Place("localhost", 587)
        configured(listeners=[two, one])
        assert server_of({}) == Place("localhost", 465, secure=True)
        configured(listeners=[two])
        assert server_of({}) == Place("localhost", 24, lmtp=True)
        configured(listeners=[one, three])
        assert server_of({"SMTP_RELAY_PORT": "2528"}) == Place("localhost", 2528)

    def test_a_port_that_the_kernel_chooses_is_unknown(self) -> None:
        configured(port=0)
        assert server_of({}) == Place("localhost", 10025)

    def test_a_file_with_mistakes_counts_as_none(self) -> None:
        Path("smtp-relay.json").write_text("{")
        assert server_of({}) == Place("localhost", 10025)
        assert server_of({"SMTP_RELAY_PORT": "2528"}) == Place("localhost", 2528)

    def test_a_variable_with_a_mistake_is_one(self) -> None:
        with pytest.raises(ConfigError, match=r"^SMTP_RELAY_PORT: 'x' is not a port"):
            server_of({"SMTP_RELAY_PORT": "x"})


def test_a_place_is_written_as_a_user_types_it() -> None:
    assert str(Place("::1", 25)) == "[::1]:25"
    assert str(Place("h.test", 25)) == "h.test:25"
