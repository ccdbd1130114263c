"""The permissions that Terraform gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from infra.access.gcp import access
from infra.bundle.gcp import build, listener_config, requirements
from tests.support.servers.relay import ROOT

FILTER = {
    "type": "http-filter",
    "url": "https://example.com/",
    "hmac": {"secret": "gcp-secret:projects/p/secrets/hmac/versions/3"},
}


def config(tmp_path: Path, *outputs: dict[str, Any]) -> Path:
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"flows": {"in": {"filters": [FILTER], "outputs": outputs}}}))
    return path


def test_each_thing_that_is_named_once(tmp_path: Path) -> None:
    smarthost = {"host": "smtp.example.com", "auth": {"user": "u", "pass": "gcp-secret:projects/p/secrets/s"}}
    found = access(
        config(
            tmp_path,
            {"type": "gcp", "path": "gs://mails/"},
            {"type": "gcp", "name": "again", "path": "gs://mails/"},
            {"type": "gcp", "storage": {"bucket": "mails", "path": "in/${date:%Y}/${id}.eml"}},
            {"type": "gcp", "pubsub": "short", "project": "other"},
            {"type": "gcp", "pubsub": "own"},
            {"type": "gcp", "pubsub": "projects/third/topics/long"},
            {"type": "mailer", "nodemailer": smarthost},
        )
    )
    assert found == {
        "buckets": [{"bucket": "mails", "prefix": ""}, {"bucket": "mails", "prefix": "in/"}],
        "topics": [
            {"project": None, "topic": "own"},
            {"project": "other", "topic": "short"},
            {"project": "third", "topic": "long"},
        ],
        "secrets": {
            "function": [{"project": "p", "secret": "s"}],
            "listener": [{"project": "p", "secret": "hmac"}],
        },
    }


@pytest.mark.parametrize(
    ("path", "prefix"), [("/in/", "in/"), ("latest.eml", "latest"), ("in/x.${user}", "in/x"), ("${id}", "")]
)
def test_names_may_take_a_suffix_where_they_are_taken(tmp_path: Path, path: str, prefix: str) -> None:
    found = access(config(tmp_path, {"type": "gcp", "storage": {"bucket": "mails", "path": path}}))
    assert found["buckets"] == [{"bucket": "mails", "prefix": prefix}]


@pytest.mark.parametrize(("path", "prefix"), [("", ""), ("in", "in/"), ("in/${flow}/${id}", "in/")])
def test_all_parts_of_a_mail_are_below_what_is_permitted(tmp_path: Path, path: str, prefix: str) -> None:
    storage = {"bucket": "mails", "path": path, "type": "parts"}
    found = access(config(tmp_path, {"type": "gcp", "storage": storage}))
    assert found["buckets"] == [{"bucket": "mails", "prefix": prefix}]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ({"type": "aws", "storage": {"bucket": "b"}}, "runs no aws outputs"),
        ({"type": "file", "path": "."}, "runs no file outputs"),
        (
            {"type": "mailer", "nodemailer": {"host": "h", "auth": {"user": "u", "pass": "env:PASS"}}},
            "env:PASS: the function reads its secrets from Secret Manager",
        ),
        (
            {"type": "mailer", "nodemailer": {"host": "h", "auth": {"user": "u", "pass": "gcp-secret:x"}}},
            "is not gcp-secret:projects/PROJECT/secrets/NAME",
        ),
    ],
)
def test_what_the_function_could_not_do_is_refused(
    tmp_path: Path, output: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match="outputs\\[0\\]") as caught:
        access(config(tmp_path, output))
    assert reason in str(caught.value)


def test_what_is_built_for_the_examples(tmp_path: Path) -> None:
    for name in ("mail2gcp", "mail2gcppubsub"):
        made = build(ROOT / "configs" / f"{name}.jsonc", tmp_path / name)
        assert sorted(made) == ["access.json", "deployment.json", "function.zip", "relay.json"]
        assert json.loads(made["access.json"].read_text())["buckets"] == [{"bucket": "myemail", "prefix": ""}]
        assert "flows" in json.loads(made["relay.json"].read_text())


def test_the_listener_logs_for_alerts_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    from listener.config.load import load

    path = tmp_path / "listener.json"
    path.write_text(json.dumps(listener_config({"flows": {}})))
    (logger,) = load(path, {}).log_outputs
    assert (logger.type, logger.format) == ("CONSOLE", "json")
    for at in ({"loggers": []}, {"options": {"loggers": []}}):
        assert listener_config(at)["health"] == {"portNumber": 9090, "logInterval": 60_000}
        assert {key: listener_config(at)[key] for key in at} == at
        assert "loggers" in at or "loggers" not in listener_config(at)
    given = listener_config({"health": {"portNumber": 1, "bind": "::", "logInterval": 5000}})
    assert given["health"] == {"portNumber": 1, "bind": "::", "logInterval": 60_000}, "the alert counts on it"


def test_requirements_are_pinned_and_few(tmp_path: Path) -> None:
    from functions.config import load_delivery

    lines = requirements(load_delivery(config(tmp_path), {})).splitlines()
    assert [line.partition("==")[0] for line in lines] == [
        "functions-framework",
        "google-cloud-pubsub",
        "google-cloud-storage",
        "pydantic",
        "webencodings",
    ]
    assert all("==" in line for line in lines)


def test_what_writes_domains_in_ascii_comes_where_mails_are_sent_on_or_published(tmp_path: Path) -> None:
    from functions.config import load_delivery

    def brought(*outputs: dict[str, Any]) -> bool:
        return "idna==" in requirements(load_delivery(config(tmp_path, *outputs), {}))

    assert brought({"type": "mailer", "nodemailer": {"host": "smtp.example.com"}})
    assert brought({"type": "log"}, {"type": "nodemailer", "nodemailer": "smtp://smtp.example.com"})
    assert brought({"type": "gcp", "pubsub": "mails"})
    assert not brought({"type": "gcp", "path": "gs://mails/"}, {"type": "log"})
