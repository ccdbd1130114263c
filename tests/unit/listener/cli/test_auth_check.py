"""`smtp-relay auth-check`."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from listener.cli.main import main
from tests.support.mails.signer import record, rsa_key, sign
from tests.support.net import HOST
from tests.support.servers.dns_server import DnsServer

MAIL: Final = sign(
    b"Received: from a.example by b.example with ESMTP; Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    b"From: Ann <ann@example.com>\r\nTo: bob@example.net\r\nSubject: hello\r\nDate: x\r\n\r\nHi Bob\r\n"
)
ZONE: Final[dict[str, Any]] = {
    "sel._domainkey.example.com": {"TXT": [record(rsa_key())]},
    "example.com": {"TXT": ["v=spf1 ip4:192.0.2.0/24 exp=why.example.com -all"]},
    "why.example.com": {"TXT": ["Not from \u202e %{i}"]},
    "_dmarc.example.com": {"TXT": ["v=DMARC1; p=reject"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mail.eml").write_bytes(MAIL)
    (tmp_path / "zone.json").write_text(json.dumps(ZONE))
    return tmp_path


def run(folder: Path, *arguments: str, ip: str = "192.0.2.1", zone: str = "zone.json") -> int:
    sender = ["--ip", ip, "--helo", "mx.example.com", "--mail-from", "<ann@example.com>"]
    around = ["--receiver", "mx.example", "--zone", str(folder / zone)]
    return main(["auth-check", str(folder / "mail.eml"), *sender, *around, *arguments])


def test_readable(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0] == "spf      pass       mailfrom example.com; from 192.0.2.1; by ip4:192.0.2.0/24"
    assert lines[1].startswith("dkim     pass       d=example.com s=sel; i=@example.com; rsa-sha256")
    assert lines[2].startswith("arc      none")
    assert lines[3].startswith(
        "dmarc    pass       From example.com; p=reject; record at _dmarc.example.com;"
    )
    assert "hop                 from a.example; by b.example; with ESMTP; Mon, 5 Jan 2026" in text
    assert "decision accept" in text
    assert "Authentication-Results: mx.example;\n\tspf=pass" in text
    assert "Received-SPF: pass" in text
    assert "  TXT  _dmarc.example.com: found\n         v=DMARC1; p=reject\n" in text
    assert "  TXT  _dmarc.com: no such name" in text
    assert "\r" not in text


def test_a_refusal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mail.eml").write_bytes(MAIL.replace(b"Hi Bob", b"Hi Rob"))
    assert run(folder, ip="198.51.100.1") == 1
    text = capsys.readouterr().out
    assert "dkim     fail       body hash did not verify; d=example.com" in text
    assert "decision refuse: 550 5.7.1 Email rejected per DMARC policy (p=reject) for example.com" in text


def test_what_strangers_write_is_made_harmless(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zone = ZONE | {
        "why.example.com": {"TXT": ["\x1b[31mred %{i}"]},
        "_dmarc.example.com": {"TXT": ["\x1b]0;x\x07"]},
    }
    (folder / "evil.json").write_text(json.dumps(zone))
    run(folder, ip="198.51.100.1", zone="evil.json")
    text = capsys.readouterr().out
    assert "the domain explains: [31mred 198.51.100.1" in text
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\\x1b]0;x\\x07" in text


def test_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(folder, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["decision"] == {"verdict": "accept"}
    assert found["results"]["dmarc"]["result"] == "pass"
    assert found["headers"]["Authentication-Results"].startswith("mx.example;")
    assert {
        "name": "_dmarc.com",
        "type": "TXT",
        "outcome": "no such name",
        "reason": "",
        "records": [],
    } in found["dns"]


def test_options(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mail.eml").write_bytes(MAIL.partition(b"\r\n")[2])
    assert run(folder, "--refuse", "spf-fail", ip="198.51.100.1") == 1
    assert run(folder, "--min-bits", "4096") == 0
    assert "2048-bit key is too short" not in capsys.readouterr().err
    (folder / "mail.eml").write_bytes(b"From: a@other.example\r\n\r\n")
    assert run(folder) == 0
    assert run(folder, "--enforce-dmarc", "v=DMARC1; p=reject") == 1
    assert "(enforced)" in capsys.readouterr().out


def test_lone_line_feeds_are_normalized(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "mail.eml").write_bytes(MAIL.replace(b"\r\n", b"\n"))
    assert run(folder) == 0
    assert "dkim     pass" in capsys.readouterr().out


def test_standard_input(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MAIL)))
    assert main(["auth-check", "-", "--ip", "::ffff:192.0.2.1", "--zone", str(folder / "zone.json")]) == 0
    assert "from 192.0.2.1" in capsys.readouterr().out


def test_over_dns(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with DnsServer(ZONE) as server:
        servers = ["--nameserver", HOST, "--dns-port", str(server.port), "--timeout", "1"]
        asked = [
            "auth-check",
            str(folder / "mail.eml"),
            "--ip",
            "192.0.2.1",
            "--mail-from",
            "ann@example.com",
        ]
        assert main([*asked, *servers]) == 0
        server.zone = ZONE | {
            "sel._domainkey.example.com": {"*": "SERVFAIL"},
            "example.com": {"*": "REFUSED"},
        }
        assert main([*asked, *servers]) == 1
    text = capsys.readouterr().out
    assert "decision defer: 451 4.7.0 DMARC of example.com cannot be evaluated now" in text
    assert "sel._domainkey.example.com: temporary failure (no name server gave an answer)" in text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["gone.eml", "--ip", "192.0.2.1"], "gone.eml: cannot be read: No such file or directory"),
        (["mail.eml", "--ip", "here"], "--ip: 'here' is not an IP address"),
        (["mail.eml", "--ip", "192.0.2.1", "--nameserver", "ns"], "--nameserver: 'ns' is not an IP address"),
        (
            ["mail.eml", "--ip", "192.0.2.1", "--enforce-dmarc", "p=x"],
            "--enforce-dmarc: 'p=x' is not a DMARC record",
        ),
        (["mail.eml", "--ip", "192.0.2.1", "--zone", "mail.eml"], "cannot be read as JSON"),
        (["mail.eml", "--ip", "192.0.2.1", "--zone", "list.json"], "is not {"),
    ],
)
def test_mistakes(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    complaint: str,
) -> None:
    (folder / "list.json").write_text("[]")
    monkeypatch.chdir(folder)
    assert main(["auth-check", *arguments]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert "Traceback" not in told
