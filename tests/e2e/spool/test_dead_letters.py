"""`deadletter` on a folder, beside a running server."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.support.clients.wire import submit
from tests.support.mails.dead_letter_drill import Drill, carry_out
from tests.support.mails.dead_letters import held, records
from tests.support.net import HOST
from tests.support.servers.relay import ROOT, Relay
from tests.support.servers.smarthost import Heard, Smarthost, smarthost

_ID = re.compile(rb"\bid ([0-9a-f-]{36})\b")


class Refusing:
    """A next hop that refuses every recipient until it is repaired."""

    def __init__(self, words: str) -> None:
        self.words: str | None = words

    def __call__(self, heard: Heard) -> str | None:
        return self.words if heard.verb == "RCPT" else None


class FolderDrill(Drill):
    words: Mapping[str, str] = {"archive": "5.1.1", "notify": "relaying DENIED"}
    prefix = "kept/"

    def __init__(self, relay: Callable[..., Relay], stack: ExitStack) -> None:
        self.refusing = {
            "in": Refusing("550 5.1.1 nobody here"),
            "alt": Refusing("554 5.7.1 Relaying denied"),
        }
        self.hosts: dict[str, Smarthost] = {
            name: stack.enter_context(smarthost(script)) for name, script in self.refusing.items()
        }
        flows = {}
        for name, output in (("in", "archive"), ("alt", "notify")):
            hop = {"host": HOST, "port": self.hosts[name].port, "ignoreTLS": True}
            filters = [
                {"type": "whitelist", "ips": [HOST]},
                {"type": "whitelist", "to": [f"a@{name}.example"]},
            ]
            flows[name] = {
                "filters": filters,
                "outputs": [{"type": "mailer", "nodemailer": hop, "name": output}],
            }
        self.relay = relay({"flows": flows, "keepCache": True, "cachePath": "kept/${id}.eml"}).start()

    def command(self, *arguments: str) -> tuple[Sequence[str], Mapping[str, str], Path]:
        command = [sys.executable, "-m", "listener.cli.main", "deadletter", *arguments]
        environment = {**self.relay.environment(), "PYTHONPATH": str(ROOT)}
        return [*command, "--config", str(self.relay.path)], environment, self.relay.folder

    def send(self, number: int) -> None:
        mail = b"Subject: mail %d\r\n\r\nx\r\n" % number
        assert submit(self.relay.port, mail, "a@client.example", "a@in.example", "a@alt.example").code == 250

    def dead(self) -> int:
        return len(records(self.relay))

    def mend(self) -> None:
        for each in self.refusing.values():
            each.words = None

    def notified(self) -> Counter[str]:
        found = [_ID.search(mail.content) for mail in list(self.hosts["alt"].taken)]
        return Counter(match[1].decode() for match in found if match)

    def unfinished(self) -> int:
        return held(self.relay)

    def hold(self) -> None:
        assert self.relay.stop() == 0

    def resume(self) -> None:
        self.relay.start()


def test_dead_letters_of_a_folder(new_relay: Callable[..., Relay]) -> None:
    with ExitStack() as stack:
        drill = FolderDrill(new_relay, stack)
        carry_out(drill)
        assert drill.relay.stop() == 0
