"""Flags and variables that stand over the file: which wins, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from listener.config.load import load
from listener.config.overrides import Given, Overrides
from listener.config.relay import RelayConfig

FILE = {"type": "file", "path": "mails"}
LOG = {"type": "log"}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(
    environ: dict[str, str] | None = None, outputs: Any = (FILE,), /, *, flags: Overrides, **keys: Any
) -> RelayConfig:
    keys.setdefault("flows", {"in": {"outputs": list(outputs)}})
    Path("relay.json").write_text(json.dumps(keys))
    return load(Path("relay.json"), environ or {}, flags)


def flags(**given: str) -> Overrides:
    return Overrides(**{key: Given(f"--{key}", text) for key, text in given.items()})


def places(config: RelayConfig) -> list[tuple[str, int]]:
    return [(one.bind, one.port) for one in config.resolved_listeners()]


ENVIRON = {"SMTP_RELAY_PORT": "2", "SMTP_RELAY_BIND": "127.0.0.2"}


class TestAddress:
    def test_a_flag_stands_over_the_environment_and_the_environment_over_the_file(self) -> None:
        file = {"port": 1, "bind": "127.0.0.1"}
        assert places(read(flags=flags(), **file)) == [("127.0.0.1", 1)]
        assert places(read(ENVIRON, flags=flags(), **file)) == [("127.0.0.2", 2)]
        assert places(read(ENVIRON, flags=flags(port="3"), **file)) == [("127.0.0.2", 3)]
        assert places(read(ENVIRON, flags=flags(port="3", bind="::1"), **file)) == [("::1", 3)]

    def test_the_default_address_stands_under_all(self) -> None:
        default = {"SMTP_RELAY_DEFAULT_BIND": "0.0.0.0"}
        assert places(read(default, flags=flags())) == [("0.0.0.0", 10025)]
        assert places(read({**default, **ENVIRON}, flags=flags())) == [("127.0.0.2", 2)]
        assert places(read(default, flags=flags(bind="127.0.0.3"))) == [("127.0.0.3", 10025)]

    def test_the_embedded_default_takes_them_too(self) -> None:
        assert places(load(None, ENVIRON, flags(port="0"))) == [("127.0.0.2", 0)]

    def test_the_only_listener_of_a_list_takes_them(self) -> None:
        config = read(ENVIRON, flags=flags(port="7"), listeners=[{"port": 465, "secure": True}])
        (listener,) = config.resolved_listeners()
        assert (listener.bind, listener.port, listener.options.secure) == ("127.0.0.2", 7, True)

    @pytest.mark.parametrize(
        ("environ", "given", "name"),
        [
            ({}, {"port": "7"}, "--port"),
            ({}, {"bind": "::1"}, "--bind"),
            ({"SMTP_RELAY_PORT": "7"}, {}, "SMTP_RELAY_PORT"),
            ({"SMTP_RELAY_BIND": "::1"}, {}, "SMTP_RELAY_BIND"),
            (
                {"SMTP_RELAY_LISTENERS": '[{"port": 1}, {"port": 2}, {"port": 3}]'},
                {"port": "7"},
                "--port",
            ),
        ],
    )
    def test_several_listeners_refuse_them(
        self, environ: dict[str, str], given: dict[str, str], name: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"^{name}: the configuration has . listeners, .* entries of"):
            read(environ, flags=flags(**given), listeners=[{"port": 1}, {"port": 2}])

    @pytest.mark.parametrize(
        "text", ["", "x", "-1", "70000", "65536", "1.5", "2525 ", "²", "0x10", "9" * 5_000, "+25"]
    )
    def test_what_is_no_port_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"^--port: .* is not a port") as caught:
            read(flags=flags(port=text))
        assert "\n" not in str(caught.value)

    def test_a_bad_variable_does_not_matter_beside_a_flag(self) -> None:
        assert places(read({"SMTP_RELAY_PORT": "x"}, flags=flags(port="5"))) == [("127.0.0.1", 5)]
        with pytest.raises(ConfigError, match=r"^SMTP_RELAY_PORT: 'x' is not a port"):
            read({"SMTP_RELAY_PORT": "x"}, flags=flags())

    @pytest.mark.parametrize("text", ["", "a b", "a\nb", "a\x1b[31m"])
    def test_what_is_no_address_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"^--bind: .* is not an address"):
            read(flags=flags(bind=text))

    def test_what_kubernetes_sets_for_a_service_is_ignored_without_a_line(self) -> None:
        config = read({"SMTP_RELAY_PORT": "tcp://10.96.0.7:25"}, flags=flags())
        assert places(config) == [("127.0.0.1", 10025)]
        assert config.warnings == ()


class TestFolder:
    def test_the_only_file_output_stores_there(self) -> None:
        config = read({}, (LOG, FILE), flags=flags(folder="here"))
        assert [output.file_folder for output in config.flows["in"].outputs] == [None, "here"]

    @pytest.mark.parametrize(
        ("flows", "words"),
        [
            ({"in": {"outputs": [LOG]}}, "no output of type file"),
            ({}, "no output of type file"),
            (
                {"in": {"outputs": [FILE]}, "b": {"outputs": [LOG, FILE]}},
                "2 outputs of type file.*flows.in.outputs.0., flows.b.outputs.1.",
            ),
        ],
    )
    def test_another_number_of_them_is_refused(self, flows: dict[str, Any], words: str) -> None:
        with pytest.raises(ConfigError, match=f"^--folder: the configuration has {words}"):
            read(flags=flags(folder="here"), flows=flows)

    def test_no_name_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"^--folder: is empty"):
            read(flags=flags(folder=""))


class TestLevel:
    @pytest.mark.parametrize("level", ["DEBUG", "WARN"])
    @pytest.mark.parametrize("inside", [False, True])
    def test_console_loggers_take_it_and_files_keep_theirs(self, level: Any, inside: bool) -> None:
        loggers = [
            {"type": "CONSOLE", "level": "INFO", "format": "json"},
            {"type": "FILE", "level": "TRACE", "filepath": "log"},
        ]
        keys = {"options": {"loggers": loggers}} if inside else {"loggers": loggers}
        found = read(flags=Overrides(level=level), **keys).log_outputs
        assert [(one.type, one.level, one.format) for one in found] == [
            ("CONSOLE", level, "json"),
            ("FILE", "TRACE", "text"),
        ]

    @pytest.mark.parametrize("level", ["DEBUG", "WARN"])
    def test_without_loggers_there_is_one(self, level: Any) -> None:
        (one,) = read({"LOG_LEVEL": "ERROR"}, flags=Overrides(level=level)).log_outputs
        assert (one.type, one.level) == ("CONSOLE", level)

    def test_more_noise_needs_a_console_and_less_noise_does_not(self) -> None:
        (one,) = read(flags=Overrides(level="DEBUG"), loggers=[]).log_outputs
        assert (one.type, one.level) == ("CONSOLE", "DEBUG")
        assert read(flags=Overrides(level="WARN"), loggers=[]).log_outputs == ()
        assert read(flags=Overrides(level="WARN"), options={"loggers": []}).log_outputs == ()


@pytest.mark.parametrize(
    "keys",
    [
        {"flows": 1},
        {"flows": {"in": 1}},
        {"flows": {"in": {"outputs": 1}}},
        {"flows": {"in": {"outputs": [1]}}},
        {"listeners": 1},
        {"listeners": [1]},
        {"loggers": 1},
        {"loggers": [1]},
        {"options": 1},
        {"options": {"loggers": 1}},
        {"port": 1, "listeners": [{"port": 1}]},
    ],
)
def test_mistakes_of_the_file_stay_messages(keys: dict[str, Any]) -> None:
    given = Overrides(Given("--port", "1"), Given("--bind", "::1"), None, "DEBUG")
    with pytest.raises(ConfigError):
        read(flags=given, **keys)
    with pytest.raises(ConfigError):
        read(flags=Overrides(folder=Given("--folder", "x")), **keys)


def test_an_inbox_is_switched_on_and_its_options_in_the_file_stay() -> None:
    assert read(flags=Overrides()).inbox is None
    made = read(flags=Overrides(inbox=True)).inbox
    assert made is not None
    assert made.port == 8025
    kept = read(flags=Overrides(inbox=True), inbox={"port": 9000}).inbox
    assert kept is not None
    assert kept.port == 9000
