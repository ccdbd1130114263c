"""An SMTP server that answers by a script: the next hop of the mailer, working or failing."""

from __future__ import annotations

import base64
import contextlib
import re
import socket
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from tests.support.net import HOST

CLOSE: Final = "<close>"
"""As an answer: close the connection."""

RESET: Final = "<reset>"
"""As an answer: reset the connection (RST)."""

SILENCE: Final = "<silence>"
"""As an answer: say nothing until the test ends."""

EXTENSIONS: Final = ("PIPELINING", "SIZE 52428800", "8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES")

_PATH: Final = re.compile(r"(?:FROM|TO):<(.*?)>(?: (.*))?$", re.IGNORECASE)


@dataclass
class Taken:
    """One mail that was answered 250, or that the script accepted without a reply."""

    reverse_path: str
    recipients: list[str]
    content: bytes
    mail: str
    rcpts: list[str]


@dataclass
class Session:
    """One connection: the lines it said, and the transaction under way."""

    number: int
    heard: list[str] = field(default_factory=list)
    encrypted: bool = False
    user: str | None = None
    password: str | None = None
    mail: str = ""
    rcpts: list[str] = field(default_factory=list)
    content: bytes = b""


@dataclass
class Heard:
    """The argument of the script: the verb ("CONNECT", "CONTENT" after the first bytes of a mail, "."
    after all of it) and the whole line."""

    verb: str
    line: str
    session: Session
    host: Smarthost

    @property
    def address(self) -> str:
        """The path of MAIL or RCPT."""
        found = _PATH.search(self.line)
        return found[1] if found else ""

    def take(self) -> None:
        """Count the mail as accepted, whatever the reply."""
        self.host.take(self.session)


Script = Callable[[Heard], str | None]
"""The reply, None for the usual one."""


class Smarthost:
    """`script` may be replaced at any time; `taken` are the mails, `sessions` all connections."""

    def __init__(
        self,
        script: Script | None,
        extensions: tuple[str, ...],
        context: ssl.SSLContext | None,
        port: int = 0,
    ) -> None:
        self.script: Script = script or (lambda heard: None)
        self.extensions = extensions
        self.context = context
        self.content_cut = 0
        """Bytes of a mail after which the script is asked about CONTENT."""
        self.taken: list[Taken] = []
        self.sessions: list[Session] = []
        self.ended = threading.Event()
        self._socket = socket.create_server((HOST, port), backlog=128)
        self.port: int = self._socket.getsockname()[1]
        self._open: set[socket.socket] = set()

    @property
    def heard(self) -> list[str]:
        """All lines of all sessions."""
        return [line for session in self.sessions for line in session.heard]

    def copies(self) -> Counter[str]:
        """How often each recipient got a mail."""
        return Counter(each for mail in self.taken for each in mail.recipients)

    def take(self, session: Session) -> None:
        addresses = [_address(line) for line in session.rcpts]
        taken = Taken(_address(session.mail), addresses, session.content, session.mail, list(session.rcpts))
        self.taken.append(taken)

    def serve(self, *, implicit: bool) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            session = Session(len(self.sessions))
            self.sessions.append(session)
            threading.Thread(target=self._run, args=(sock, session, implicit), daemon=True).start()

    def close(self) -> None:
        self.ended.set()
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for sock in list(self._open):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def _run(self, sock: socket.socket, session: Session, implicit: bool) -> None:
        self._open.add(sock)
        conversation = _Conversation(self, sock, session)
        try:
            with contextlib.suppress(OSError, EOFError, ssl.SSLError):
                conversation.run(implicit=implicit)
        finally:
            self._open.discard(sock)
            conversation.close()


class _Conversation:
    def __init__(self, host: Smarthost, sock: socket.socket, session: Session) -> None:
        self.host = host
        self.sock = sock
        self.session = session
        self.file = sock.makefile("rb")

    def run(self, *, implicit: bool) -> None:
        if implicit:
            self.encrypt()
        self.say("CONNECT", "", "220 smarthost.example ESMTP")
        while line := self.file.readline():
            text = line.decode("utf-8", "replace").removesuffix("\r\n")
            self.session.heard.append(text)
            verb = text.partition(" ")[0].upper()
            if getattr(self, f"on_{verb.lower()}", self.unknown)(text) is False:
                return

    def encrypt(self) -> None:
        assert self.host.context is not None
        self.file.close()
        self.host._open.discard(self.sock)
        self.sock = self.host.context.wrap_socket(self.sock, server_side=True)
        self.host._open.add(self.sock)
        self.file = self.sock.makefile("rb")
        self.session.encrypted = True

    def say(self, verb: str, line: str, usual: str) -> int:
        """Ask the script, and send its reply; returns the code of the reply."""
        text = self.host.script(Heard(verb, line, self.session, self.host))
        text = usual if text is None else text
        if text == SILENCE:
            self.host.ended.wait(60)
            raise EOFError
        if text.endswith(RESET):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        said = text.removesuffix(CLOSE).removesuffix(RESET)
        if verb == "." and said.startswith("250"):
            # Counted before the reply, so a client with the reply finds it.
            self.host.take(self.session)
        if said:
            self.sock.sendall(said.encode() + b"\r\n")
        if text.endswith((CLOSE, RESET)):
            raise EOFError
        return int(said[:3]) if said else 0

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.file.close()
        with contextlib.suppress(OSError):
            self.sock.close()

    def on_ehlo(self, line: str) -> None:
        names = [*self.host.extensions]
        if self.host.context is not None and not self.session.encrypted:
            names.append("STARTTLS")
        lines = ["smarthost.example", *names]
        usual = [f"250{' ' if at == len(lines) - 1 else '-'}{each}" for at, each in enumerate(lines)]
        self.say("EHLO", line, "\r\n".join(usual))

    on_lhlo = on_ehlo

    def on_helo(self, line: str) -> None:
        self.say("HELO", line, "250 smarthost.example")

    def on_starttls(self, line: str) -> None:
        if self.say("STARTTLS", line, "220 2.0.0 go ahead") == 220:
            self.encrypt()

    def on_auth(self, line: str) -> None:
        _, mechanism, *first = line.split()
        challenges = {"LOGIN": ("Username:", "Password:"), "CRAM-MD5": ("<1.2@smarthost.example>",)}
        answers = [base64.b64decode(each) for each in first]
        for challenge in challenges.get(mechanism, ()):
            self.sock.sendall(b"334 " + base64.b64encode(challenge.encode()) + b"\r\n")
            answers.append(base64.b64decode(self.file.readline()))
        if mechanism == "PLAIN":
            _, user, password = answers[0].split(b"\0")
        elif mechanism == "LOGIN":
            user, password = answers
        elif mechanism == "CRAM-MD5":
            user, _, password = answers[0].rpartition(b" ")
        else:
            user, password = b"", answers[0]
        self.session.user, self.session.password = user.decode(), password.decode()
        code = self.say("AUTH", line, "235 2.7.0 welcome")
        if code == 334:
            self.session.heard.append(self.file.readline().decode().removesuffix("\r\n"))
            self.sock.sendall(b"535 5.7.8 token refused\r\n")

    def on_mail(self, line: str) -> None:
        self.session.rcpts = []
        self.session.mail = line
        if self.say("MAIL", line, "250 2.1.0 Ok") != 250:
            self.session.mail = ""

    def on_rcpt(self, line: str) -> None:
        usual = "250 2.1.5 Ok" if self.session.mail else "503 5.5.1 MAIL first"
        if self.say("RCPT", line, usual) == 250:
            self.session.rcpts.append(line)

    def on_data(self, line: str) -> None:
        usual = "354 go ahead" if self.session.rcpts else "554 5.5.1 no recipients"
        if self.say("DATA", line, usual) != 354:
            return
        pieces: list[bytes] = []
        asked = False
        size = 0
        while (piece := self.file.readline()) != b".\r\n":
            if not piece.endswith(b"\n"):
                raise EOFError  # cut, within a line or between two
            assert piece.endswith(b"\r\n"), f"a bare LF in the mail: {piece[-20:]!r}"
            assert b"\r" not in piece[:-2], f"a bare CR in the mail: {piece[-20:]!r}"
            size += len(piece)
            if not asked and size > self.host.content_cut:
                asked = True
                self.say("CONTENT", "", "")
            pieces.append(piece.removeprefix(b"."))
        self.session.content = b"".join(pieces)
        usual = f"250 2.0.0 Ok: queued as {self.session.number}-{size}"
        if self.session.heard[0].startswith("LHLO"):
            # RFC 2033 section 4.2: one reply for each accepted recipient, whose mail it then is.
            everybody = self.session.rcpts
            for line in everybody:
                self.session.rcpts = [line]
                self.say(".", line, usual)
        else:
            self.say(".", "", usual)
        self.session.mail = ""

    def on_rset(self, line: str) -> None:
        self.session.mail = ""
        self.say("RSET", line, "250 2.0.0 Ok")

    def on_quit(self, line: str) -> bool:
        self.say("QUIT", line, "221 2.0.0 Bye")
        return False

    def unknown(self, line: str) -> None:
        self.say("", line, "500 5.5.2 what?")


@contextmanager
def smarthost(
    script: Script | None = None,
    *,
    extensions: tuple[str, ...] = EXTENSIONS,
    context: ssl.SSLContext | None = None,
    implicit: bool = False,
    port: int = 0,
) -> Iterator[Smarthost]:
    """Serve until the block ends. With a context STARTTLS is offered, or TLS is `implicit`."""
    host = Smarthost(script, extensions, context, port)
    thread = threading.Thread(target=host.serve, kwargs={"implicit": implicit}, daemon=True)
    thread.start()
    try:
        yield host
    finally:
        host.close()
        thread.join(10)


def refusing(*, verb: str = "RCPT", **answers: str) -> Script:
    """Gives other replies for some addresses; keys are local parts."""

    def script(heard: Heard) -> str | None:
        return answers.get(heard.address.partition("@")[0]) if heard.verb == verb else None

    return script


def server_context(identity: Any, folder: Any) -> ssl.SSLContext:
    """The TLS context of a server with this certificate (tests.support.clients.tls.Identity)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*identity.write(folder))
    return context


def _address(line: str) -> str:
    found = _PATH.search(line)
    return found[1] if found else ""
