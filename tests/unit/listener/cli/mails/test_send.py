"""`send`, against aiosmtpd as the server."""

import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from listener.cli import main as cli
from listener.cli.mails.send import mailbox


class Kept:
    """Keeps its mails; refuses recipients that say so."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []
        self.sessions: list[Session] = []

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, recipient: str, options: list[str]
    ) -> str:
        if "refused" in recipient:
            return "550 5.1.1 not \x1b[31mhere"
        envelope.rcpt_tos.append(recipient)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        self.envelopes.append(envelope)
        self.sessions.append(session)
        return "250 taken"


class Lmtp(Controller):
    def factory(self) -> SMTP:
        return LMTP(self.handler, hostname="lmtp.test", enable_SMTPUTF8=True)


def check(server: Any, session: Any, envelope: Any, mechanism: str, data: LoginPassword) -> AuthResult:
    return AuthResult(success=data == LoginPassword(b"user", b"pass word"), handled=False)


def started(kind: type[Controller] = Controller, **options: Any) -> Controller:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = kind(Kept(), hostname="127.0.0.1", port=port, **options)
    controller.start()
    return controller


@pytest.fixture
def server() -> Iterator[Controller]:
    controller = started(auth_require_tls=False, authenticator=check, enable_SMTPUTF8=True)
    yield controller
    controller.stop()


def send(server: Controller, *arguments: str) -> int:
    return cli.main(["send", "--server", f"127.0.0.1:{server.port}", "--helo", "client.test", *arguments])


def mail(server: Controller, index: int = -1) -> tuple[Envelope, EmailMessage]:
    envelope = server.handler.envelopes[index]
    parsed = message_from_bytes(envelope.content, policy=policy.default)
    assert isinstance(parsed, EmailMessage)
    return envelope, parsed


def test_a_mail_of_parts(server: Controller, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "note.txt").write_text("a note")
    (tmp_path / "blob.bin").write_bytes(bytes(range(256)))
    status = send(
        server,
        *("--from", "a@b.test", "--to", "c@d.test,e@f.test", "--to", "g@h.test"),
        *("--subject", "Grüße", "--header", "X-Mark: one", "--header", "Subject: other", "--body", "Hällo"),
        *("--attach", str(tmp_path / "note.txt"), "--attach", str(tmp_path / "blob.bin")),
    )
    assert status == 0
    assert capsys.readouterr().out == "taken: 250 taken\n"
    envelope, parsed = mail(server)
    assert envelope.mail_from == "a@b.test"
    assert envelope.rcpt_tos == ["c@d.test", "e@f.test", "g@h.test"]
    assert parsed["X-Mark"] == "one"
    assert parsed["Subject"] == "other"
    assert parsed["To"] == "c@d.test, e@f.test, g@h.test"
    body = parsed.get_body()
    assert body is not None
    assert body.get_content().strip() == "Hällo"
    assert [part.get_filename() for part in parsed.iter_attachments()] == ["note.txt", "blob.bin"]
    assert server.handler.sessions[0].host_name == "client.test"


def test_a_whole_mail_goes_as_it_is(server: Controller, tmp_path: Path):
    (tmp_path / "mail.eml").write_bytes(b"Subject: x\n\n.dot\r\nb\xe9\n")
    assert send(server, "--to", "c@d.test", "--data", str(tmp_path / "mail.eml")) == 0
    envelope, _ = mail(server)
    assert envelope.content == b"Subject: x\r\n\r\n.dot\r\nb\xe9\r\n"
    assert envelope.mail_from == "sender@localhost"


def test_a_body_from_a_file(server: Controller, tmp_path: Path):
    (tmp_path / "body").write_text("from a file")
    assert send(server, "--to", "c@d.test", "--body", f"@{tmp_path / 'body'}") == 0
    assert b"from a file" in mail(server)[0].content


def test_addresses_beyond_ascii(server: Controller):
    assert send(server, "--from", "jö@b.test", "--to", "müller@d.test") == 0
    envelope, parsed = mail(server)
    assert envelope.rcpt_tos == ["müller@d.test"]
    assert "SMTPUTF8" in envelope.mail_options
    assert parsed["To"] == "müller@d.test"


def test_refusals_are_1(server: Controller, capsys: pytest.CaptureFixture[str]):
    assert send(server, "--to", "c@d.test", "--to", "refused@d.test") == 1
    assert "refused: refused@d.test: 550 5.1.1" in capsys.readouterr().err
    assert mail(server)[0].rcpt_tos == ["c@d.test"]
    assert send(server, "--to", "refused@d.test") == 1
    err = capsys.readouterr().err
    assert "no recipient was accepted" in err
    assert "\x1b" not in err


def test_authentication(
    server: Controller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert send(server, "--to", "c@d.test", "--auth", "user:pass word") == 0
    monkeypatch.setenv("PW", "pass word")
    assert send(server, "--to", "c@d.test", "--auth", "user:env:PW") == 0
    assert send(server, "--to", "c@d.test", "--auth", "user:wrong") == 1
    assert "refused: 535" in capsys.readouterr().err
    assert server.handler.sessions[1].authenticated
    monkeypatch.setattr("getpass.getpass", lambda prompt: "pass word")
    assert send(server, "--to", "c@d.test", "--auth", "user") == 0


def test_the_dialogue(server: Controller, capsys: pytest.CaptureFixture[str]):
    assert send(server, "--to", "c@d.test", "--verbose") == 0
    err = capsys.readouterr().err
    assert "-> 'mail FROM:<sender@localhost>" in err
    assert "<- b'250 OK" in err


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_the_dialogue_keeps_the_password(mechanism: str, capsys: pytest.CaptureFixture[str]):
    others = {"PLAIN", "LOGIN"} - {mechanism}
    server = started(auth_require_tls=False, authenticator=check, auth_exclude_mechanism=others)
    try:
        assert send(server, "--to", "c@d.test", "--auth", "user:pass word", "--verbose") == 0
    finally:
        server.stop()
    err = capsys.readouterr().err
    for octets in (b"pass word", b"\0user\0pass word"):
        assert b64encode(octets).decode().rstrip("=") not in err
    assert "pass word" not in err
    assert "-> (login)" in err
    assert "<- b'235" in err
    assert "-> 'mail FROM:<sender@localhost>" in err


def test_tls(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_certificate(tmp_path))
    controller = started(tls_context=context, require_starttls=True)
    try:
        assert send(controller, "--to", "c@d.test") == 1
        assert send(controller, "--to", "c@d.test", "--tls") == 1
        assert "certificate verify failed" in capsys.readouterr().err
        assert send(controller, "--to", "c@d.test", "--tls", "--insecure") == 0
    finally:
        controller.stop()
    implicit = started(ssl_context=context)
    try:
        assert send(implicit, "--to", "c@d.test", "--tls-on-connect", "--insecure") == 0
    finally:
        implicit.stop()


def test_lmtp_has_a_transaction_for_each_recipient():
    controller = started(Lmtp)
    try:
        assert (
            send(controller, "--to", "a@d.test", "--to", "refused@d.test", "--to", "b@d.test", "--lmtp") == 1
        )
        assert [one.rcpt_tos for one in controller.handler.envelopes] == [["a@d.test"], ["b@d.test"]]
    finally:
        controller.stop()


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["send", "--server", "x" * 70 + ":25", "--to", "a@b.test"]) == 1
    assert "unexpected" not in capsys.readouterr().err


def test_no_server_there(capsys: pytest.CaptureFixture[str]):
    port = closed_port()
    assert cli.main(["send", "--server", f"127.0.0.1:{port}", "--to", "a@b.test"]) == 1
    assert f"127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--header", "no colon"],
        ["--header", "X Y: 1"],
        ["--header", "X-A: \udcff"],
        ["--subject", "\udcff"],
        ["--body", "\udcff"],
        ["--helo", "a\r\nb"],
        ["--helo", "ü"],
        ["--subject", "a\r\nBcc: x@y.test"],
        ["--attach", "gone.txt"],
        ["--data", "gone.eml"],
        ["--auth", "u:env:NO_SUCH_VARIABLE"],
    ],
)
def test_mistakes_are_2(server: Controller, arguments: list[str]):
    assert send(server, "--to", "a@b.test", *arguments) == 2
    assert server.handler.envelopes == []


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class TestRecipients:
    def test_stand_as_words_anywhere(self, server: Controller):
        assert send(server, "a@d.test", "--subject", "x", "b@d.test,c@d.test", "--to", "e@d.test") == 0
        envelope, parsed = mail(server)
        assert envelope.rcpt_tos == ["a@d.test", "b@d.test", "c@d.test", "e@d.test"]
        assert envelope.mail_from == "sender@localhost"
        assert parsed["From"] == "sender@localhost"

    def test_may_stand_in_angle_brackets_or_hold_a_comma(self, server: Controller):
        assert send(server, '<a@d.test>,"x, y"@d.test') == 0
        assert mail(server)[0].rcpt_tos == ["a@d.test", '"x, y"@d.test']

    @pytest.mark.parametrize("sender", ["", "<>"])
    def test_the_null_sender_is_said(self, server: Controller, sender: str):
        assert send(server, "--from", sender, "a@d.test") == 0
        assert mail(server)[0].mail_from in {"", "<>"}

    @pytest.mark.parametrize("given", [[], [""], [",", "--to", " "]])
    def test_are_needed(self, server: Controller, given: list[str], capsys: pytest.CaptureFixture[str]):
        assert send(server, *given) == 2
        assert capsys.readouterr().err == "smtp-relay: send: no recipient (smtp-relay send you@example.com)\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("you", "has no domain"),
        ("you@", "has no domain"),
        ("@example.com", "has no local part"),
        ("@", "has no domain"),
        ("a b@example.com", "holds a blank"),
        ("a@exam ple.com", "holds a blank"),
        ("Ann <ann@example.com>", "holds a blank"),
        ("a@b.test\r\nRCPT TO:<x@y.test>", "holds a control character"),
        ("a\x1b[31m@b.test", "holds a control character"),
        ("a\u202e@b.test", "holds a control character"),
        ("a\udcff@b.test", "holds a control character"),
        (f"{'a' * 65}@b.test", "is too long: its local part"),
        (f"{'ä' * 33}@b.test", "is too long: its local part"),
        (f"a@{'b.' * 130}test", "is too long: its domain"),
        (f"{'a' * 64}@{'b.' * 100}test", "is too long: its address"),
        ("a@b..test", "has a domain with an empty"),
        ("a@.test", "has a domain with an empty"),
        (f"a@{'b' * 64}.test", "has a domain with an empty or too long part"),
        ("a@b@c.test", "is not an address"),
        ("a<b@c.test", "is not an address"),
        ('"a@c.test', "is not an address"),
        ("a@[bad", "is not an address"),
    ],
)
def test_a_bad_address_is_refused_on_one_line(
    server: Controller, text: str, reason: str, capsys: pytest.CaptureFixture[str]
):
    for arguments in ([text], ["--to", text], ["--from", text, "a@b.test"]):
        assert send(server, *arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert reason in line
        assert line.endswith("(an address is like you@example.com)")
        assert line.isprintable()
        assert len(line) < 250
    assert server.handler.sessions == []


@pytest.mark.parametrize(
    "text",
    [
        "a@b",
        "a@localhost",
        "postmaster",
        "Postmaster",
        "a+b@c.test",
        '"a b"@c.test',
        "a@[192.0.2.1]",
        "ü@ü.test",
    ],
)
def test_an_address_that_servers_take_is_taken(text: str):
    assert mailbox(text) == mailbox(f"<{text}>") == mailbox(f" {text} ") == text


class TestExplained:
    """What the user reads if it does not work, and can do then."""

    def line(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
        assert cli.main(["send", "a@b.test", *arguments]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        return line

    def test_nothing_listens_here(self, capsys: pytest.CaptureFixture[str]):
        port = closed_port()
        line = self.line(capsys, "--port", str(port))
        assert line.startswith(f"localhost:{port}: nothing accepts the connection")
        assert "smtp-relay serve starts it; --port PORT names another port" in line

    def test_no_such_host(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
        def unknown(*_: Any, **__: Any) -> Any:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        assert self.line(capsys, "--server", "h.test:25") == (
            "h.test:25: no such host (--server names another one)"
        )

    def test_no_answer(self, capsys: pytest.CaptureFixture[str]):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            port = silent.getsockname()[1]
            line = self.line(capsys, "--server", f"127.0.0.1:{port}", "--timeout", "0.2")
        assert "no answer within 0.2 s" in line
        assert "--tls-on-connect" in line

    def test_a_server_that_hangs_up(self, capsys: pytest.CaptureFixture[str]):
        with socket.create_server(("127.0.0.1", 0)) as rude:
            thread = threading.Thread(target=lambda: rude.accept()[0].close())
            thread.start()
            line = self.line(capsys, "--server", f"127.0.0.1:{rude.getsockname()[1]}")
            thread.join()
        assert "--tls-on-connect" in line

    def test_tls_where_there_is_none(self, server: Controller, capsys: pytest.CaptureFixture[str]):
        where = ("--server", f"127.0.0.1:{server.port}")
        assert "does not offer STARTTLS (leave --tls out)" in self.line(capsys, *where, "--tls")
        line = self.line(capsys, *where, "--tls-on-connect")
        assert "no TLS connection" in line
        assert "(leave --tls-on-connect out, or use --tls)" in line

    def test_a_certificate_that_is_not_trusted(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(_certificate(tmp_path))
        controller = started(tls_context=context, require_starttls=True)
        where = ("--server", f"127.0.0.1:{controller.port}")
        try:
            line = self.line(capsys, *where, "--tls")
            assert line.endswith("(--insecure accepts any certificate)")
            assert self.line(capsys, *where).endswith("(use --tls)")
        finally:
            controller.stop()

    @pytest.mark.filterwarnings("ignore:Requiring AUTH:UserWarning")  # aiosmtpd's, about this test's server
    def test_a_login_that_is_asked_for(self, capsys: pytest.CaptureFixture[str]):
        controller = started(auth_require_tls=False, auth_required=True, authenticator=check)
        where = ("--server", f"127.0.0.1:{controller.port}")
        try:
            assert self.line(capsys, *where).endswith("(log in with --auth USER)")
            assert self.line(capsys, *where, "--auth", "user:wrong").endswith("password of --auth)")
        finally:
            controller.stop()


def _certificate(folder: Path) -> Path:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
