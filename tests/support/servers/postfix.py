"""A real Postfix (Debian) of a test's own: its own configuration, queue and ports; mails go into
maildirs. A system-wide Postfix is not touched."""

from __future__ import annotations

import base64
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from tests.support.clients.tls import Identity
from tests.support.net import HOST, answers, free_port, wait_until
from tests.support.programs import PATH, program

DOMAIN: Final = "server.example"

_DAEMONS: Final = "/usr/lib/postfix/sbin"

_MASTER: Final = """\
{host}:{port} inet n - n - - smtpd
{host}:{tls_port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes
{host}:{auth_port} inet n - n - - smtpd
  -o smtpd_tls_security_level=encrypt -o smtpd_relay_restrictions=permit_sasl_authenticated,reject
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
postlog unix-dgram n - n - 1 postlogd
"""

_MAIN: Final = """\
compatibility_level = 3.6
queue_directory = {folder}/queue
data_directory = {folder}/data
command_directory = /usr/sbin
daemon_directory = {daemons}
mail_owner = postfix
setgid_group = postdrop
maillog_file = {folder}/log
maillog_file_prefixes = {folder}
myhostname = mx.{domain}
mydestination =
inet_interfaces = {host}
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
message_drop_headers =
local_header_rewrite_clients =
smtpd_relay_restrictions = permit_mynetworks, reject
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {folder}/mail
virtual_mailbox_maps = texthash:{folder}/users
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {folder}/server.pem
smtpd_tls_key_file = {folder}/server.key
smtpd_sasl_auth_enable = yes
smtpd_sasl_type = dovecot
smtpd_sasl_path = inet:{host}:{sasl_port}
smtpd_client_connection_count_limit = 0
"""


class Postfix:
    """`port` accepts clear text and STARTTLS, `tls_port` implicit TLS, `auth_port` only clients that
    upgrade and log in as `user` with `secret`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.tls_port, self.auth_port = free_port(), free_port(), free_port()

    def mails(self, user: str = "bob") -> list[bytes]:
        """The mails of a user, with the CRLF line ends that they came with."""
        found = sorted((self.folder / "mail" / user / "new").glob("*"))
        return [path.read_bytes().replace(b"\n", b"\r\n") for path in found]

    def arrived(self, user: str = "bob", count: int = 1) -> list[bytes]:
        """The same, once there are so many."""
        wait_until(lambda: len(self.mails(user)) >= count, seconds=20, what=f"mail for {user}: {self.log()}")
        return self.mails(user)

    def log(self) -> str:
        """Postfix's log."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""


@contextmanager
def postfix(identity: Identity, *users: str) -> Iterator[Postfix]:
    """Run it until the block ends. Skips the test if it is missing, or without root."""
    command = program("postfix", "postfix")
    if os.geteuid() != 0 or not Path(_DAEMONS).exists():
        pytest.skip("running a Postfix needs root and Debian's paths")
    folder = Path(tempfile.mkdtemp(prefix="postfix-"))
    made = Postfix(folder)
    sasl = _Sasl()
    try:
        _write(made, identity, users, sasl.port)
        start = subprocess.run(
            [command, "-c", str(folder), "start"], capture_output=True, env=_ENV, timeout=60, check=False
        )
        assert start.returncode == 0, (start.stdout, start.stderr)
        wait_until(lambda: answers(made.port) and answers(made.tls_port), seconds=20, what="Postfix")
        yield made
    finally:
        subprocess.run(
            [command, "-c", str(folder), "stop"], capture_output=True, env=_ENV, timeout=60, check=False
        )
        sasl.close()
        shutil.rmtree(folder, ignore_errors=True)


def without_trace(mail: bytes) -> bytes:
    """The mail below Postfix's own fields."""
    names = (b"Return-Path:", b"X-Original-To:", b"Delivered-To:", b"Received: from ")
    seen = []
    while (name := next((each for each in names if mail.startswith(each)), None)) and name not in seen:
        seen.append(name)
        end = mail.index(b"\r\n") + 2
        while mail[end : end + 1] in (b" ", b"\t"):
            end = mail.index(b"\r\n", end) + 2
        mail = mail[end:]
    return mail


_ENV: Final = {**os.environ, "PATH": PATH}


def _write(made: Postfix, identity: Identity, users: tuple[str, ...], sasl_port: int) -> None:
    folder = made.folder
    folder.chmod(0o755)
    owner, nobody = pwd.getpwnam("postfix"), pwd.getpwnam("nobody")
    for name, who in (("queue", None), ("data", owner), ("mail", nobody)):
        (folder / name).mkdir()
        if who is not None:
            os.chown(folder / name, who.pw_uid, who.pw_gid)
    identity.write(folder)
    (folder / "server.key").chmod(0o600)
    (folder / "users").write_text("".join(f"{user}@{DOMAIN} {user}/\n" for user in users or ("bob",)))
    words = {
        "folder": folder,
        "daemons": _DAEMONS,
        "domain": DOMAIN,
        "host": HOST,
        "port": made.port,
        "tls_port": made.tls_port,
        "auth_port": made.auth_port,
        "sasl_port": sasl_port,
        "uid": nobody.pw_uid,
        "gid": nobody.pw_gid,
    }
    (folder / "main.cf").write_text(_MAIN.format(**words))
    (folder / "master.cf").write_text(_MASTER.format(**words))


class _Sasl:
    """Answers Postfix by Dovecot's authentication protocol: `user` with `secret` may log in."""

    def __init__(self) -> None:
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(sock,), daemon=True).start()

    def _talk(self, sock: socket.socket) -> None:
        with sock, sock.makefile("rwb") as file, suppress(OSError):
            file.write(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n")
            file.flush()
            for line in file:
                words = line.decode().rstrip("\n").split("\t")
                if words[0] != "AUTH":
                    continue
                given = base64.b64decode(words[-1].removeprefix("resp=")).split(b"\0")
                good = given[1:] == [b"user", b"secret"]
                file.write(
                    f"OK\t{words[1]}\tuser=user\n".encode() if good else f"FAIL\t{words[1]}\n".encode()
                )
                file.flush()
