"""The plugin of docs/examples is installed as a stranger's would be, and used."""

from __future__ import annotations

import json
import mailbox
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.mails.dead_letters import wait_for_records
from tests.support.net import HOST, wait_until
from tests.support.servers.relay import ROOT, Relay

EXAMPLE = ROOT / "docs" / "examples" / "plugin"

MAIL = b"Subject: %s\r\n\r\nFrom here\r\n>From there\r\n"

MAIN = "import sys; sys.path.insert(0, sys.argv.pop(1)); from listener.cli.main import main; sys.exit(main())"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the installed plugin."""
    folder = tmp_path_factory.mktemp("plugin")
    # built from a copy, because building leaves files in the source folder
    source = shutil.copytree(EXAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(folder / "site"), str(source)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder / "site"


def config(**changes: Any) -> dict[str, Any]:
    one = {
        "filters": [{"type": "subject-words", "refuse": ["Lottery"], **changes}],
        "outputs": [{"type": "mbox", "path": "{folder}/mails.mbox"}],
    }
    return {"flows": {"in": one}, "delivery": {"waitFor": "all"}}


class Extended(Relay):
    """A relay beside which the plugin is installed."""

    site: Path

    def command(self) -> Sequence[str]:
        usual = list(super().command())
        return [sys.executable, "-c", MAIN, str(self.site), *usual[usual.index("serve") :]]


def check(site: Path, folder: Path, **changes: Any) -> subprocess.CompletedProcess[str]:
    relay = Extended(folder, config(**changes))
    relay.site = site
    command = ["check" if word == "serve" else word for word in relay.command()]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_the_filter_decides_and_the_output_delivers(site: Path, tmp_path: Path) -> None:
    relay = Extended(tmp_path / "relay", config())
    relay.site = site
    relay.start()
    try:
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.sendmail("a@client.example", ["b@server.example"], MAIL % b"hello")
            with pytest.raises(smtplib.SMTPDataError) as refused:
                client.sendmail(
                    "a@client.example", ["b@server.example"], MAIL % b"=?utf-8?q?You_win_the_lottery?="
                )
            client.sendmail("", ["b@server.example"], MAIL % b"again")
        assert refused.value.smtp_code == 550
        assert refused.value.smtp_error == b"5.7.1 We do not take mail about that"
    finally:
        relay.stop()
    stored = mailbox.mbox(relay.folder / "mails.mbox", create=False)
    try:
        assert [mail["subject"] for mail in stored] == ["hello", "again"]
        assert [mail.get_from().split()[0] for mail in stored] == ["a@client.example", "MAILER-DAEMON"]
        assert stored[0].get_payload() == ">From here\n>>From there\n"
    finally:
        stored.close()


def test_its_options_are_checked_like_our_own(site: Path, tmp_path: Path) -> None:
    run = check(site, tmp_path, refused=["x"])
    assert run.returncode == 2
    assert "flows.in.filters[0]" in run.stderr + run.stdout
    assert "'refused'" in run.stderr + run.stdout
    assert "'refuse'" in run.stderr + run.stdout
    assert "Traceback" not in run.stderr


def test_without_the_plugin_its_type_is_unknown(tmp_path: Path) -> None:
    run = check(tmp_path / "nowhere", tmp_path)
    assert run.returncode == 2
    assert "unknown filter type 'subject-words'" in run.stderr + run.stdout


def test_a_broken_plugin_is_named(site: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(site, tmp_path / "site")
    (broken / "smtp_relay_example" / "subject_words.py").write_text("import nothing_of_this_name\n")
    run = check(broken, tmp_path)
    assert run.returncode == 2
    assert "plugin smtp-relay-example cannot be loaded" in run.stderr + run.stdout
    assert "Traceback" not in run.stderr


HANDLER = """
import asyncio, email, json
from aiosmtpd.handlers import Message

class Keeps:
    def __init__(self):
        self.calls = 0

    async def handle_DATA(self, server, session, envelope):
        await asyncio.sleep(0)
        self.calls += 1
        subject = email.message_from_bytes(envelope.content)["subject"]
        if "later" in subject and self.calls == 1:
            return "451 4.3.0 not now"
        if "never" in subject:
            return "554 5.6.0 not this one"
        if "nothing" in subject and self.calls == 1:
            return None
        said = [subject, envelope.mail_from, envelope.rcpt_tos, session.peer[0], session.host_name]
        with open("kept.jsonl", "a") as file:
            file.write(json.dumps([*said, self.calls]) + "\\n")
        return "250 2.0.0 kept"

class Parsed(Message):
    def handle_message(self, message):
        with open("kept.jsonl", "a") as file:
            file.write(json.dumps([message["subject"], message["X-MailFrom"], message["X-RcptTo"]]) + "\\n")

class NoHandler:
    pass
"""


def handled(site: Path, tmp_path: Path, kind: str = "Keeps") -> Extended:
    """A relay whose output is a handler of aiosmtpd."""
    place = shutil.copytree(site, tmp_path / "site")
    (place / "my_handler.py").write_text(HANDLER)
    one = {
        "filters": [{"type": "whitelist", "ips": [HOST]}],
        "outputs": [{"type": "aiosmtpd-handler", "handler": f"my_handler:{kind}"}],
    }
    relay = Extended(
        tmp_path / "relay", {"flows": {"in": one}, "delivery": {"retry": {"first": 100, "max": 300}}}
    )
    relay.site = place
    return relay


@pytest.mark.parametrize(("subject", "calls"), [(b"hello", 1), (b"later", 2), (b"nothing", 2)])
def test_a_handler_of_aiosmtpd_is_carried_over(
    site: Path, tmp_path: Path, subject: bytes, calls: int
) -> None:
    relay = handled(site, tmp_path)
    relay.start()
    kept = relay.folder / "kept.jsonl"
    try:
        with smtplib.SMTP(HOST, relay.port, local_hostname="me.example", timeout=20) as client:
            client.sendmail("a@client.example", ["b@server.example", "c@server.example"], MAIL % subject)
        wait_until(lambda: kept.exists() and kept.read_text().endswith("\n"), seconds=60, what=relay.log())
    finally:
        relay.stop()
    (line,) = kept.read_text().splitlines()
    said = [subject.decode(), "a@client.example", ["b@server.example", "c@server.example"]]
    assert json.loads(line) == [*said, HOST, "me.example", calls]


def test_a_handler_of_the_class_message_gets_the_parsed_mail(site: Path, tmp_path: Path) -> None:
    relay = handled(site, tmp_path, "Parsed")
    relay.start()
    kept = relay.folder / "kept.jsonl"
    try:
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.sendmail("a@client.example", ["b@server.example"], MAIL % b"hello")
        wait_until(lambda: kept.exists() and kept.read_text().endswith("\n"), seconds=60, what=relay.log())
    finally:
        relay.stop()
    assert json.loads(kept.read_text()) == ["hello", "a@client.example", "b@server.example"]


def test_a_mail_that_the_handler_refuses_is_given_up_with_its_words(site: Path, tmp_path: Path) -> None:
    relay = handled(site, tmp_path)
    relay.start()
    try:
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.sendmail("a@client.example", ["b@server.example"], MAIL % b"never")
        (letter,) = wait_for_records(relay, 1)
    finally:
        relay.stop()
    assert (letter["code"], letter["reason"]) == ("5.6.0", "the handler says: 554 5.6.0 not this one")


@pytest.mark.parametrize(
    ("kind", "says"), [("Gone", "has no attribute 'Gone'"), ("NoHandler", "NoHandler has no handle_DATA")]
)
def test_a_handler_that_is_none_is_found_at_start(site: Path, tmp_path: Path, kind: str, says: str) -> None:
    relay = handled(site, tmp_path, kind)
    command = ["check" if word == "serve" else word for word in relay.command()]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert run.returncode == 2
    assert says in run.stdout + run.stderr
    assert "Traceback" not in run.stderr
