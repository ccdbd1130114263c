"""What `check` says about rules of senders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from listener.checks import sending
from listener.checks.finding import Setting
from listener.config.relay import RelayConfig

GUARD: dict[str, Any] = {"type": "sending-policy", "rules": [{"user": "glob:*", "from": "${user}"}]}
LIMITED = {"type": "sending-policy", "rules": [{"user": "ann", "limits": "100/min"}]}


def found(guard: dict[str, Any], output: dict[str, Any], spool: str = "", **environ: str) -> list[str]:
    keys: dict[str, Any] = {"flows": {"out": {"filters": [guard], "outputs": [output]}}}
    if spool:
        keys["spool"] = {"url": spool}
    setting = Setting.of(Path("/"), environ)
    return [str(one) for one in sending.findings(RelayConfig.model_validate(keys), setting)]


@pytest.mark.parametrize(
    ("override", "place"),
    [
        ({"from": "boss@example.com"}, "override.from"),
        ({"headers": {"Sender": "boss@example.com"}}, "override.headers.Sender"),
        ({"headers": {"resent-FROM": "boss@example.com"}}, "override.headers.resent-FROM"),
    ],
)
def test_no_output_may_name_another_sender_behind_the_rules(override: dict[str, Any], place: str) -> None:
    output = {"type": "mailer", "nodemailer": "smtp://mx.example", "override": override}
    (said,) = found(GUARD, output)
    assert said.startswith(f"error: flows.out.outputs[0].{place}: ")
    assert not found({"type": "whitelist", "from": "a@b.example"}, output)


def test_other_overrides_are_no_matter() -> None:
    output = {"type": "mailer", "nodemailer": "smtp://mx.example", "override": {"subject": "x"}}
    assert found(GUARD, output) == []


def test_limits_that_listeners_do_not_share_are_told() -> None:
    file = {"type": "file", "path": "x"}
    assert found(LIMITED, file) == []
    assert "SMTP_RELAY_LIMITS_TABLE" in found(LIMITED, file, "s3://spool")[0]
    assert found(LIMITED, file, "s3://spool", SMTP_RELAY_LIMITS_TABLE="limits") == []
    assert found(LIMITED, file, "gs://spool")[0].startswith("warning: flows.out.filters[0].rules: ")
    assert found(GUARD, file, "gs://spool") == []
