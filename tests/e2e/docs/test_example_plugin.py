"""The plugin of docs/examples is installed as a stranger's would be, and used."""

from __future__ import annotations

import mailbox
import shutil
import smtplib
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.net import HOST
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
