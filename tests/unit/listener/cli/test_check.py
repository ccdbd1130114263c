"""The command `check`: what it prints, and its exit status."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from listener.cli import main as cli
from tests.support.net import HOST
from tests.support.servers.receiver import answer, receiving
from tests.support.servers.relay import ROOT
from tests.support.servers.smarthost import smarthost
from tests.support.servers.token_server import token_server

LOCAL = {"type": "whitelist", "ips": "127.0.0.1"}
LOG = {"type": "log"}
OPEN = {"authOptional": True}


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("SMTP_USERNAME", "SMTP_PASSWORD", "AWS_REGION", "AWS_DEFAULT_REGION", "PASS"):
        monkeypatch.delenv(name, raising=False)


def write(filters: Any = (LOCAL,), outputs: Any = (LOG,), **more: Any) -> str:
    value = {"flows": {"in": {"filters": filters, "outputs": outputs}}, **more}
    Path("relay.json").write_text(json.dumps(value))
    return "relay.json"


@pytest.fixture
def check(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command; returns its exit status and output, all of which is on stdout."""

    def run(*arguments: str) -> tuple[int, list[str]]:
        status = cli.main(["check", *arguments])
        out, err = capsys.readouterr()
        assert err == ""
        return status, out.splitlines()

    return run


def test_a_good_file_is_explained_and_good(check: Any) -> None:
    status, lines = check(write(options=OPEN))
    assert status == 0
    assert "Flow in takes mail from clients at 127.0.0.1; it logs it." in lines
    assert lines[-1] == "relay.json: good"
    assert not any(line.startswith(("warning", "error")) for line in lines)


def test_warnings_come_after_sentences_and_errors_after_warnings(check: Any) -> None:
    users = {"type": "static-auth", "username": "u", "password": "hunter2"}
    status, lines = check(write([users], options={"logger": True}))
    assert status == 2
    kinds = [line.partition(":")[0] for line in lines]
    assert kinds.index("warning") > next(at for at, line in enumerate(lines) if line.startswith("Flow in"))
    assert kinds.index("error") > kinds.index("warning")
    assert lines[-1] == "relay.json: 1 to fix"
    assert not any("hunter2" in line for line in lines)


def test_strict_makes_warnings_count(check: Any) -> None:
    name = write(options={**OPEN, "logger": True})
    assert check(name) == (0, check(name)[1])
    status, lines = check("--strict", name)
    assert (status, lines[-1]) == (1, "relay.json: 1 to fix")
    assert check("--strict", write(options=OPEN))[0] == 0


def test_json_holds_the_same(check: Any) -> None:
    status, lines = check("--json", "--from-loopingz", write(options={**OPEN, "logger": True}))
    value = json.loads("\n".join(lines))
    assert status == 0
    assert value["good"] is True
    assert value["warnings"] == [
        {"place": "relay.json: options.logger", "text": "ignored: logging is set with loggers (remove it)"}
    ]
    assert value["errors"] == []
    assert len(value["digest"]) == 64
    assert any(line.startswith("breaks: ") for line in value["differences"])
    status, lines = check("--json", "nowhere.json")
    assert status == 2
    assert json.loads("\n".join(lines))["errors"][0]["place"] == "nowhere.json"


def test_the_file_may_be_named_by_an_option(check: Any) -> None:
    name = write(options=OPEN)
    assert check("-c", name) == check(name)


def test_all_mistakes_come_at_once(check: Any) -> None:
    users = {"type": "static-auth", "username": "u", "password": "env:PASS", "users": {"u": "plain:x"}}
    missing = {"type": "static-auth", "htpasswd": "users"}
    outputs = [{"type": "mailer", "nodemailer": {"host": "h", "auth": {"user": "u", "pass": "env:PASS"}}}]
    options = {**OPEN, "key": "file://k.pem", "cert": "file://c.pem"}
    status, lines = check(write([users, missing], outputs, bind="192.0.2.7", options=options))
    assert status == 2
    places = [line.split(": ")[2] for line in lines if line.startswith("error: ")]
    assert places == [
        "bind",
        "flows.in.filters[0].password",
        "flows.in.filters[1].htpasswd",
        "flows.in.outputs[0].nodemailer.auth.pass",
        "options.cert",
    ]


def test_nothing_is_made(check: Any, tmp_path: Path) -> None:
    outputs = [{"type": "file", "path": "mails/new"}]
    logger = {"type": "FILE", "filepath": "relay.log"}
    assert check(write(outputs=outputs, options=OPEN, loggers=[logger], keepCache=True))[0] == 0
    assert [each.name for each in tmp_path.iterdir()] == ["relay.json"]


@pytest.mark.parametrize("how", [["--offline"], ["--on", "fargate"]])
def test_secrets_of_another_machine_are_checked_for_their_form(check: Any, how: list[str]) -> None:
    users = {"type": "static-auth", "username": "u", "password": "env:PASS"}
    more = {"type": "static-auth", "username": "u", "password": "ssm:/relay/pw"}
    outputs = [{"type": "aws", "ses": {}}]
    status, lines = check(*how, write([users, more], outputs, spool="s3://mails"))
    assert (status, lines[-2]) == (0, "relay.json: good")
    assert lines[-1].startswith("not checked: the secrets behind env:PASS, ssm:/relay/pw, packages")
    status, lines = check(*how, write([{**users, "password": "gcp-secret:pw"}], outputs, spool="s3://mails"))
    assert status == 2
    assert any("gcp-secret:projects/PROJECT/secrets/NAME" in line for line in lines)
    status, lines = check(*how, write([{**users, "password": "hunter2"}], outputs, spool="s3://mails"))
    assert status == 2
    assert any("flows.in.filters[0].password: has no algorithm" in line for line in lines)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("hunter2", "warning"),
        ("plain:hunter2", ""),
        ("hunter:2", "error"),
        ("$ecret", "error"),
        ("{secret}", "error"),
        ("0123456789abcdef" * 2, "error"),
        ("0123456789abcdef", "warning"),
    ],
)
@pytest.mark.parametrize("place", ["env:PASS", "file://pass", None])
def test_a_password_without_prefix_from_another_place(
    check: Any, monkeypatch: pytest.MonkeyPatch, password: str, said: str, place: str | None
) -> None:
    """It is plain text only if it cannot be a damaged hash."""
    Path("pass").write_text(f"{password}\n")
    monkeypatch.setenv("SMTP_PASSWORD" if place is None else "PASS", password)
    users = {"type": "static-auth", "username": "u", **({"password": place} if place else {})}
    status, lines = check(write([users]))
    found = [line for line in lines if line.startswith(("warning: ", "error: "))]
    assert [line.partition(":")[0] for line in found] == ([said] if said else [])
    assert all("flows.in.filters[0].password: " in line and "plain:" in line for line in found)
    assert status == (2 if said == "error" else 0)
    assert not any(password in line for line in lines)


def test_a_missing_package_is_named_with_its_extra(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: Any) -> Any:
        raise ModuleNotFoundError("No module named 'botocore'", name="botocore")

    monkeypatch.setattr("functions.aws.output.processor.Clients.make", absent)
    status, lines = check(write(outputs=[{"type": "aws", "storage": {"bucket": "mails"}}], options=OPEN))
    assert status == 2
    text = "relay.json: flows.in.outputs[0]: type 'aws' needs boto3: pip install 'smtp-relay[aws]'"
    assert f"error: {text}" in lines


@pytest.mark.parametrize("name", ["aws-smtp-relay.jsonc", "nodemailer.jsonc"])
def test_public_on_the_examples(check: Any, name: str) -> None:
    status, lines = check("--offline", "--public", str(ROOT / "configs" / name))
    assert any("open relay" in line for line in lines) is (name == "aws-smtp-relay.jsonc")
    assert status == 2


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.jsonc")), ids=lambda path: path.stem)
def test_every_example_passes_without_a_warning(
    check: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_USERNAME", "demo")
    monkeypatch.setenv("SMTP_PASSWORD", "plain:demo")
    status, lines = check("--offline", str(path))
    assert status == 0
    assert [line for line in lines if line.startswith("warning: ")] == []


def test_a_finding_about_this_machine_is_a_note_that_strict_does_not_count(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("listener.checks.deployment.in_container", lambda environ: True)
    monkeypatch.setattr("listener.checks.deployment.on_container_disk", lambda folder: True)
    monkeypatch.setenv("SMARTHOST_PASSWORD", "plain:demo")
    smarthost = str(ROOT / "configs" / "nodemailer.jsonc")
    status, lines = check("--strict", smarthost)
    assert status == 0
    assert [line for line in lines if line.startswith("note: ") and "container's own disk" in line]
    assert lines[-1].endswith(": good")
    status, lines = check("--strict", "--json", smarthost)
    report = json.loads("\n".join(lines))
    assert (status, len(report["notes"]), report["warnings"]) == (0, 1, [])


def test_what_breaks_comes_before_what_is_good_to_know(check: Any) -> None:
    _, lines = check("--from-loopingz", write([{"type": "whitelist", "ips": ["regexp:.*"]}]))
    marks = [line.split(":")[0].strip() for line in lines if line.startswith("  ")]
    assert set(marks) == {"breaks", "to know"}
    assert marks == sorted(marks)
    assert any(line.startswith("  breaks: flows.in.filters[0]: regexps match") for line in lines)


def test_a_sample_is_posted_by_each_webhook(check: Any) -> None:
    with receiving() as receiver:
        hook = {"type": "webhook", "url": f"{receiver.url}/in?k=canary", "headers": {"X-Key": "canary"}}
        path = write(outputs=[hook, {"type": "log"}, {**hook, "format": "raw"}], options=OPEN)
        status, lines = check("--send", path)
        assert status == 0
        assert [line for line in lines if line.startswith("A sample")] == [
            "A sample by in/webhook_0 was taken: status 200.",
            "A sample by in/webhook_2 was taken: status 200.",
        ]
        receiver.react = answer(401, b"canary")
        status, lines = check("--send", path)
        assert status == 2
        assert sum("a sample was not taken: status 401" in line for line in lines) == 2
        assert "canary" not in "".join(lines)
        assert len(receiver.received) == 4
        check(path)
        assert len(receiver.received) == 4


@pytest.mark.parametrize(("reply", "status"), [("235 2.7.0 welcome", 0), ("535 5.7.8 no geheim", 2)])
def test_with_send_one_login_is_tried_and_no_mail_is_sent(
    check: Any, monkeypatch: pytest.MonkeyPatch, reply: str, status: int
) -> None:
    monkeypatch.setenv("PASS", "geheim")
    script = lambda heard: reply if heard.verb == "AUTH" else None  # noqa: E731
    with smarthost(script, extensions=("AUTH PLAIN",)) as host:
        server = {"host": HOST, "port": host.port, "auth": {"user": "u", "pass": "env:PASS"}}
        file = write(outputs=[{"type": "mailer", "nodemailer": server}], options=OPEN)
        assert check(file)[0] == 0
        assert host.sessions == [], "without --send nothing is connected to"
        found, lines = check("--send", file)
        assert found == status
        text = "\n".join(lines)
        if status == 0:
            assert f"{HOST}:{host.port} opens a session as u." in lines
        else:
            assert "flows.in.outputs[0]: no mail could be sent: " in text
            assert "(PLAIN): 535 5.7.8 no ***" in text
        assert "geheim" not in text
        assert len(host.sessions) == 1
        assert not any(line.startswith("MAIL") for line in host.heard)


def test_with_send_a_token_is_asked_for(check: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PASS", "geheim")
    with token_server() as tokens, smarthost(extensions=("AUTH XOAUTH2",)) as host:
        auth = {"user": "u@x", "clientId": "id", "clientSecret": "env:PASS", "accessUrl": tokens.url}
        server = {"host": HOST, "port": host.port, "auth": auth}
        file = write(outputs=[{"type": "mailer", "nodemailer": server}], options=OPEN)
        assert f"{HOST}:{host.port} opens a session as u@x." in check("--send", file)[1]
        assert len(tokens.forms) == 1


def test_send_is_for_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--send", "--offline", write(options=OPEN)]) == 2
    assert "check --send: sends from this machine" in capsys.readouterr().err
