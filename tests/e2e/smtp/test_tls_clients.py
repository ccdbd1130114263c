"""Real clients over STARTTLS and over TLS from the first byte: swaks, curl, openssl s_client."""

from __future__ import annotations

import os
import re
import select
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.clients.tls import Authority
from tests.support.mails.stored import strip_added_fields
from tests.support.net import HOST, free_port, wait_until
from tests.support.programs import program, run, swaks_with_tls
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

CA: Final = Authority.shared()
STATIC: Final = {"type": "static-auth", "username": "user", "password": "plain:pass word"}
MAIL: Final = b"From: ann@client.example\r\nSubject: x\r\n\r\n" + b"line\r\n.\r\n..dots\r\nend\r\n" * 20


class Both:
    """One process on two ports, with a certificate of a known authority, for clients that log in."""

    def __init__(self, make: Make, folder: Path) -> None:
        identity = CA.issue("mx.server.example", "localhost")
        identity.write(folder)
        (folder / "ca.pem").write_text(CA.identity.pem)
        self.authority = folder / "ca.pem"
        self.secure_port = free_port()
        self.relay = make(
            {
                "flows": {"in": flow(STATIC)},
                "options": {"key": f"file://{folder}/server.key", "cert": f"file://{folder}/server.pem"},
            },
            authOptional=False,
        )
        self.relay.config["listeners"] = [
            {"port": self.relay.port, "name": "submission"},
            {"port": self.secure_port, "name": "submissions", "secure": True},
        ]
        del self.relay.config["port"], self.relay.config["bind"]
        self.relay.start()

    def port(self, implicit: bool) -> int:
        return self.secure_port if implicit else self.relay.port

    def taken(self) -> bytes:
        """The only mail that came, below the relay's fields; it came over TLS, with a login."""
        (mail,) = self.relay.mails()
        assert b" with ESMTPSA id " in mail
        self.relay.forget()
        return strip_added_fields(mail)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    made: list[Relay] = []

    def make(config: dict[str, object], **options: object) -> Relay:
        made.append(Relay(tmp_path_factory.mktemp("relay"), config, **options))
        return made[-1]

    yield Both(make, tmp_path_factory.mktemp("tls"))
    for relay in made:
        assert relay.alive, relay.log()
        assert "Traceback" not in relay.log()
        relay.kill()


IMPLICIT = pytest.mark.parametrize("implicit", [False, True], ids=["STARTTLS", "implicit"])


@IMPLICIT
class TestSwaks:
    @pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
    def test_mail(self, both: Both, implicit: bool, mechanism: str, tmp_path: Path) -> None:
        (tmp_path / "mail").write_bytes(MAIL)
        run([*self.command(both, implicit), "--auth", mechanism, "--data", f"@{tmp_path}/mail"])
        assert both.taken() == MAIL + b"\r\n", "swaks adds a line"

    def test_wrong_password(self, both: Both, implicit: bool) -> None:
        command = [*self.command(both, implicit), "--auth", "PLAIN", "--auth-password", "wrong"]
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert b"535 5.7.8" in done.stdout
        assert both.relay.mails() == []

    @staticmethod
    def command(both: Both, implicit: bool) -> list[str]:
        tls = [
            "--tls-on-connect" if implicit else "--tls",
            "--tls-verify",
            "--tls-ca-path",
            str(both.authority),
        ]
        where = ["--server", "localhost", "--port", str(both.port(implicit))]
        who = ["--from", "ann@client.example", "--to", "bob@server.example", "--auth-user", "user"]
        return [swaks_with_tls(), *where, *tls, *who, "--auth-password", "pass word"]


@IMPLICIT
class TestCurl:
    @pytest.mark.parametrize("version", ["1.2", "1.3"])
    def test_mail(self, both: Both, implicit: bool, version: str) -> None:
        run([*self.command(both, implicit), "--tls-max", version, f"--tlsv{version}", "-T", "-"], stdin=MAIL)
        assert both.taken() == MAIL

    def test_large(self, both: Both, implicit: bool, tmp_path: Path) -> None:
        mail = b"Subject: large\r\n\r\n" + (b"." + b"x" * 70 + b"\r\n") * 60_000
        (tmp_path / "mail").write_bytes(mail)
        run([*self.command(both, implicit), "-T", tmp_path / "mail"])
        assert both.taken() == mail

    @staticmethod
    def command(both: Both, implicit: bool) -> list[str]:
        scheme = "smtps" if implicit else "smtp"
        url = f"{scheme}://localhost:{both.port(implicit)}/client.example"
        tls = ["--ssl-reqd", "--cacert", str(both.authority), "--user", "user:pass word"]
        who = ["--mail-from", "ann@client.example", "--mail-rcpt", "bob@server.example"]
        return [program("curl", "curl"), "-sS", "-m", "30", *tls, *who, url]


@IMPLICIT
class TestOpenssl:
    """As people use it by hand: a line, its reply, the next line."""

    def test_with_crlf(self, both: Both, implicit: bool) -> None:
        with Typist(both, implicit, "-crlf") as typist:
            typist.log_in()
            for line, code in (
                ("MAIL FROM:<ann@client.example>", 250),
                ("rcpt to:<bob@server.example>", 250),
                ("DATA", 354),
            ):
                assert typist.type(line) == code
            assert typist.type("Subject: typed\n\nhello\n.") == 250
            assert typist.type("quit") == 221
            assert typist.ended()
        assert both.taken() == b"Subject: typed\r\n\r\nhello\r\n"

    def test_without_crlf(self, both: Both, implicit: bool) -> None:
        """Commands may end in a bare LF. A mail may not: only CRLF.CRLF ends it."""
        with Typist(both, implicit) as typist:
            typist.log_in()
            assert typist.type("MAIL FROM:<ann@client.example>") == 250
            assert typist.type("NOOP") == 250
            assert typist.type("rcpt to:<bob@server.example>") == 250
            assert typist.type("DATA") == 354
            assert typist.type("Subject: typed\r\n\r\nhello\nworld\n.\n.\r\n.\r") == 250
            assert typist.type("NOOP") == 250
        assert both.taken() == b"Subject: typed\r\n\r\nhello\r\nworld\r\n.\r\n.\r\n"

    @pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
    def test_versions(self, both: Both, implicit: bool, version: str) -> None:
        with Typist(both, implicit, version) as typist:
            assert typist.type("NOOP") == 250

    def test_old_versions_are_refused(self, both: Both, implicit: bool) -> None:
        command = [*Typist.command(both, implicit), "-tls1_1", "-cipher", "DEFAULT:@SECLEVEL=0"]
        done = subprocess.run(command, input=b"", capture_output=True, timeout=30, check=False)
        assert done.returncode
        assert b"alert" in done.stderr


class Typist:
    """openssl s_client with lines typed into it."""

    def __init__(self, both: Both, implicit: bool, *flags: str) -> None:
        self.process = subprocess.Popen(
            [*self.command(both, implicit), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        self._out = self.process.stdout.fileno()
        self._heard = b""
        self.implicit = implicit

    @staticmethod
    def command(both: Both, implicit: bool) -> list[str]:
        starttls = [] if implicit else ["-starttls", "smtp"]
        trust = ["-CAfile", str(both.authority), "-verify_return_error", "-verify_hostname", "localhost"]
        connect = ["-connect", f"{HOST}:{both.port(implicit)}"]
        return [program("openssl", "openssl"), "s_client", "-quiet", *connect, *starttls, *trust]

    def __enter__(self) -> Typist:
        try:
            if self.implicit:
                assert self.reply() == 220
            else:
                assert self.type("NOOP") == 250
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def log_in(self) -> None:
        assert self.type("ehlo client.example") == 250
        assert self.type("AUTH PLAIN AHVzZXIAcGFzcyB3b3Jk") == 235

    def type(self, line: str) -> int:
        """Type a line and read the reply's code."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return self.reply()

    def reply(self) -> int:
        """The next reply's code."""
        while not (found := re.search(rb"(?m)^(\d{3}) .*\n", self._heard)):
            ready, _, _ = select.select([self.process.stdout], [], [], 20)
            piece = os.read(self._out, 65536) if ready else b""
            assert piece, f"no reply: {self._heard!r}"
            self._heard += piece
        self._heard = self._heard[found.end() :]
        return int(found[1])

    def ended(self) -> bool:
        """True if the server closed the connection."""
        wait_until(lambda: self.process.poll() is not None, seconds=10, what="openssl's end")
        return True
