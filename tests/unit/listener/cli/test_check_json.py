"""`check --json`: people paste it into issues, so it shows no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from listener.cli.main import main

CONFIG = {
    "flows": {
        "a": {
            "filters": [
                {"type": "static-auth", "username": "app", "password": "plain:secret-1"},
                {"type": "http-auth", "url": "https://auth.example/x?key=secret-2"},
                {
                    "type": "http-filter",
                    "url": "https://h.example/?token=secret-3",
                    "hmac": {"secret": "secret-4"},
                },
            ],
            "outputs": [
                {
                    "type": "mailer",
                    "name": "one",
                    "nodemailer": {"host": "smtp.example", "auth": {"user": "u", "pass": "secret-5"}},
                },
                {"type": "mailer", "name": "two", "nodemailer": "smtp://u:secret-6@smtp.example"},
                {"type": "file", "path": "mails", "addRawHeaders": True},
            ],
        }
    },
    "inbox": {"users": {"ann": {"password": "plain:secret-7"}}},
    "options": {"passphrase": "secret-8"},
}


@pytest.mark.parametrize("spoilt", [False, True])
@pytest.mark.parametrize("flag", ["--json", "--offline", "--public", "--from-loopingz"])
def test_the_report_for_an_issue_shows_no_secret(
    spoilt: bool,
    flag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = CONFIG | {"inbox": {"users": {"ann": {"password": "secret-9"}}}} if spoilt else CONFIG
    Path("relay.json").write_text(json.dumps(config))
    assert main(["check", "--json", flag, "relay.json"]) == (2 if spoilt or flag == "--public" else 0)
    said = capsys.readouterr()
    assert json.loads(said.out)["good"] is not (spoilt or flag == "--public")
    assert "secret-" not in said.out + said.err
