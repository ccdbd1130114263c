"""Filters that only object, as clients see them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

HERE: Final = {"type": "whitelist", "ips": [HOST]}

Dialogue = Callable[..., None]
Make = Callable[..., Relay]

PLUGIN: Final = """
from typing import ClassVar, Literal

from listener.api.decision import ABSTAIN, Decision, Phase, defer
from listener.api.filter import Filter, FilterOptions


class Options(FilterOptions):
    type: Literal["fussy"]
    guard: ClassVar[bool] = True


class Fussy(Filter):
    phases = frozenset({Phase.CONNECT, Phase.MAIL, Phase.RCPT, Phase.DATA})

    def on_mail(self, session, transaction):
        return defer(451, "4.7.1", "come back") if "later" in transaction.reverse_path else Decision("accept")

    def on_rcpt(self, session, transaction, recipient):
        return defer(450, "4.2.1", "busy") if "busy" in recipient else Decision("accept")

    def on_data(self, session, transaction, message, recipients):
        if b"wait" in message.head:
            return defer(451, "4.7.1", "read it later")
        return Decision("accept", recipients=frozenset(one for one in recipients if "late" not in one))


def build(options, name, context):
    return Fussy(name)
"""
"""A guard of a third party, which accepts nearly everything: its acceptance must not count."""

FUSSY: Final = {"type": "fussy"}


def blacklist(**fields: Any) -> dict[str, Any]:
    return {"type": "blacklist", **fields}


def one(*filters: dict[str, Any], operator: str = "AND") -> dict[str, Any]:
    return {"flows": {"only": flow(*filters, operator=operator)}}


def with_plugin(relay: Relay) -> Relay:
    """The relay, started beside an installed plugin: it finds the plugin in its working folder."""
    installed = relay.folder / "fussy-1.dist-info"
    installed.mkdir()
    Path(relay.folder / "fussy_guard.py").write_text(PLUGIN)
    Path(installed / "METADATA").write_text("Metadata-Version: 2.1\nName: fussy\nVersion: 1\n")
    Path(installed / "entry_points.txt").write_text("[smtp_relay.filters]\nfussy = fussy_guard\n")
    relay.start()
    return relay


@pytest.mark.parametrize("operator", ["AND", "OR"])
@pytest.mark.parametrize("first", [True, False])
def test_a_blacklist_refuses_recipients_one_by_one(
    dialogue: Dialogue, relay_for: Make, operator: str, first: bool
) -> None:
    filters = [blacklist(to=["glob:*@secret.example", "boss@server.example"]), HERE]
    relay = relay_for(one(*(filters if first else filters[::-1]), operator=operator))
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<Boss@SERVER.example>
        S: 550 5.7.1 *
        C: RCPT TO:<other@server.example>
        S: 250 2.1.5 *
        C: RCPT TO:<any@secret.example>
        S: 550 5.7.1 *
        C: RCPT TO:<any@sub.secret.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: a: b
        C:
        C: text
        C: .
        S: 250 2.0.0 *
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<boss@server.example>
        S: 550 5.7.1 *
        C: QUIT
        S: 221 2.0.0 *
        S: <closed>
        """,
        on=relay,
    )
    (mail,) = relay.mails()
    assert b"boss" not in mail.lower()


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_a_blacklist_refuses_senders_at_mail(dialogue: Dialogue, relay_for: Make, operator: str) -> None:
    listed = blacklist(**{"from": ["glob:*@*.spam.example", "<>"]})
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@mx.SPAM.example>
        S: 550 5.7.1 *
        C: RCPT TO:<b@server.example>
        S: 503 5.5.1 *
        C: MAIL FROM:<>
        S: 550 5.7.1 *
        C: MAIL FROM:<a@spam.example>
        S: 250 2.1.0 *
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
        """,
        on=relay_for(one(HERE, listed, operator=operator)),
    )


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_a_blacklist_refuses_clients_at_connect(dialogue: Dialogue, relay_for: Make, operator: str) -> None:
    listed = blacklist(ips=f"glob:{HOST.rpartition('.')[0]}.*")
    dialogue("S: 554 5.7.1 *\nS: <closed>", on=relay_for(one(HERE, listed, operator=operator)))


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_a_flow_of_guards_alone_takes_nothing(dialogue: Dialogue, relay_for: Make, operator: str) -> None:
    alone = one(blacklist(to="nobody@server.example"), blacklist(), operator=operator)
    dialogue("S: 554 5.7.1 *\nS: <closed>", on=relay_for(alone))


def test_a_blacklist_concerns_its_own_flow(dialogue: Dialogue, relay_for: Make) -> None:
    flows = {
        "strict": flow(HERE, blacklist(**{"from": "a@client.example"}), path="{folder}/strict"),
        "mild": flow({"type": "whitelist", "to": "glob:*@mild.example"}, path="{folder}/mild"),
    }
    relay = relay_for({"flows": flows})
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<b@server.example>
        S: 550 5.7.1 *
        C: RCPT TO:<b@mild.example>
        S: 250 2.1.5 *
        """,
        on=relay,
    )


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_a_guard_that_defers_defers_whatever_others_accept(
    dialogue: Dialogue, new_relay: Make, operator: str
) -> None:
    relay = with_plugin(new_relay(one(HERE, FUSSY, operator=operator)))
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<later@client.example>
        S: 451 4.7.1 come back
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<busy@server.example>
        S: 450 4.2.1 busy
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: wait: yes
        C:
        C: .
        S: 451 4.7.1 read it later
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
        C: RCPT TO:<late@server.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: a: b
        C:
        C: .
        S: 550 5.7.1 *
        """,
        on=relay,
    )
    assert relay.mails() == []


@pytest.mark.parametrize("operator", ["AND", "OR"])
def test_partial_accept_keeps_those_that_a_guard_left(
    dialogue: Dialogue, new_relay: Make, operator: str
) -> None:
    relay = with_plugin(
        new_relay(one(FUSSY, HERE, blacklist(to="no@server.example"), operator=operator), partialAccept=True)
    )
    dialogue(
        """
        S: 220 *
        C: EHLO client.example
        S: 250-...
        C: MAIL FROM:<a@client.example>
        S: 250 2.1.0 *
        C: RCPT TO:<late@server.example>
        S: 250 2.1.5 *
        C: RCPT TO:<no@server.example>
        S: 550 5.7.1 *
        C: RCPT TO:<b@server.example>
        S: 250 2.1.5 *
        C: DATA
        S: 354 *
        C: a: b
        C:
        C: .
        S: 250 2.0.0 *
        """,
        on=relay,
    )
    assert len(relay.mails()) == 1


def test_a_third_partys_guard_alone_takes_nothing(dialogue: Dialogue, new_relay: Make) -> None:
    dialogue("S: 554 5.7.1 *\nS: <closed>", on=with_plugin(new_relay(one(FUSSY, operator="OR"))))
