from importlib.metadata import EntryPoint, EntryPoints
from types import SimpleNamespace
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from functions.options import plugins
from functions.options.registry import Chosen, Kind, NotAvailable, Registry, kind, nearest
from functions.processors.base import OutputOptions

KINDS = {
    "log": kind("functions.processors.log", "LogOutputOptions"),
    "gone": Kind("functions.processors.log:LogOutputOptions", "functions.no_such_module:build", "aws"),
}
REGISTRY = Registry("output", OutputOptions, "smtp_relay.outputs", KINDS)


class Slack(OutputOptions):
    type: str
    channel: str

    def identity(self) -> str:
        return f"slack {self.channel}"


class Stranger(BaseModel):
    type: str


PLUGINS = {
    "slack": SimpleNamespace(Options=Slack, build=lambda options, name, context: (options, name)),
    "wrong": SimpleNamespace(Options=Stranger, build=None),
}


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    class Installed(EntryPoint):
        def load(self) -> Any:
            return PLUGINS[self.name]

    points = EntryPoints(Installed(name, "plugin", "smtp_relay.outputs") for name in PLUGINS)
    monkeypatch.setattr(plugins, "entry_points", points.select)


ADAPTER: TypeAdapter[Any] = TypeAdapter(Annotated[OutputOptions, Chosen(REGISTRY)])


def parsed(value: object) -> Any:
    return ADAPTER.validate_python(value)


def message(value: object) -> str:
    with pytest.raises(ValidationError) as caught:
        parsed(value)
    return str(caught.value.errors()[0]["msg"])


def test_third_parties_bring_kinds_through_entry_points():
    options = parsed({"type": "slack", "channel": "#mail"})
    assert isinstance(options, Slack)
    assert REGISTRY.names() == ("log", "gone", "slack", "wrong")
    assert REGISTRY.builder("slack")(options, "slack_0", None) == (options, "slack_0")


def test_their_options_are_validated_too():
    with pytest.raises(ValidationError) as caught:
        parsed({"type": "slack", "chanel": "#mail"})
    assert {error["loc"] for error in caught.value.errors()} == {("channel",), ("chanel",)}


def test_options_derive_from_the_base():
    assert message({"type": "wrong"}) == "plugin plugin has no Options that derive from OutputOptions"


def test_unknown_types_name_the_nearest():
    assert message({"type": "lgo"}) == "unknown output type 'lgo', did you mean 'log'?"
    assert message({"type": "Slack"}) == "unknown output type 'Slack', did you mean 'slack'?"
    assert message({"type": "zzz {x}"}).startswith("unknown output type 'zzz {x}', known are log, gone")
    assert message({}) == "the output has no type; it is one of log, gone, slack, wrong"
    assert message("log") == "expected an object with a type: one output"


def test_a_builder_that_is_not_installed_says_what_to_install():
    with pytest.raises(
        NotAvailable, match=r"output gone: type 'gone' needs .*: pip install 'smtp-relay\[aws\]'"
    ):
        REGISTRY.builder("gone")


def test_options_pass_as_they_are():
    options = Slack(type="slack", channel="#a")
    assert parsed(options) is options


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("buckett", "did you mean 'bucket'?"),
        ("PATH", "did you mean 'path'?"),
        ("zzz", "known are bucket, path"),
    ],
)
def test_nearest(word: str, answer: str):
    assert nearest(word, ("bucket", "path")) == answer


def test_nearest_of_nothing():
    assert nearest("x", ()) == "none is known here"
