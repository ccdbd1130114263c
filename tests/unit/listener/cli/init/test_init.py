"""`init`: what it writes for each kind, never over a file, and what it says afterwards."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from functions.options.jsonc import parse
from listener.checks.finding import Setting
from listener.checks.report import findings
from listener.cli import main as cli
from listener.cli.init.answers import QUESTIONS
from listener.cli.init.kinds import KINDS
from listener.config.load import NAMES, load
from listener.config.relay import RelayConfig

FILE = Path(NAMES[0])
EXAMPLE = Path(".env.example")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # A container without a volume is this machine's fault, and not the file's.
    monkeypatch.setattr("listener.checks.deployment.in_container", lambda environ: False)
    monkeypatch.setenv("SMARTHOST_PASSWORD", "x")


def init(*arguments: str) -> int:
    return cli.main(["init", *arguments])


def made(*arguments: str) -> RelayConfig:
    assert init(*arguments) == 0
    return load(None, os.environ)


def output(config: RelayConfig) -> Any:
    ((_, flow),) = config.flows.items()
    return flow.outputs[0]


class TestEveryKind:
    @pytest.mark.parametrize("kind", KINDS)
    def test_writes_a_file_without_warnings(self, kind: str) -> None:
        config = made(kind)
        found = findings(config, Setting.of(Path.cwd(), os.environ, public=False, platform=None))
        assert [one for one in found if one.severity != "note"] == []

    @pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "debug"])
    def test_except_the_debug_server_may_face_strangers(self, kind: str) -> None:
        config = made(kind)
        found = findings(config, Setting.of(Path.cwd(), os.environ, public=True, platform=None))
        assert [one for one in found if one.severity == "error"] == []

    @pytest.mark.parametrize("kind", KINDS)
    def test_listens_on_this_machine_alone(self, kind: str) -> None:
        assert [one.bind for one in made(kind).resolved_listeners()] == ["127.0.0.1"]

    @pytest.mark.parametrize("kind", KINDS)
    def test_asks_at_most_three_questions(self, kind: str) -> None:
        assert len(KINDS[kind].questions) <= 3

    @pytest.mark.parametrize("kind", KINDS)
    def test_ends_with_the_commands_that_prove_it(
        self, kind: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert init(kind, "--output", "my relay.jsonc") == 0
        check, serve = capsys.readouterr().out.splitlines()[-2:]
        assert check == "  smtp-relay check 'my relay.jsonc'"
        assert serve.startswith("  smtp-relay serve 'my relay.jsonc' ")
        assert "smtp-relay send --port 10025 " in serve

    @pytest.mark.parametrize("kind", KINDS)
    def test_holds_no_secret(self, kind: str) -> None:
        assert init(kind) == 0
        text = FILE.read_text()
        assert "replace-me" not in text
        for line in EXAMPLE.read_text().splitlines() if EXAMPLE.exists() else ():
            value = line.partition("=")[2]
            assert line.startswith("# ") or value in {"replace-me", "/path/to/key.json"}

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_reference_stands_in_the_example(self, kind: str) -> None:
        assert init(kind) == 0
        for name in re.findall('"env:([A-Z_]+)"', FILE.read_text()):
            assert f"{name}=" in EXAMPLE.read_text()


def test_the_debug_server_is_the_embedded_one() -> None:
    embedded = load(None, {}).model_dump()
    assert made().model_dump() == embedded
    assert not EXAMPLE.exists()


class TestAnswers:
    def test_mail2s3(self, capsys: pytest.CaptureFixture[str]) -> None:
        bucket = ("--bucket", "s3://mails-1/", "--region", "us-gov-west-1", "--domain", "My.Example")
        config = made("mail2s3", *bucket)
        one = output(config)
        assert (one.storage.bucket, one.s3_client.region) == ("mails-1", "us-gov-west-1")
        (only,) = config.flows["inbound"].filters
        assert only.model_dump()["to"] == ("regexp:.*@my\\.example",)
        printed = capsys.readouterr().out
        assert "to be changed" not in printed
        assert printed.endswith("send you@my.example\n")

    def test_examples_are_named_because_they_must_be_changed(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert init("mail2s3", "--bucket", "mails-1") == 0
        assert "to be changed: domain example.com\n" in capsys.readouterr().out

    def test_the_queue_says_the_region(self) -> None:
        queue = "https://sqs.eu-north-1.amazonaws.com/123456789012/a-queue"
        one = output(made("mail2sqs", "--queue", queue))
        assert one.pubsub.topic == queue
        assert (one.s3_client.region, one.sqs_client.region) == ("eu-north-1", "eu-north-1")

    def test_the_topic(self) -> None:
        one = output(made("mail2pubsub", "--topic", "projects/p-1/topics/mails", "--bucket", "gs://mails-1"))
        assert (one.pubsub.topic, one.storage.bucket) == ("projects/p-1/topics/mails", "mails-1")

    @pytest.mark.parametrize(
        ("host", "server"),
        [
            ("mx.test", {"host": "mx.test", "port": 587, "requireTLS": True}),
            ("mx.test:465", {"host": "mx.test", "port": 465, "secure": True}),
            ("localhost:1025", {"host": "localhost", "port": 1025, "ignoreTLS": True}),
            ("[::1]:1025", {"host": "::1", "port": 1025, "ignoreTLS": True}),
        ],
    )
    def test_the_smarthost(self, host: str, server: dict[str, Any]) -> None:
        assert init("smarthost", "--host", host, "--user", "-") == 0
        (flow,) = parse(FILE.read_text())["flows"].values()
        assert flow["outputs"][0]["nodemailer"] == server
        assert not EXAMPLE.exists()
        load(None, {})

    def test_the_password_of_the_smarthost_comes_from_the_environment(self) -> None:
        assert init("smarthost", "--user", 'me"\\@x') == 0
        (flow,) = parse(FILE.read_text())["flows"].values()
        assert flow["outputs"][0]["nodemailer"]["auth"] == {
            "user": 'me"\\@x',
            "pass": "env:SMARTHOST_PASSWORD",
        }
        assert EXAMPLE.read_text() == "SMARTHOST_PASSWORD=replace-me\n"

    @pytest.mark.parametrize(
        ("kind", "flag", "text"),
        [
            ("mail2s3", "--bucket", "My Bucket"),
            ("mail2s3", "--bucket", ""),
            ("mail2s3", "--bucket", '"}'),
            ("mail2s3", "--domain", "no domain"),
            ("mail2s3", "--domain", "you@example.com"),
            ("mail2s3", "--region", "europe"),
            ("mail2sqs", "--queue", "my-queue"),
            ("mail2pubsub", "--topic", "my topic"),
            ("smarthost", "--host", "a b"),
            ("smarthost", "--host", "h:port"),
            ("smarthost", "--user", "a\nb"),
        ],
    )
    def test_a_bad_one_is_refused_and_nothing_is_written(
        self, kind: str, flag: str, text: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert init(kind, flag, text) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"smtp-relay: {flag}: ")
        assert "(such as " in line
        assert list(Path().iterdir()) == []

    def test_one_of_another_kind_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert init("debug", "--bucket", "mails") == 2
        err = capsys.readouterr().err
        assert err == (
            "smtp-relay: --bucket: is not for init debug "
            "(it is for mail2s3, mail2sqs, mail2gcs, mail2pubsub)\n"
        )
        for one in QUESTIONS:
            assert any(one in kind.questions for kind in KINDS.values()), one

    def test_an_unknown_kind_is_refused(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as caught:
            init("mail2ses")
        assert caught.value.code == 2
        assert "mail2s3" in capsys.readouterr().err


class TestNothingIsOverwritten:
    @pytest.mark.parametrize("name", NAMES)
    def test_a_configuration_of_the_folder_stays_and_is_not_hidden(
        self, name: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        Path(name).write_text("mine")
        assert init() == 2
        assert capsys.readouterr().err.startswith(f"smtp-relay: {name}: exists (")
        assert [path.name for path in Path().iterdir()] == [name]
        assert Path(name).read_text() == "mine"

    def test_a_named_file_stays(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("mine.jsonc").write_text("mine")
        assert init("ses", "-o", "mine.jsonc") == 2
        assert capsys.readouterr().err.startswith("smtp-relay: mine.jsonc: exists (")
        assert Path("mine.jsonc").read_text() == "mine"

    def test_no_link_is_followed(self) -> None:
        FILE.symlink_to("elsewhere")
        assert init() == 2
        assert init("--output", str(FILE)) == 2
        assert not Path("elsewhere").exists()

    def test_an_example_of_the_environment_stays(self, capsys: pytest.CaptureFixture[str]) -> None:
        EXAMPLE.write_text("MINE=1\n")
        assert init("smarthost") == 0
        assert EXAMPLE.read_text() == "MINE=1\n"
        printed = capsys.readouterr().out
        assert ".env.example exists and stays as it is." in printed
        assert "SMARTHOST_PASSWORD" in printed

    @pytest.mark.parametrize("place", ["gone/relay.jsonc", ".", "x" * 300])
    def test_a_file_that_cannot_be_made_is_one_line(
        self, place: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert init("-o", place) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert place in line


def test_missing_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("listener.cli.init.command.find_spec", lambda module: None)
    assert init("ses") == 0
    assert "pip install 'smtp-relay[aws]'" in capsys.readouterr().out
    FILE.unlink()
    assert init("debug") == 0
    assert "pip" not in capsys.readouterr().out


def test_the_file_is_read_by_json_tools_after_its_comments() -> None:
    assert init("mail2gcs") == 0
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("//")]
    assert json.loads("\n".join(lines))["port"] == 10025
