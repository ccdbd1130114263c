"""What the process of the inbox is told, and the inboxes that a start refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from listener.checks.finding import Setting
from listener.checks.inbox import findings
from listener.config.relay import RelayConfig
from listener.inbox.settings import InboxSettings, settings_of

FILE = {"type": "file", "path": "mails", "addRawHeaders": True}
MAILER = {"type": "mailer", "nodemailer": {"host": "mx.example"}}


def settings(
    folder: Path, inbox: dict[str, Any] | None, *outputs: dict[str, Any], **more: Any
) -> InboxSettings | None:
    config = {"flows": {"f": {"outputs": list(outputs) or [FILE]}}, "inbox": inbox, **more}
    return settings_of(RelayConfig.model_validate(config), folder)


def test_without_an_inbox_there_is_nothing(tmp_path: Path) -> None:
    assert settings(tmp_path, None) is None


def test_the_process_reads_what_the_server_writes(tmp_path: Path) -> None:
    made = settings(tmp_path, {"users": {"ann": {"password": "plain:x", "inboxes": ["f"]}}, "by": "flow"})
    assert made is not None
    again = InboxSettings.model_validate_json(made.model_dump_json(by_alias=True))
    assert again == made
    ((flow, folder),) = again.folders()
    assert (flow, folder.path, folder.trusted) == ("f", tmp_path / "mails", True)
    assert again.index == tmp_path / ".smtp-relay" / "inbox"


@pytest.mark.parametrize(
    ("inbox", "outputs", "more", "message"),
    [
        ({"bind": "0.0.0.0"}, [], {}, "nobody has to log in"),
        ({"bind": "*"}, [], {}, "nobody has to log in"),
        ({"bind": "192.0.2.1"}, [], {}, "nobody has to log in"),
        ({"open": True}, [FILE, MAILER], {}, "shows everybody the mails that mailer sends on"),
        ({}, [{**FILE, "addRawHeaders": False}], {}, "no output of type file writes envelopes"),
        ({}, [MAILER], {}, "no output of type file writes envelopes"),
        ({}, [], {"spool": {"url": "s3://bucket/x", "region": "eu-central-1"}}, "needs a folder as spool"),
        ({"users": {"ann": {"password": "plain:x", "inboxes": ["g"]}}}, [], {}, "there is no inbox 'g'"),
    ],
)
def test_an_inbox_that_cannot_be_is_refused(
    tmp_path: Path, inbox: dict[str, Any], outputs: list[dict[str, Any]], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(tmp_path, inbox, *outputs, **more)


def test_check_says_the_same_before_a_start(tmp_path: Path) -> None:
    config = {"flows": {"f": {"outputs": [FILE]}}, "inbox": {"bind": "0.0.0.0"}}
    (found,) = findings(RelayConfig.model_validate(config), Setting.of(tmp_path, {}))
    assert (found.severity, found.where) == ("error", "inbox.bind")
    assert "nobody has to log in" in found.text
    config["inbox"] = {"bind": "0.0.0.0", "open": True}
    (found,) = findings(RelayConfig.model_validate(config), Setting.of(tmp_path, {}))
    assert (found.severity, found.where) == ("warning", "inbox.open")
    config["inbox"] = {"bind": "0.0.0.0", "users": {"ann": {"password": "plain:x"}}}
    (found,) = findings(RelayConfig.model_validate(config), Setting.of(tmp_path, {}))
    assert (found.severity, found.where) == ("warning", "inbox.bind")
    assert "clear text" in found.text
    config["inbox"]["trustedProxies"] = ["10.0.0.1"]
    assert list(findings(RelayConfig.model_validate(config), Setting.of(tmp_path, {}))) == []
    assert list(findings(RelayConfig.model_validate({**config, "inbox": {}}), Setting.of(tmp_path, {}))) == []


@pytest.mark.parametrize("other", ["mails", "./mails/", "mails/deeper", "."])
def test_two_flows_in_one_folder_are_refused(tmp_path: Path, other: str) -> None:
    flows = {"f": {"outputs": [FILE]}, "g": {"outputs": [{**FILE, "path": other}]}}
    config = RelayConfig.model_validate({"flows": flows, "inbox": {}})
    with pytest.raises(ConfigError, match="stores into the folder of flow f"):
        settings_of(config, tmp_path)


@pytest.mark.parametrize(
    "inbox", [{"open": True, "bind": "0.0.0.0"}, {"users": {"a": {"password": "plain:x"}}, "bind": "0.0.0.0"}]
)
def test_what_the_file_says_is_done(tmp_path: Path, inbox: dict[str, Any]) -> None:
    assert settings(tmp_path, inbox) is not None


@pytest.mark.parametrize(
    "inbox",
    [
        {"users": {"a": {"password": "neither hash nor text"}}},
        {"users": {"a": {"password": "plain:x", "rights": ["everything"]}}},
        {"users": {"a": {"inboxes": ["f"]}}},
        {"users": {"a": {"token": "neither hash nor text"}}},
        {"users": {"a": {"password": "plain:x"}}, "cors": ["*"]},
        {"cors": ["https://app.example/path"]},
        {"cors": ["app.example"]},
        {"trustedProxies": ["nowhere"]},
        {"path": "mail"},
        {"path": "/mail/"},
        {"port": 70_000},
        {"unknown": 1},
    ],
)
def test_mistakes_in_the_file_are_found(inbox: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="inbox"):
        RelayConfig.model_validate({"flows": {"f": {"outputs": [FILE]}}, "inbox": inbox})


def test_an_output_to_release_to_is_one_output(tmp_path: Path) -> None:
    def config(*outputs: dict[str, Any], send: tuple[str, ...] = ()) -> RelayConfig:
        flows = {f"f{number}": {"outputs": [FILE, one]} for number, one in enumerate(outputs)}
        release = {"output": "mailer_1", "recipients": ["bob@h.example"]}
        inbox = {"release": release, "send": list(send)}
        return RelayConfig.model_validate({"flows": flows, "inbox": inbox})

    other = {"type": "mailer", "nodemailer": {"host": "other.example"}}
    assert config(MAILER, MAILER).flows["release"].outputs == config(MAILER).flows["f0"].outputs[1:]
    with pytest.raises(ValueError, match="several outputs are called 'mailer_1'"):
        config(MAILER, other)
    with pytest.raises(ValueError, match="output out of flow 'f1' sends mails to other machines"):
        config(MAILER, {**other, "name": "out"}, send=("f1",))
    assert config(MAILER, MAILER, send=("f1",)).inbox is not None
