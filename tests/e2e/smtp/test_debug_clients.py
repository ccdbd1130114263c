"""Clients at their defaults deliver to the debug server: they use STARTTLS if it is offered, and
verify, and they log in because their application's settings say so."""

from __future__ import annotations

import json
import smtplib
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.docs.test_examples import Example
from tests.support.mails.stored import split_block, strip_added_fields
from tests.support.net import HOST
from tests.support.programs import NODE_MODULES, program, run

MAIL: Final = (
    b"From: ann@client.example\r\nTo: bob@server.example\r\nSubject: hello\r\n\r\nfirst\r\n.\r\nlast\r\n"
)

LOGINS: Final = pytest.mark.parametrize("login", [False, True], ids=["no login", "login"])

GO: Final = """
package main

import ("net/smtp"; "os"; "strings")

func main() {
    var auth smtp.Auth
    if os.Args[2] == "login" { auth = smtp.PlainAuth("", "any", "secret-canary", "127.0.0.1") }
    mail := strings.ReplaceAll(os.Args[3], "\\n", "\\r\\n")
    err := smtp.SendMail(os.Args[1], auth, "ann@client.example", []string{"bob@server.example"}, []byte(mail))
    if err != nil { panic(err) }
}
"""

RUBY: Final = """
require "net/smtp"
port, login, mail = ARGV
credentials = login == "login" ? { user: "any", secret: "secret-canary", authtype: :plain } : {}
Net::SMTP.start("127.0.0.1", port.to_i, **credentials) do |smtp|
  smtp.send_message(mail, "ann@client.example", "bob@server.example")
end
"""

NODE: Final = """
const [port, login] = process.argv.slice(1);
const auth = login === "login" ? { user: "any", pass: "secret-canary" } : undefined;
require("nodemailer").createTransport({ host: "127.0.0.1", port: Number(port), auth })
  .sendMail({ from: "ann@client.example", to: "bob@server.example", bcc: "carl@server.example",
              subject: "hello", text: "first" })
  .catch((error) => { console.error(error); process.exit(1); });
"""


@pytest.fixture(scope="module")
def debug_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    """The server that runs without a configuration file."""

    class Default(Example):
        def command(self) -> list[str]:
            return self.command_for()

    server = Default(tmp_path_factory.mktemp("debug"), "fake-smtp")
    server.start()
    yield server
    assert server.stop() == 0
    assert "secret-canary" not in server.log()


@pytest.fixture
def debug(debug_server: Example) -> Example:
    for mail in debug_server.received.glob("*"):
        mail.unlink()
    return debug_server


def received(debug: Example, *recipients: str) -> bytes:
    """The mail as the client sent it. On top of its file is the envelope, which names the sender and all
    recipients."""
    (mail,) = debug.mails()
    fields, below = split_block(mail)
    assert fields[0] == ("Return-Path", "<ann@client.example>")
    assert ("X-smtp-relay-MAIL_FROM", "ann@client.example") in fields
    named = [value for name, value in fields if name == "X-smtp-relay-RCPT_TO"]
    assert named == list(recipients or ["bob@server.example"])
    return strip_added_fields(below)


def said(login: bool) -> str:
    return "login" if login else "none"


@LOGINS
def test_smtplib(debug: Example, login: bool) -> None:
    with smtplib.SMTP(HOST, debug.port, timeout=60) as client:
        if login:
            client.login("any", "secret-canary")
        client.sendmail("ann@client.example", "bob@server.example", MAIL)
    assert received(debug) == MAIL


def test_the_stored_copy_keeps_the_bcc_field_as_it_was_sent(debug: Example) -> None:
    sent = b"Bcc: carl@server.example\r\n" + MAIL
    with smtplib.SMTP(HOST, debug.port, timeout=60) as client:
        client.sendmail("ann@client.example", ["bob@server.example", "carl@server.example"], sent)
    assert received(debug, "bob@server.example", "carl@server.example") == sent


def test_a_mail_cannot_pretend_to_another_envelope(debug: Example) -> None:
    forged = (
        b"X-smtp-relay-FIELDS: 8\r\nRETURN-PATH: <eve@attack.example>\r\n"
        b"x-Smtp-Relay-User : root\r\n\tof all\r\n"
    )
    with smtplib.SMTP(HOST, debug.port, timeout=60) as client:
        client.sendmail("ann@client.example", "bob@server.example", forged + MAIL)
    assert received(debug) == MAIL


def test_starttls_is_there_for_a_client_that_asks(debug: Example) -> None:
    with smtplib.SMTP(HOST, debug.port, timeout=60) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 220


@LOGINS
def test_nodemailer(debug: Example, login: bool) -> None:
    if not (NODE_MODULES / "nodemailer").exists():
        pytest.skip("npm's nodemailer is missing (`make test` installs it)")
    run(
        [program("node", "nodejs"), "-e", NODE, str(debug.port), said(login)],
        env={"NODE_PATH": str(NODE_MODULES)},
    )
    sent = received(debug, "bob@server.example", "carl@server.example")
    mail = message_from_bytes(sent, policy=policy.default)
    assert (mail["From"], mail["To"], mail["Subject"]) == (
        "ann@client.example",
        "bob@server.example",
        "hello",
    )
    assert mail["Bcc"] is None  # nodemailer names such a recipient in the envelope alone
    assert mail.get_content().splitlines() == ["first"]


@LOGINS
def test_curl(debug: Example, login: bool) -> None:
    ends = ["--mail-from", "ann@client.example", "--mail-rcpt", "bob@server.example"]
    user = ["--user", "any:secret-canary"] if login else []
    url = f"smtp://{HOST}:{debug.port}"
    run([program("curl", "curl"), "-sS", "-m", "60", url, *ends, *user, "-T", "-"], stdin=MAIL)
    assert received(debug) == MAIL


@LOGINS
def test_swaks(debug: Example, login: bool, tmp_path: Path) -> None:
    user = ["--auth-user", "any", "--auth-password", "secret-canary"] if login else []
    ends = ["--server", HOST, "--port", str(debug.port), "--from", "ann@client.example"]
    run([program("swaks", "swaks"), *ends, "--to", "bob@server.example", *user, "--body", "first"])
    assert b"\r\n\r\nfirst" in received(debug)


@LOGINS
def test_msmtp(debug: Example, login: bool) -> None:
    # msmtp sends a password in clear text only by a mechanism that its options name.
    user = ["--auth=plain", "--user=any", "--passwordeval=echo secret-canary"] if login else []
    at = [f"--host={HOST}", f"--port={debug.port}", "--from=ann@client.example"]
    run([program("msmtp", "msmtp"), *at, *user, "bob@server.example"], stdin=MAIL.replace(b"\r\n", b"\n"))
    mail = message_from_bytes(received(debug), policy=policy.default)
    assert (mail["To"], mail.get_content().splitlines()) == ("bob@server.example", ["first", ".", "last"])


@LOGINS
def test_go(debug: Example, login: bool, tmp_path: Path) -> None:
    source = tmp_path / "main.go"
    source.write_text(GO)
    go = program("go", "golang-go")
    home = {"GOCACHE": str(tmp_path / "cache"), "GOPATH": str(tmp_path / "path"), "GOFLAGS": "-mod=mod"}
    text = MAIL.replace(b"\r\n", b"\n").decode()
    run([go, "run", source, f"{HOST}:{debug.port}", said(login), text], env=home, seconds=300)
    assert received(debug) == MAIL


@LOGINS
def test_ruby(debug: Example, login: bool) -> None:
    run([program("ruby", "ruby"), "-e", RUBY, str(debug.port), said(login), MAIL.decode()])
    assert received(debug) == MAIL


def test_php_through_sendmail(debug: Example) -> None:
    """PHP hands its mail to msmtp, which replaces sendmail."""
    command = f"{program('msmtp', 'msmtp')} --host={HOST} --port={debug.port} --from=ann@client.example -t"
    script = 'exit(mail("bob@server.example", "hello", "first") ? 0 : 1);'
    run([program("php", "php-cli"), "-d", f"sendmail_path={command}", "-r", script])
    mail = message_from_bytes(received(debug), policy=policy.default)
    assert (mail["To"], mail["Subject"]) == ("bob@server.example", "hello")
    assert mail.get_content().splitlines() == ["first"]


def test_the_login_is_told_and_its_password_is_not(debug: Example) -> None:
    with smtplib.SMTP(HOST, debug.port, timeout=60) as client:
        client.login("the-user", "secret-canary")
        client.sendmail("ann@client.example", "bob@server.example", MAIL)
    assert "secret-canary" not in debug.log()
    assert json.dumps("secret-canary") not in b"".join(debug.mails()).decode()
