"""What a connection remembers from one mail to the next, and which filters are told the end of a mail."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from listener.api.decision import ABSTAIN, ACCEPT, DEFER, REFUSE, Decision, Phase, Reply
from listener.api.session import Transaction
from listener.flows.flow import Flow, Flows
from tests.support.scripted import Dialogue, Scripted, a_session, value

OK = (Reply(250, "2.0.0", "kept"),)
LATER = (Reply(451, "4.3.0", "try again"),)
X, Y = "x@c.example", "y@d.example"


class Same(Scripted):
    """Its answer at MAIL depends only on the client and the reverse-path."""

    same_at_mail = True

    @property
    def asked(self) -> list[Any]:
        """The reverse-paths about which it was asked."""
        return [told for phase, told in self.calls if phase is Phase.MAIL]


class Follower(Scripted):
    """Notes the ends of mails that it is told."""

    follows_mails = True

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.ends: list[tuple[str, list[str]]] = []

    def mail_ended(self, transaction: Transaction, taken: Collection[str]) -> None:
        self.ends.append((transaction.id, sorted(taken)))


def flows_of(*filters: Scripted, **rules: Any) -> Flows:
    return Flows([Flow("in", filters)], auth_optional=True, **rules)


async def connected(*filters: Scripted, **rules: Any) -> Dialogue:
    talk = Dialogue(flows_of(*filters, **rules))
    assert await talk.connect() == 250
    return talk


async def mails(talk: Dialogue, *paths: str, reply: int = 250) -> None:
    for path in paths:
        assert await talk.mail(path) == reply
        talk.state.reset()


# -- connect -------------------------------------------------------------------------------------


class SameClient(Scripted):
    """Its answer at connect depends only on the client's address."""

    same_at_connect = True

    @property
    def asked(self) -> int:
        """How often it was asked about a client."""
        return sum(1 for phase, _ in self.calls if phase is Phase.CONNECT)


async def greeted(flows: Flows, *clients: str) -> list[int]:
    """The replies to these clients, who come one after the other and send a mail."""
    replies = []
    for ip in clients:
        talk = Dialogue(flows, a_session(ip=ip))
        replies.append(await talk.connect())
        if replies[-1] == 250:
            assert await talk.mail("a@b") == 250
            assert await talk.rcpt(X) == 250
            assert (await talk.data()).recipients == ((X, ("in",)),)
    return replies


@pytest.mark.parametrize("slow", [False, True])
async def test_a_client_that_was_accepted_is_not_asked_about_again(slow: bool) -> None:
    one = SameClient(connect=ACCEPT, slow=slow)
    assert await greeted(flows_of(one), "192.0.2.1", "192.0.2.1", "192.0.2.2", "192.0.2.1") == [250] * 4
    assert one.asked == 2


@pytest.mark.parametrize("answer", [REFUSE, DEFER, RuntimeError("a fault")])
async def test_a_client_that_was_not_accepted_is_asked_about_again(answer: Any) -> None:
    one = SameClient(connect=answer)
    assert all(code >= 400 for code in await greeted(flows_of(one), "192.0.2.1", "192.0.2.1"))
    assert one.asked == 2


async def test_beside_a_filter_that_does_not_declare_it_each_is_asked_about_each_connection() -> None:
    one, other = SameClient(connect=ACCEPT), Scripted(connect=ACCEPT)
    await greeted(flows_of(one, other), "192.0.2.1", "192.0.2.1")
    assert one.asked == 2


async def test_a_client_that_one_flow_refused_is_not_asked_about_again() -> None:
    one, other = SameClient(connect=REFUSE), SameClient(connect=ACCEPT)
    flows = Flows([Flow("out", (one,)), Flow("in", (other,))], auth_optional=True)
    assert await greeted(flows, "192.0.2.1", "192.0.2.1") == [250, 250]
    assert (one.asked, other.asked) == (1, 1)


async def test_metrics_count_each_question_about_a_client() -> None:
    one = SameClient(connect=ACCEPT)
    await greeted(flows_of(one, on_answer=lambda *_: None), "192.0.2.1", "192.0.2.1")
    assert one.asked == 2


async def test_no_more_than_so_many_clients_are_remembered() -> None:
    one = SameClient(connect=ACCEPT)
    flows = flows_of(one)
    for number in range(3_000):
        await Dialogue(flows, a_session(ip=f"2001:db8::{number:x}")).connect()
    before = one.asked
    await greeted(flows, "2001:db8::0")
    assert one.asked == before + 1


# -- MAIL ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [ACCEPT, ABSTAIN])
@pytest.mark.parametrize("slow", [False, True])
async def test_the_reverse_path_of_the_mail_before_is_not_asked_about_again(answer: Any, slow: bool) -> None:
    one = Same(mail=answer, rcpt=ACCEPT, slow=slow)
    talk = await connected(one)
    for path in ("a@b", "a@b", "A@b", "", "", "a@b", "a@b"):
        assert await talk.mail(path) == 250
        assert await talk.rcpt(X) == 250
        assert (await talk.data()).recipients == ((X, ("in",)),)
    # What abstains at once is remembered, and so is an acceptance; an abstention that is awaited is not.
    assert one.asked == (
        ["a@b", "a@b", "A@b", "", "", "a@b", "a@b"]
        if slow and answer is ABSTAIN
        else ["a@b", "A@b", "", "a@b"]
    )


async def test_a_filter_that_does_not_declare_it_is_asked_about_each_mail_and_so_are_those_beside_it() -> (
    None
):
    one, other = Same(mail=ACCEPT), Scripted(mail=ACCEPT)
    await mails(await connected(one, other), "a@b", "a@b")
    assert len(one.asked) == len(other.calls) == 2


@pytest.mark.parametrize("answer", [REFUSE, DEFER, RuntimeError("a fault")])
async def test_an_objection_at_mail_is_not_remembered(answer: Any) -> None:
    one = Same(mail=answer)
    flows = Flows([Flow("in", (one, Same(mail=ACCEPT)), "OR")], auth_optional=True)
    talk = Dialogue(flows)
    assert await talk.connect() == 250
    await mails(talk, "a@b", "a@b")
    assert len(one.asked) == 2


async def test_a_refused_reverse_path_is_asked_about_again() -> None:
    one = Same(mail=REFUSE)
    await mails(await connected(one), "a@b", "a@b", reply=550)
    assert len(one.asked) == 2


async def test_another_user_is_asked_about_anew() -> None:
    login = Scripted(checks=True, auth=ACCEPT)
    one = Same(guard=True, mail=lambda session, mail: REFUSE if session.user == "eve" else ABSTAIN)
    flows = Flows([Flow("in", (Scripted(connect=ACCEPT), one)), Flow("b", (login,))], auth_optional=True)
    talk = Dialogue(flows)
    assert await talk.connect() == 250
    await mails(talk, "a@b", "a@b")
    assert await talk.auth("bob") == 250
    await mails(talk, "a@b", "a@b")
    talk.state.restart()  # STARTTLS
    await mails(talk, "a@b", "a@b")
    talk.state.vouch("ann")  # XCLIENT
    await mails(talk, "a@b", "a@b")
    assert len(one.asked) == 4
    talk.state.restart()
    assert await talk.auth("eve") == 250
    assert await talk.mail("a@b") == 250  # the other flow takes it
    assert await talk.rcpt(X) == 250
    assert [flows for _, flows in (await talk.data()).recipients] == [("b",)]


async def test_another_client_and_another_configuration_are_asked_about_anew() -> None:
    one = Same(mail=ACCEPT)
    flows = flows_of(one)
    for made in (flows, flows, flows_of(one)):
        talk = Dialogue(made, a_session(ip=f"192.0.2.{len(one.asked)}"))
        assert await talk.connect() == 250
        await mails(talk, "a@b", "a@b")
    assert len(one.asked) == 3


async def test_metrics_count_every_question() -> None:
    one, told = Same(mail=ACCEPT), []
    talk = await connected(one, on_answer=lambda name, phase, verdict, seconds: told.append(phase))
    await mails(talk, "a@b", "a@b")
    assert told == [Phase.MAIL] * 2


async def test_a_remembered_reverse_path_does_not_spare_a_client_its_login() -> None:
    one = Same(mail=ACCEPT)
    flows = Flows([Flow("in", (Scripted(checks=True, auth=ACCEPT), one))], auth_optional=False)
    talk = Dialogue(flows)
    assert await talk.connect() == 250
    assert await talk.auth() == 250
    await mails(talk, "a@b")
    talk.state.restart()
    await mails(talk, "a@b", reply=530)
    assert len(one.asked) == 1


# -- one filter alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("beside", [0, 1])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    ("script", "code"),
    [
        (ACCEPT, 250),
        (REFUSE, 550),
        (DEFER, 451),
        (RuntimeError("a fault"), 451),
        (lambda *_: RuntimeError("no decision"), 451),
        (lambda *_: 7, 451),
    ],
)
async def test_one_filter_alone_decides_as_one_of_several(
    script: Any, code: int, measured: bool, beside: int
) -> None:
    rules: dict[str, Any] = {"on_answer": lambda *_: None} if measured else {}
    others = [Scripted(connect=ACCEPT, rcpt=ABSTAIN, data=ABSTAIN)] * beside
    talk = await connected(Scripted(rcpt=script), *others, **rules)
    await talk.mail()
    assert await talk.rcpt(X) == code
    talk = await connected(Scripted(data=script), *others, **rules)
    await talk.mail()
    assert await talk.rcpt(X) == 250
    reply = (await talk.data()).reply
    assert (250 if reply is None else reply.code) == code


NOTED = {"headers": (("X-Found", "it"),), "results": {"spf": {"result": "pass"}}}


@pytest.mark.parametrize("first", [ACCEPT, ABSTAIN, REFUSE, DEFER])
@pytest.mark.parametrize("operator", ["AND", "OR"])
@pytest.mark.parametrize("partial", [False, True])
async def test_an_answer_that_means_all_recipients_is_settled_as_one_of_several(
    first: Any, operator: Any, partial: bool
) -> None:
    words = Reply(550, "5.7.1", "no")
    answers = [
        Decision(verdict, reply, recipients=recipients, **more)
        for verdict in ("accept", "abstain", "refuse", "defer")
        for reply in (None, words)
        for recipients in (None, frozenset({X}), frozenset({Y}), frozenset({X, Y}))
        for more in ({}, NOTED)
    ]
    for answer in answers:
        found = []
        for measured in (False, True):
            one = Scripted("one", rcpt=first)
            flows = [
                Flow("in", (one, Scripted("two", data=lambda *_, answer=answer: answer)), operator),
                Flow("other", (Scripted("three", rcpt=lambda _s, _t, to: ACCEPT if to == X else REFUSE),)),
                Flow("all", (Scripted("four", mail=ACCEPT),)),
            ]
            for shown in (flows[:1], flows[:2], flows[::2], flows):
                rules: dict[str, Any] = {"on_answer": lambda *_: None} if measured else {}
                talk = Dialogue(Flows(shown, auth_optional=True, partial_accept=partial, **rules))
                await talk.connect()
                for _ in range(2):
                    await talk.mail()
                    await talk.rcpt(X)
                    await talk.rcpt(Y)
                    if talk.transaction.recipients:
                        found.append((measured, await talk.data()))
        half = len(found) // 2
        assert [outcome for _, outcome in found[:half]] == [outcome for _, outcome in found[half:]], answer


# -- the end of a mail ---------------------------------------------------------------------------


async def ended(talk: Dialogue, *replies: Reply, to: tuple[str, ...] = (X,)) -> None:
    """A mail to these, all of which RCPT accepts, with these replies after its last byte."""
    assert await talk.mail() == 250
    for one in to:
        await talk.rcpt(one)
    await value(talk.state.data(talk.transaction, None))  # type: ignore[arg-type]  # no filter reads it
    talk.state.answered(replies)


async def test_a_follower_is_told_only_the_end_of_mails_that_were_not_stored_whole() -> None:
    one = Follower(connect=ACCEPT, rcpt=ABSTAIN, data=ABSTAIN)
    talk = await connected(one)
    await ended(talk, *OK, to=(X, Y))
    assert one.ends == []
    await ended(talk, *LATER)  # the spool may have it
    await ended(talk, Reply(554, "5.4.6", "a loop"))
    await ended(talk)
    assert await talk.mail() == 250
    assert await talk.rcpt(X) == 250
    talk.state.reset()
    await ended(talk, *OK)
    assert one.ends == [("mail-2", [X]), ("mail-3", []), ("mail-4", []), ("mail-5", [])]


async def test_a_follower_is_told_the_end_if_some_recipient_or_some_flow_did_not_take_the_mail() -> None:
    one, other = Follower(rcpt=ACCEPT), Follower(rcpt=lambda session, mail, to: ACCEPT if to == X else REFUSE)
    talk = Dialogue(Flows([Flow("a", (one,)), Flow("b", (other,))], auth_optional=True))
    assert await talk.connect() == 250
    await ended(talk, *OK, to=(X, Y))
    assert (one.ends, other.ends) == ([("mail-1", [X, Y])], [("mail-1", [X])])
    await ended(talk, *OK, to=(Y,))
    assert (one.ends[1:], other.ends[1:]) == ([("mail-2", [Y])], [("mail-2", [])])


@pytest.mark.parametrize("refusing", [{"rcpt": lambda session, mail, to: REFUSE if to == Y else ABSTAIN}, {}])
async def test_a_follower_is_told_the_end_of_a_stored_mail_of_which_a_recipient_was_refused(
    refusing: Any,
) -> None:
    one = Follower(guard=True, rcpt=ABSTAIN)
    accepts = {} if refusing else {"rcpt": lambda session, mail, to: ACCEPT if to == X else ABSTAIN}
    other = Scripted(**(refusing or accepts), **({"connect": ACCEPT} if refusing else {}))
    talk = await connected(one, other)
    await ended(talk, *OK, to=(X, Y))
    assert one.ends == [("mail-1", [X])]
    await ended(talk, *OK, to=(Y, X, X))
    assert one.ends[1:] == [("mail-2", [X, X])]


async def test_a_follower_is_told_the_end_of_a_mail_that_its_flow_refuses_after_data() -> None:
    one = Follower(rcpt=ACCEPT, data=REFUSE)
    talk = await connected(one)
    await ended(talk, Reply(550, "5.7.1", "no"))
    assert one.ends == [("mail-1", [])]


async def test_a_follower_is_told_which_recipients_of_an_lmtp_mail_were_stored() -> None:
    one = Follower(rcpt=ACCEPT)
    talk = Dialogue(flows_of(one), a_session(lmtp=True))
    assert await talk.connect() == 250
    await ended(talk, *OK, *OK, to=(X, Y))
    assert one.ends == [("mail-1", [X, Y])]
