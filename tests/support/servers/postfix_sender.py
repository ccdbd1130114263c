"""A real Postfix (Debian) that sends: mails are put into its queue, and it delivers them to a next hop
by SMTP or LMTP. Its configuration, queue and port are the test's own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.support.clients.wire import Wire, stuffed
from tests.support.net import HOST, answers, free_port, wait_until
from tests.support.programs import PATH, program

_DAEMONS: Final = "/usr/lib/postfix/sbin"

_MASTER: Final = """\
{host}:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
flush unix n - n 1000? 0 flush
anvil unix - - n - 1 anvil
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
showq unix n - n - - showq
scache unix - - n - 1 scache
smtp unix - - n - 20 smtp
lmtp unix - - n - 20 lmtp
discard unix - - n - - discard
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
myhostname = sender.client.example
mydestination =
inet_interfaces = {host}
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_message_rate_limit = 0
local_transport = error:nothing is local
notify_classes =
2bounce_notice_recipient = nobody@discard.example
transport_maps = inline:{{discard.example=discard}}
{relay}
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_tls_security_level = {level}
smtp_tls_CAfile = {folder}/ca.pem
smtp_tls_secure_cert_match = mx.server.example
lmtp_dns_support_level = disabled
lmtp_host_lookup = native
lmtp_tls_security_level = {level}
lmtp_tls_CAfile = {folder}/ca.pem
lmtp_tls_secure_cert_match = mx.server.example
default_destination_recipient_limit = 50
queue_run_delay = 2s
minimal_backoff_time = 2s
maximal_backoff_time = 4s
"""

_ENV: Final = {**os.environ, "PATH": PATH}


class PostfixSender:
    """`queue` puts mails into its queue; `flush` has it deliver what waits there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def queue(self, mails: Iterable[bytes], recipients: Iterable[list[str]]) -> None:
        """Hand mails to it, each with its recipients; all are in its queue when this returns."""
        with Wire(self.port) as wire:
            wire.greet()
            for mail, to in zip(mails, recipients, strict=True):
                wire.envelope("ann@client.example", *to)
                wire.send(stuffed(mail))
                assert (reply := wire.reply()).code == 250, reply

    def flush(self) -> None:
        """Deliver what waits, now."""
        self._run("postqueue", "-f")

    def waiting(self) -> int:
        """How many mails are in the queue."""
        return len(self._run("postqueue", "-j").splitlines())

    def log(self) -> str:
        """Postfix's log."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _run(self, name: str, *arguments: str) -> bytes:
        command = [program(name, "postfix"), "-c", str(self.folder), *arguments]
        done = subprocess.run(command, capture_output=True, env=_ENV, timeout=60, check=False)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout


@contextmanager
def postfix_sender(
    next_hop: int,
    *,
    protocol: Literal["smtp", "lmtp"] = "smtp",
    level: Literal["none", "may", "encrypt", "secure"] = "none",
    authority: str = "",
) -> Iterator[PostfixSender]:
    """Run one that sends everything to the port `next_hop`, until the block ends. `authority` is the
    certificate (PEM) that it trusts. Skips the test if Postfix is missing, or without root."""
    command = program("postfix", "postfix")
    if os.geteuid() != 0 or not Path(_DAEMONS).exists():
        pytest.skip("running a Postfix needs root and Debian's paths")
    made = PostfixSender(Path(tempfile.mkdtemp(prefix="postfix-sender-")))
    try:
        _write(made, next_hop, protocol, level, authority)
        start = subprocess.run(
            [command, "-c", str(made.folder), "start"], capture_output=True, env=_ENV, timeout=60, check=False
        )
        assert start.returncode == 0, (start.stdout, start.stderr)
        wait_until(lambda: answers(made.port), seconds=20, what="Postfix")
        yield made
    finally:
        subprocess.run(
            [command, "-c", str(made.folder), "stop"], capture_output=True, env=_ENV, timeout=60, check=False
        )
        shutil.rmtree(made.folder, ignore_errors=True)


def _write(made: PostfixSender, next_hop: int, protocol: str, level: str, authority: str) -> None:
    folder = made.folder
    folder.chmod(0o755)
    (folder / "queue").mkdir()
    (folder / "data").mkdir()
    owner = pwd.getpwnam("postfix")
    os.chown(folder / "data", owner.pw_uid, owner.pw_gid)
    (folder / "ca.pem").write_text(authority)
    relay = (
        f"relayhost = [{HOST}]:{next_hop}"
        if protocol == "smtp"
        else f"default_transport = lmtp:inet:{HOST}:{next_hop}"
    )
    words = {
        "folder": folder,
        "daemons": _DAEMONS,
        "host": HOST,
        "port": made.port,
        "relay": relay,
        "level": level,
    }
    (folder / "main.cf").write_text(_MAIN.format(**words))
    (folder / "master.cf").write_text(_MASTER.format(**words))
