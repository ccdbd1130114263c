"""Real mail clients deliver through the relay: smtplib, curl, swaks, msmtp, nodemailer."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from pathlib import Path
from typing import Final

import pytest

from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST
from tests.support.programs import NODE_MODULES, program, run
from tests.support.servers.relay import Relay, flow

STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:pass word"}

MAIL: Final = (
    b"Message-ID: <one@client.example>\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\n"
    b"From: Ann <ann@client.example>\r\nTo: Bob <bob@server.example>\r\n"
    b"Subject: =?utf-8?q?d=C3=A9j=C3=A0?=\r\n"
    b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n"
    b"\r\n" + "déjà vu\r\n.\r\n..dots\r\n\r\nend\r\n".encode()
)


@pytest.fixture
def guarded(relay_for: Callable[..., Relay]) -> Relay:
    return relay_for({"flows": {"in": flow(STATIC)}}, authOptional=False, allowInsecureAuth=True)


class TestSmtplib:
    def test_octets(self, relay: Relay) -> None:
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.sendmail(
                "ann@client.example", ["bob@server.example", "c@server.example"], MAIL, ["BODY=8BITMIME"]
            )
        assert strip_added_fields(relay.mails()[0]) == MAIL

    def test_message_with_attachment(self, relay: Relay) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = (
            "ann@client.example",
            "bob@server.example",
            "déjà",
        )
        message.set_content("see the attachment\n")
        message.add_attachment(
            bytes(range(256)) * 40, maintype="application", subtype="octet-stream", filename="x"
        )
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.send_message(message)
            client.send_message(message)
        assert len(relay.mails()) == 2

    def test_smtputf8(self, relay: Relay) -> None:
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = "änn@client.example", "böb@server.example", "hé"
        message.set_content("x\n")
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.send_message(message)
        (mail,) = relay.mails()
        assert b" with UTF8SMTP id " in mail
        assert "for <böb@server.example>".encode() in mail

    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
    @pytest.mark.parametrize("initial", [True, False])
    def test_login(self, guarded: Relay, mechanism: str, initial: bool) -> None:
        with smtplib.SMTP(HOST, guarded.port, timeout=20) as client:
            client.ehlo()
            client.esmtp_features["auth"] = mechanism
            client.login("user", "pass word", initial_response_ok=initial)
            client.sendmail("ann@client.example", "bob@server.example", MAIL)
        assert strip_added_fields(guarded.mails()[0]) == MAIL

    def test_wrong_password(self, guarded: Relay) -> None:
        with (
            smtplib.SMTP(HOST, guarded.port, timeout=20) as client,
            pytest.raises(smtplib.SMTPAuthenticationError),
        ):
            client.login("user", "wrong")
        assert guarded.mails() == []


class TestCurl:
    def test_octets(self, relay: Relay) -> None:
        run([*self._command(relay), "-T", "-"], stdin=MAIL)
        assert strip_added_fields(relay.mails()[0]) == MAIL

    def test_login(self, guarded: Relay) -> None:
        run([*self._command(guarded), "--user", "user:pass word", "-T", "-"], stdin=MAIL)
        assert strip_added_fields(guarded.mails()[0]) == MAIL

    def test_large_file(self, relay: Relay, tmp_path: Path) -> None:
        mail = MAIL + (b"." + b"x" * 70 + b"\r\n") * 60_000
        (tmp_path / "mail").write_bytes(mail)
        run([*self._command(relay), "-T", tmp_path / "mail"])
        assert strip_added_fields(relay.mails()[0]) == mail

    @staticmethod
    def _command(relay: Relay) -> list[str]:
        ends = ["--mail-from", "ann@client.example", "--mail-rcpt", "bob@server.example"]
        return [
            program("curl", "curl"),
            "-sS",
            "-m",
            "30",
            f"smtp://{HOST}:{relay.port}/client.example",
            *ends,
        ]


class TestSwaks:
    def test_default_mail(self, relay: Relay) -> None:
        run([*self._command(relay), "--header", "Subject: from swaks"])
        (mail,) = relay.mails()
        assert b"\r\nSubject: from swaks\r\n" in mail

    def test_pipelined(self, relay: Relay) -> None:
        run([*self._command(relay), "--pipeline", "--to", "b@server.example,c@server.example"])
        assert len(relay.mails()) == 1

    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
    def test_login(self, guarded: Relay, mechanism: str) -> None:
        secret = ["--auth", mechanism, "--auth-user", "user", "--auth-password", "pass word"]
        run([*self._command(guarded), *secret])
        assert len(guarded.mails()) == 1

    @staticmethod
    def _command(relay: Relay) -> list[str]:
        swaks = program("swaks", "swaks")
        return [
            swaks,
            "--server",
            HOST,
            "--port",
            str(relay.port),
            "--to",
            "b@server.example",
            "--from",
            "a@client.example",
            "--helo",
            "client.example",
        ]


class TestMsmtp:
    def test_octets(self, relay: Relay) -> None:
        run([*self._command(relay), "bob@server.example"], stdin=MAIL.replace(b"\r\n", b"\n"))
        assert strip_added_fields(relay.mails()[0]) == MAIL

    def test_login(self, guarded: Relay, tmp_path: Path) -> None:
        secret = ["--auth=plain", "--user=user", "--passwordeval=echo pass word"]
        run([*self._command(guarded), *secret, "bob@server.example"], stdin=MAIL.replace(b"\r\n", b"\n"))
        assert strip_added_fields(guarded.mails()[0]) == MAIL

    @staticmethod
    def _command(relay: Relay) -> list[str]:
        where = [f"--host={HOST}", f"--port={relay.port}", "--from=ann@client.example", "--tls=off"]
        return [program("msmtp", "msmtp"), "--file=/dev/null", "--timeout=20", *where]


class TestNodemailer:
    SCRIPT: Final = """
        const [port, auth] = JSON.parse(process.argv[1]);
        const transport = require("nodemailer").createTransport({
          host: "127.0.0.1", port, auth: auth || undefined, ignoreTLS: true, pool: true, maxConnections: 2});
        const mail = (n) => ({
          from: "Ann <ann@client.example>", to: ["bob@server.example"], subject: `déjà ${n}`,
          text: "plain\\n.\\n..dot\\n", html: "<p>déjà</p>",
          attachments: [{filename: "ü.bin", content: Buffer.alloc(100000, n)}]});
        Promise.all([0, 1, 2, 3, 4].map((n) => transport.sendMail(mail(n))))
          .then((all) => { console.log(JSON.stringify(all.map((one) => one.response))); transport.close(); })
          .catch((error) => { console.error(error); process.exit(1); });
    """

    def test_pooled(self, relay: Relay) -> None:
        assert all(answer.startswith("250 2.0.0") for answer in self._send(relay, None))
        assert len(relay.mails()) == 5

    def test_login(self, guarded: Relay) -> None:
        self._send(guarded, {"user": "user", "pass": "pass word"})
        assert len(guarded.mails()) == 5

    def _send(self, relay: Relay, auth: dict[str, str] | None) -> list[str]:
        node = program("node", "nodejs")
        if not (NODE_MODULES / "nodemailer").exists():
            pytest.skip("npm's nodemailer is missing (`make test` installs it)")
        argument = json.dumps([relay.port, auth])
        done = run([node, "-e", self.SCRIPT, argument], env={"NODE_PATH": str(NODE_MODULES)})
        answers: list[str] = json.loads(done.stdout)
        return answers
