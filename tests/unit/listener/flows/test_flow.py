"""The rules of flows (docs/concepts.md), sentence by sentence. test_flow_oracle.py covers the
combinations."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from pydantic import ValidationError

from listener.api.decision import (
    ABSTAIN,
    ACCEPT,
    DEFER,
    REFUSE,
    Decision,
    Phase,
    Reply,
    Verdict,
    defer,
    refuse,
)
from listener.api.session import Session, Transaction
from listener.flows.flow import DataOutcome, Flow, Flows
from tests.support.scripted import Dialogue, Scripted, a_session, password

X, Y, Z = "x@c.example", "y@d.example", "z@e.example"


def to(*addresses: str) -> Any:
    """Accepts these recipients, refuses others."""
    return lambda session, mail, address: ACCEPT if address in addresses else REFUSE


def users(*names: str) -> Any:
    return lambda session, credentials: ACCEPT if credentials.username in names else REFUSE


def senders(*names: str) -> Any:
    return lambda session, mail: ACCEPT if mail.reverse_path in names else REFUSE


def flows_of(*flows: Flow, auth_optional: bool = True, **rules: Any) -> Flows:
    return Flows(flows, auth_optional=auth_optional, **rules)


def both(*filters: Scripted, name: str = "in", **more: Any) -> Flow:
    return Flow(name, filters, "AND", **more)


def either(*filters: Scripted, name: str = "in", **more: Any) -> Flow:
    return Flow(name, filters, "OR", **more)


async def begun(flows: Flows, sender: str = "a@example.com", **facts: Any) -> Dialogue:
    """A dialogue that has come past MAIL."""
    talk = Dialogue(flows, a_session(**facts))
    assert await talk.connect() == 250
    assert await talk.mail(sender) == 250
    return talk


async def delivered(flows: Flows, *addresses: str) -> DataOutcome:
    """The outcome of a mail to these, all of which RCPT accepts."""
    talk = await begun(flows)
    for address in addresses:
        assert await talk.rcpt(address) == 250
    outcome: DataOutcome = await talk.data()
    return outcome


# -- AND, OR, none -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((ACCEPT, ACCEPT), 250),
        ((ACCEPT, REFUSE), 550),
        ((REFUSE, DEFER), 550),
        ((DEFER, REFUSE), 550),
        ((ACCEPT, DEFER), 451),
        ((ABSTAIN, DEFER), 451),
        ((ACCEPT, ABSTAIN), 550),
        ((ABSTAIN, ABSTAIN), 550),
    ],
)
async def test_and_at_one_phase(answers: tuple[Decision, Decision], expected: int) -> None:
    flows = flows_of(both(*(Scripted(rcpt=answer) for answer in answers)))
    assert await (await begun(flows)).rcpt(X) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ((ACCEPT, ACCEPT), 250),
        ((ACCEPT, REFUSE), 250),
        ((ACCEPT, DEFER), 250),
        ((DEFER, ACCEPT), 250),
        ((REFUSE, DEFER), 451),
        ((ABSTAIN, DEFER), 451),
        ((REFUSE, ABSTAIN), 550),
        ((ABSTAIN, ABSTAIN), 550),
    ],
)
async def test_or_at_one_phase(answers: tuple[Decision, Decision], expected: int) -> None:
    flows = flows_of(either(*(Scripted(rcpt=answer) for answer in answers)))
    assert await (await begun(flows)).rcpt(X) == expected


async def test_and_wants_every_filter_to_have_accepted_at_one_phase_at_least() -> None:
    early = Scripted(connect=ACCEPT, rcpt=ABSTAIN)
    late = Scripted(connect=ABSTAIN, data=ACCEPT)
    outcome = await delivered(flows_of(both(early, late)), X)
    assert outcome.recipients == ((X, ("in",)),)
    assert outcome.reply is None


async def test_or_takes_on_any_acceptance_at_any_phase() -> None:
    flows = flows_of(either(Scripted(connect=REFUSE, mail=ACCEPT, rcpt=REFUSE), Scripted(mail=REFUSE)))
    assert (await delivered(flows, X)).recipients == ((X, ("in",)),)


@pytest.mark.parametrize("flow", [both(), either()])
async def test_a_flow_without_filters_takes_nothing(flow: Flow) -> None:
    assert await Dialogue(flows_of(flow)).connect() == 554


async def test_no_flow_at_all_takes_nothing() -> None:
    assert await Dialogue(flows_of()).connect() == 554


async def test_silence_may_become_accept_until_the_last_declared_phase_has_run() -> None:
    talk = await begun(flows_of(both(Scripted(mail=ABSTAIN, data=ABSTAIN))))
    assert await talk.rcpt(X) == 250
    outcome = await talk.data()
    assert outcome.reply.code == 550


async def test_a_filter_that_accepted_may_still_refuse_later() -> None:
    flows = flows_of(both(Scripted(connect=ACCEPT, data=REFUSE)))
    assert (await delivered(flows, X)).reply == Reply(550, "5.7.1", "This mail is not accepted")


# -- as early as is certain ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phases", "codes"),
    [
        ({"connect": REFUSE}, [554]),
        ({"connect": DEFER}, [421]),
        ({"connect": ABSTAIN}, [554]),
        ({"mail": REFUSE}, [250, 550]),
        ({"mail": DEFER}, [250, 451]),
        ({"mail": ABSTAIN}, [250, 550]),
        ({"rcpt": REFUSE}, [250, 250, 550]),
        ({"rcpt": DEFER}, [250, 250, 451]),
        ({"data": REFUSE}, [250, 250, 250, 550]),
        ({"data": DEFER}, [250, 250, 250, 451]),
        ({"connect": REFUSE, "data": ACCEPT}, [554]),
        ({"connect": DEFER, "data": ACCEPT}, [421]),
        ({"connect": ACCEPT, "mail": DEFER, "rcpt": ACCEPT}, [250, 451]),
    ],
)
async def test_refused_and_deferred_as_early_as_certain(phases: dict[str, Any], codes: list[int]) -> None:
    assert await said(flows_of(both(Scripted(**phases)))) == codes


@pytest.mark.parametrize(
    ("phases", "codes"),
    [
        ({"connect": REFUSE, "data": ACCEPT}, [250, 250, 250, 250]),
        ({"connect": DEFER, "rcpt": REFUSE}, [250, 250, 451]),
        ({"connect": REFUSE, "mail": ABSTAIN}, [250, 550]),
    ],
)
async def test_an_or_flow_waits_for_its_last_phase(phases: dict[str, Any], codes: list[int]) -> None:
    assert await said(flows_of(either(Scripted(**phases)))) == codes


async def said(flows: Flows) -> list[int]:
    """The codes of a dialogue, up to the first that is not 250."""
    talk = Dialogue(flows)
    codes: list[int] = []
    for step in (talk.connect, talk.mail, lambda: talk.rcpt(X)):
        codes.append(await step())
        if codes[-1] != 250:
            return codes
    reply = (await talk.data()).reply
    return [*codes, 250 if reply is None else reply.code]


async def test_another_flow_that_may_take_keeps_the_connection_alive() -> None:
    gone = both(Scripted(connect=REFUSE), name="gone")
    alive = both(Scripted(rcpt=to(X)), name="alive")
    talk = await begun(flows_of(gone, alive))
    assert await talk.rcpt(X) == 250
    assert await talk.rcpt(Y) == 550


async def test_a_deferred_flow_makes_the_refusal_of_others_a_deferral() -> None:
    broken = both(Scripted(connect=DEFER), name="broken")
    alive = both(Scripted(rcpt=to(X)), name="alive")
    talk = await begun(flows_of(broken, alive))
    assert await talk.rcpt(X) == 250
    assert await talk.rcpt(Y) == 451


async def test_a_refusal_later_outweighs_a_deferral_before() -> None:
    broken = both(Scripted(connect=DEFER), Scripted(rcpt=to(Z)), name="broken")
    alive = both(Scripted(rcpt=to(X)), name="alive")
    talk = await begun(flows_of(broken, alive))
    assert await talk.rcpt(Y) == 550
    assert await talk.rcpt(Z) == 451


async def test_only_flows_of_the_listener_count() -> None:
    flows = flows_of(
        both(Scripted(connect=ACCEPT), name="inside", listeners=frozenset({"submission"})),
        both(Scripted(connect=REFUSE), name="outside", listeners=frozenset({"mx"})),
        both(Scripted(connect=ACCEPT), name="everywhere"),
    )
    for listener, taken in {"submission": ("inside", "everywhere"), "mx": ("everywhere",)}.items():
        talk = await begun(flows, listener=listener)
        await talk.rcpt(X)
        assert (await talk.data()).recipients == ((X, taken),)


# -- per recipient -------------------------------------------------------------------------------


async def test_one_refused_recipient_leaves_the_others() -> None:
    talk = await begun(flows_of(both(Scripted(rcpt=to(X, Z)))))
    assert [await talk.rcpt(one) for one in (X, Y, Z)] == [250, 550, 250]
    outcome = await talk.data()
    assert outcome.recipients == ((X, ("in",)), (Z, ("in",)))
    assert outcome.reply is None


async def test_each_flow_gets_the_recipients_it_took_only() -> None:
    flows = flows_of(
        both(Scripted(rcpt=to(X, Y)), name="one"),
        either(Scripted(rcpt=to(Y, Z)), name="two"),
    )
    outcome = await delivered(flows, X, Y, Z)
    assert outcome.recipients == ((X, ("one",)), (Y, ("one", "two")), (Z, ("two",)))


async def test_a_recipient_given_twice_is_asked_about_once_and_answered_twice() -> None:
    scripted = Scripted(rcpt=ACCEPT)
    outcome = await delivered(flows_of(both(scripted)), X, X)
    assert outcome.recipients == ((X, ("in",)), (X, ("in",)))
    assert scripted.calls == [(Phase.RCPT, X)]


async def test_a_recipient_refused_once_is_asked_about_again() -> None:
    answers = iter((DEFER, ACCEPT))
    talk = await begun(flows_of(both(Scripted(rcpt=lambda *_: next(answers)))))
    assert [await talk.rcpt(X), await talk.rcpt(X)] == [451, 250]


# -- nothing leaks -------------------------------------------------------------------------------


async def test_an_accepted_mail_does_not_let_later_recipients_through() -> None:
    flows = flows_of(either(Scripted(mail=senders("good@example.com")), Scripted(rcpt=to(X))))
    talk = await begun(flows, "good@example.com")
    assert await talk.rcpt(Y) == 250
    assert (await talk.data()).reply is None
    assert await talk.mail("other@example.com") == 250
    assert await talk.rcpt(Y) == 550
    assert await talk.rcpt(X) == 250


async def test_a_refused_mail_does_not_spoil_the_next() -> None:
    talk = Dialogue(flows_of(both(Scripted(mail=senders("good@example.com")))))
    assert await talk.connect() == 250
    assert await talk.mail("bad@example.com") == 550
    assert await talk.mail("good@example.com") == 250
    assert await talk.rcpt(X) == 250


async def test_recipients_of_one_mail_are_asked_about_again_in_the_next() -> None:
    scripted = Scripted(rcpt=lambda session, mail, _: ACCEPT if mail.id == "mail-1" else REFUSE)
    talk = await begun(flows_of(both(scripted)))
    assert await talk.rcpt(X) == 250
    talk.state.reset()
    assert await talk.mail() == 250
    assert await talk.rcpt(X) == 550


async def test_a_data_verdict_holds_for_its_mail_only() -> None:
    answers = iter((DEFER, REFUSE, ACCEPT))
    flows = flows_of(both(Scripted(data=lambda *_: next(answers))))
    talk = await begun(flows)
    codes = []
    for _ in range(3):
        assert await talk.mail() == 250
        assert await talk.rcpt(X) == 250
        reply = (await talk.data()).reply
        codes.append(reply.code if reply else 250)
    assert codes == [451, 550, 250]


async def test_a_connect_verdict_holds_for_all_mails_and_is_asked_for_once() -> None:
    scripted = Scripted(connect=ACCEPT)
    flows = flows_of(both(scripted))
    talk = await begun(flows)
    for _ in range(2):
        assert await talk.mail() == 250
        assert await talk.rcpt(X) == 250
        assert (await talk.data()).reply is None
    assert scripted.calls == [(Phase.CONNECT, "192.0.2.1")]


async def test_connections_share_nothing() -> None:
    def connect(session: Session) -> Decision:
        return ACCEPT if session.ip == "192.0.2.1" else REFUSE

    flows = flows_of(both(Scripted(connect=connect)))
    one, two = Dialogue(flows), Dialogue(flows, a_session(ip="192.0.2.2"))
    assert [await one.connect(), await two.connect(), await one.mail()] == [250, 554, 250]


async def test_rcpt_and_data_outside_a_mail_are_faults_of_the_caller() -> None:
    talk = Dialogue(flows_of(both(Scripted(mail=senders("a@example.com")))))
    await talk.connect()
    with pytest.raises(RuntimeError, match="no mail"):
        talk.state.rcpt(Transaction("m", ""), X)
    assert await talk.mail("bad@example.com") == 550
    with pytest.raises(RuntimeError, match="no mail"):
        talk.state.rcpt(Transaction("m", ""), X)
    assert await talk.mail() == 250
    await talk.rcpt(X)
    talk.state.reset()
    with pytest.raises(RuntimeError, match="no mail"):
        talk.state.data(Transaction("m", "", recipients=[X]), None)


async def test_data_for_a_recipient_that_was_not_accepted_is_a_fault_of_the_caller() -> None:
    talk = await begun(flows_of(both(Scripted(rcpt=to(X)))))
    await talk.rcpt(Y)
    with pytest.raises(KeyError):
        talk.state.data(Transaction("m", "", recipients=[Y]), None)


# -- authentication ------------------------------------------------------------------------------


def relay(**rules: Any) -> Flows:
    """Any client may write to X, users may write to all."""
    local = both(Scripted(rcpt=to(X)), name="local")
    out = both(Scripted(auth=users("bob"), checks=True), name="out")
    return flows_of(local, out, **rules)


async def test_a_client_that_never_authenticates_never_passes() -> None:
    talk = Dialogue(flows_of(both(Scripted(auth=users("bob"), checks=True))))
    assert await talk.connect() == 250
    assert await talk.mail() == 530


async def test_missing_only_an_authentication_is_told_at_rcpt_too() -> None:
    talk = await begun(relay())
    assert await talk.rcpt(X) == 250
    assert await talk.rcpt(Y) == 530
    talk.state.reset()
    assert await talk.auth("bob") == 250
    assert await talk.mail() == 250
    assert await talk.rcpt(Y) == 250


async def test_missing_more_than_an_authentication_is_a_plain_refusal() -> None:
    credentials = Scripted(auth=users("bob"), checks=True)
    flows = flows_of(
        both(credentials, Scripted(rcpt=to(Z)), name="out"), both(Scripted(rcpt=to(X)), name="local")
    )
    talk = await begun(flows)
    assert [await talk.rcpt(one) for one in (X, Y, Z)] == [250, 550, 530]


async def test_an_or_flow_lacks_only_an_authentication() -> None:
    flows = flows_of(either(Scripted(rcpt=to(X)), Scripted(auth=users("bob"), checks=True)))
    talk = await begun(flows)
    assert [await talk.rcpt(X), await talk.rcpt(Y)] == [250, 530]


async def test_after_data_an_authentication_is_no_longer_asked_for() -> None:
    local = both(Scripted(rcpt=to(X), data=REFUSE), name="local")
    out = both(Scripted(auth=users("bob"), checks=True), name="out")
    assert (await delivered(flows_of(local, out), X)).reply.code == 550  # type: ignore[union-attr]


async def test_a_deferral_outweighs_a_missing_authentication() -> None:
    broken = both(Scripted(mail=DEFER), name="broken")
    out = both(Scripted(auth=users("bob"), checks=True), name="out")
    talk = Dialogue(flows_of(broken, out))
    assert await talk.connect() == 250
    assert await talk.mail() == 451


async def test_authentication_not_optional_means_530_whatever_the_flows_say() -> None:
    scripted = Scripted(connect=ACCEPT, mail=ACCEPT)
    talk = Dialogue(flows_of(both(scripted), auth_optional=False))
    assert await talk.connect() == 250
    assert await talk.mail() == 530
    assert scripted.calls == [(Phase.CONNECT, "192.0.2.1")]
    assert await talk.auth("anybody") == 250
    assert await talk.mail() == 250


async def test_the_words_of_530_can_be_chosen() -> None:
    flows = flows_of(
        both(Scripted(auth=users("bob"), checks=True)), auth_required_message="Log in first\r\n250 ok"
    )
    talk = Dialogue(flows)
    await talk.connect()
    reply = talk.state.mail(Transaction("m", ""))
    assert reply == Reply(530, "5.7.0", "Log in first  250 ok")
    assert flows_of().auth_required == Reply(530, "5.7.0", "Authentication required")


async def test_auth_among_disabled_commands_lifts_the_requirement() -> None:
    talk = Dialogue(flows_of(both(Scripted(mail=ACCEPT)), auth_optional=False, auth_lifted=True))
    assert [await talk.connect(), await talk.mail()] == [250, 250]


async def test_auth_among_disabled_commands_does_not_open_a_flow_that_checks_credentials() -> None:
    flows = flows_of(both(Scripted(auth=users("bob"), checks=True)), auth_lifted=True)
    assert await Dialogue(flows).connect() == 554


async def test_wrong_credentials_leave_no_trace_and_may_be_tried_again() -> None:
    talk = Dialogue(relay())
    await talk.connect()
    assert await talk.auth("mallory") == 535
    assert talk.session.user is None
    assert await talk.mail() == 250
    assert await talk.rcpt(Y) == 530
    talk.state.reset()
    assert await talk.auth("bob") == 250
    assert talk.session.user == "bob"
    assert await talk.mail() == 250
    assert await talk.rcpt(Y) == 250


async def test_a_wrong_password_fails_even_if_another_flow_is_alive() -> None:
    talk = Dialogue(relay())
    await talk.connect()
    reply = talk.state.auth(password("mallory"))
    assert reply == Reply(535, "5.7.8", "Authentication credentials invalid")


async def test_credentials_that_one_flow_accepts_hold_per_flow() -> None:
    flows = flows_of(
        both(Scripted(auth=users("ann"), checks=True), name="anns"),
        both(Scripted(auth=users("bob"), checks=True), name="bobs"),
    )
    talk = Dialogue(flows)
    await talk.connect()
    assert await talk.auth("bob") == 250
    await talk.mail()
    await talk.rcpt(X)
    assert (await talk.data()).recipients == ((X, ("bobs",)),)


async def test_an_auth_deferral_is_454_unless_another_filter_accepts() -> None:
    broken = both(Scripted(auth=RuntimeError("down"), checks=True), name="broken")
    good = both(Scripted(auth=users("bob"), checks=True), name="good")
    talk = Dialogue(flows_of(broken, good))
    await talk.connect()
    reply = talk.state.auth(password("mallory"))
    assert reply == Reply(454, "4.7.0", "Temporary authentication failure")
    assert await talk.auth("bob") == 250
    assert await talk.mail() == 250


async def test_silence_about_credentials_is_a_failure() -> None:
    talk = Dialogue(flows_of(both(Scripted(auth=ABSTAIN, checks=True))))
    await talk.connect()
    assert await talk.auth("bob") == 535


async def test_without_a_filter_that_checks_any_credentials_do_and_the_name_is_recorded() -> None:
    flows = flows_of(both(Scripted(rcpt=ACCEPT)))
    assert not flows.checks_credentials
    talk = Dialogue(flows)
    await talk.connect()
    assert await talk.auth("whoever") == 250
    assert talk.session.user == "whoever"


async def test_an_auth_filter_that_does_not_check_has_a_say_on_its_flow_only() -> None:
    flows = flows_of(both(Scripted(auth=users("bob"))))
    talk = Dialogue(flows)
    await talk.connect()
    assert await talk.auth("mallory") == 250
    assert await talk.mail() == 550


async def test_credentials_checked_on_another_listener_only_cannot_be_accepted_here() -> None:
    flows = flows_of(
        both(Scripted(auth=users("bob"), checks=True), listeners=frozenset({"submission"})),
        both(Scripted(connect=ACCEPT), name="mx", listeners=frozenset({"mx"})),
    )
    talk = Dialogue(flows, a_session(listener="mx"))
    await talk.connect()
    assert await talk.auth("bob") == 535


async def test_a_filter_that_takes_any_user_lets_auth_succeed_and_says_nothing_for_its_flow() -> None:
    lenient = Scripted(data=ACCEPT)
    lenient.any_user = True
    strict = Scripted(auth=users("bob"), checks=True)
    talk = Dialogue(flows_of(both(lenient, name="lenient"), both(strict, name="strict")))
    await talk.connect()
    assert await talk.auth("mallory") == 250
    assert talk.session.user == "mallory"
    await talk.mail()
    await talk.rcpt(X)
    assert (await talk.data()).recipients == ((X, ("lenient",)),)


async def test_starttls_forgets_authentication_and_keeps_what_is_known_of_the_client() -> None:
    address = Scripted(connect=ACCEPT)
    talk = Dialogue(flows_of(both(address, Scripted(auth=users("bob"), checks=True))))
    await talk.connect()
    await talk.auth("bob")
    assert await talk.mail() == 250
    talk.state.restart()
    assert talk.session.user is None
    assert await talk.mail() == 530
    assert await talk.auth("bob") == 250
    assert await talk.mail() == 250
    assert address.calls == [(Phase.CONNECT, "192.0.2.1")]


async def test_rset_keeps_authentication() -> None:
    talk = Dialogue(relay())
    await talk.connect()
    await talk.auth("bob")
    for _ in range(2):
        assert await talk.mail() == 250
        assert await talk.rcpt(Y) == 250
        talk.state.reset()


# -- after DATA ----------------------------------------------------------------------------------


def by_domain() -> tuple[Flow, ...]:
    """X is taken, Y deferred, Z refused after DATA."""
    return (
        both(Scripted(rcpt=to(X), data=ACCEPT), name="takes"),
        both(Scripted(rcpt=to(Y), data=DEFER), name="defers"),
        both(Scripted(rcpt=to(Z), data=REFUSE), name="refuses"),
    )


@pytest.mark.parametrize(
    ("addresses", "strict", "partial"),
    [
        ((X,), 250, 250),
        ((Y,), 451, 451),
        ((Z,), 550, 550),
        ((X, Y), 451, 451),
        ((X, Z), 550, 250),
        ((Z, Y), 451, 451),
        ((X, Z, Y), 451, 451),
        ((Z, Z), 550, 550),
    ],
)
async def test_after_data_there_is_one_reply(addresses: tuple[str, ...], strict: int, partial: int) -> None:
    outcomes = {X: ("takes",), Y: 451, Z: 550}
    for accept_part, expected in ((False, strict), (True, partial)):
        outcome = await delivered(flows_of(*by_domain(), partial_accept=accept_part), *addresses)
        assert (outcome.reply.code if outcome.reply else 250) == expected
        found = [
            (a, outcome.code if isinstance(outcome, Reply) else outcome) for a, outcome in outcome.recipients
        ]
        assert found == [(one, outcomes[one]) for one in addresses]


async def test_a_recipient_deferred_by_one_flow_and_taken_by_another_is_taken() -> None:
    flows = flows_of(both(Scripted(data=DEFER), name="defers"), both(Scripted(rcpt=ACCEPT), name="takes"))
    outcome = await delivered(flows, X)
    assert outcome.recipients == ((X, ("takes",)),)
    assert outcome.reply is None


async def test_a_mail_without_recipients_is_not_taken() -> None:
    outcome = await delivered(flows_of(both(Scripted(connect=ACCEPT))))
    assert outcome.recipients == ()
    assert outcome.reply is not None
    assert outcome.reply.code == 550


async def test_data_filters_hear_the_recipients_that_their_flow_may_still_take() -> None:
    first, second = Scripted(rcpt=to(X, Y), data=ACCEPT), Scripted(rcpt=to(Z), data=ACCEPT)
    await delivered(flows_of(both(first, name="one"), both(second, name="two")), X, Z, Y)
    assert first.calls[-1] == (Phase.DATA, (X, Y))
    assert second.calls[-1] == (Phase.DATA, (Z,))


async def test_data_filters_of_a_flow_that_takes_no_recipient_are_not_asked() -> None:
    asked, spared = Scripted(rcpt=to(X), data=ACCEPT), Scripted(rcpt=to(Y), data=ACCEPT)
    await delivered(flows_of(both(asked, name="one"), both(spared, name="two")), X)
    assert (Phase.DATA, (X,)) in asked.calls
    assert all(phase != Phase.DATA for phase, _ in spared.calls)


async def test_a_data_filter_may_keep_a_subset_of_its_flows_recipients() -> None:
    picky = Decision("accept", recipients=frozenset({X, "stranger@example.com"}))
    flows = flows_of(
        both(Scripted(data=picky), name="picky"), both(Scripted(rcpt=to(Y), data=ACCEPT), name="other")
    )
    outcome = await delivered(flows, X, Y)
    assert outcome.recipients == ((X, ("picky",)), (Y, ("other",)))
    assert outcome.reply is None


async def test_recipients_left_out_by_all_are_refused() -> None:
    flows = flows_of(both(Scripted(data=Decision("accept", recipients=frozenset({X})))))
    outcome = await delivered(flows, X, Y)
    assert outcome.recipients == ((X, ("in",)), (Y, Reply(550, "5.7.1", "This mail is not accepted")))
    assert outcome.reply.code == 550  # type: ignore[union-attr]


async def test_a_recipient_that_a_filter_was_not_asked_about_is_not_left_out_by_it() -> None:
    def greylist(session: Session, mail: Transaction, address: str) -> Decision:
        return DEFER if address == Y else ACCEPT

    keeps = Decision("accept", recipients=frozenset({X}))
    flows = flows_of(
        both(Scripted(rcpt=greylist, data=keeps), name="grey"),
        both(Scripted(rcpt=to(Y), data=REFUSE), name="other"),
    )
    outcome = await delivered(flows, X, Y)
    assert [outcome.code if isinstance(outcome, Reply) else outcome for _, outcome in outcome.recipients] == [
        ("grey",),
        451,
    ]


async def test_a_deferral_defers_all_recipients_even_with_a_subset() -> None:
    flows = flows_of(both(Scripted(data=Decision("defer", recipients=frozenset({X})))))
    outcome = await delivered(flows, X, Y)
    assert [outcome.code for _, outcome in outcome.recipients if isinstance(outcome, Reply)] == [451, 451]


@pytest.mark.parametrize("answer", [REFUSE, DEFER, Decision("accept", recipients=frozenset())])
async def test_an_or_flow_that_took_is_informed_but_not_talked_out_of_it(answer: Decision) -> None:
    informed = Decision(answer.verdict, None, (("X-Found", "this"),), answer.recipients, {"dkim": "pass"})
    scripted = Scripted(data=informed)
    outcome = await delivered(flows_of(either(Scripted(connect=ACCEPT), scripted)), X)
    assert scripted.calls == [(Phase.DATA, (X,))]
    assert outcome.recipients == ((X, ("in",)),)
    assert outcome.notes["in"].headers == (("X-Found", "this"),)
    assert outcome.notes["in"].results == {"dkim": "pass"}


async def test_notes_are_kept_per_flow_in_the_order_of_its_filters() -> None:
    def noting(name: str, **results: str) -> Decision:
        return Decision("accept", headers=((name, "1"),), results=results)

    flows = flows_of(
        both(Scripted(data=noting("X-A", spf="pass")), Scripted(data=noting("X-B", dkim="fail")), name="one"),
        both(Scripted(data=noting("X-C")), name="two"),
        both(Scripted(data=Decision("refuse", headers=(("X-D", "1"),))), name="three"),
        both(Scripted(data=ACCEPT), name="four"),
    )
    outcome = await delivered(flows, X)
    assert list(outcome.notes) == ["one", "two"]
    assert outcome.notes["one"].headers == (("X-A", "1"), ("X-B", "1"))
    assert outcome.notes["one"].results == {"spf": "pass", "dkim": "fail"}
    assert outcome.notes["two"].headers == (("X-C", "1"),)


@pytest.mark.parametrize("many", [False, True])
async def test_a_list_of_header_fields_counts_and_what_is_no_field_is_refused(many: bool) -> None:
    def flows(headers: Any) -> Flows:
        noting = Scripted(data=Decision("accept", headers=headers))
        others = [Scripted(data=Decision("accept", results={"a": 1}))] if many else []
        return flows_of(both(noting, *others, name="one"))

    outcome = await delivered(flows([["X-A", "1"]]), X)
    assert outcome.notes["one"].headers == (("X-A", "1"),)
    for wrong in (("X-A",), (("X-A", 1),), (("X-A", "1", "2"),)):
        with pytest.raises(ValidationError):
            await delivered(flows(wrong), X)


# -- replies -------------------------------------------------------------------------------------


async def test_the_first_flow_that_has_words_is_heard() -> None:
    flows = flows_of(
        both(Scripted(rcpt=REFUSE), name="silent"),
        both(Scripted(rcpt=refuse(553, "5.1.3", "No such box")), name="first"),
        both(Scripted(rcpt=refuse(550, "5.2.1", "Box closed")), name="second"),
    )
    talk = await begun(flows)
    assert talk.state.rcpt(talk.transaction, X) == Reply(553, "5.1.3", "No such box")


async def test_a_deferral_is_told_in_the_words_of_the_flow_that_defers() -> None:
    flows = flows_of(
        both(Scripted(rcpt=refuse(550, "5.2.1", "Box closed")), name="refuses"),
        both(Scripted(rcpt=defer(450, "4.2.1", "Greylisted")), name="defers"),
    )
    talk = await begun(flows)
    assert talk.state.rcpt(talk.transaction, X) == Reply(450, "4.2.1", "Greylisted")


async def test_words_given_at_an_earlier_phase_are_kept_for_later() -> None:
    blocked = both(Scripted(connect=refuse(554, "5.7.1", "Listed at example.net")), name="blocked")
    alive = both(Scripted(rcpt=to(X)), name="alive")
    talk = await begun(flows_of(blocked, alive))
    assert talk.state.rcpt(talk.transaction, Y) == Reply(550, "5.7.1", "Listed at example.net")


async def test_the_words_of_a_refusal_reach_data_and_auth() -> None:
    flows = flows_of(both(Scripted(data=refuse(554, "5.6.0", "Smells of spam"))))
    assert (await delivered(flows, X)).reply == Reply(554, "5.6.0", "Smells of spam")
    flows = flows_of(both(Scripted(auth=refuse(550, "5.7.8", "Account locked"), checks=True)))
    talk = Dialogue(flows)
    await talk.connect()
    assert talk.state.auth(password()) == Reply(535, "5.7.8", "Account locked")


# -- plain functions and waiting -----------------------------------------------------------------


async def test_plain_hooks_cost_no_task() -> None:
    flows = flows_of(both(Scripted(connect=ACCEPT, auth=ACCEPT, mail=ACCEPT, rcpt=ACCEPT, data=ACCEPT)))
    state = flows.connection(a_session())
    mail = Transaction("m", "")
    assert state.connect() is None
    assert state.auth(password()) is None
    assert state.mail(mail) is None
    assert state.rcpt(mail, X) is None
    mail.recipients.append(X)
    assert isinstance(state.data(mail, None), DataOutcome)  # type: ignore[arg-type]


async def test_slow_hooks_of_a_phase_run_at_the_same_time() -> None:
    meeting = asyncio.Barrier(3)

    async def meet(*_: Any) -> Decision:
        await meeting.wait()
        return ACCEPT

    flows = flows_of(
        both(Scripted(data=meet), Scripted(data=meet), name="one"), either(Scripted(data=meet), name="two")
    )
    outcome = await delivered(flows, X)
    assert outcome.recipients == ((X, ("one", "two")),)


async def test_a_failing_hook_defers_and_is_logged_once_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    flows = flows_of(both(Scripted("greylist", rcpt=ConnectionError("redis at 10.0.0.1 is down"))))
    talk = await begun(flows)
    reply = talk.state.rcpt(talk.transaction, X)
    assert reply == Reply(451, "4.7.1", "This cannot be decided now, try again later")
    (record,) = [one for one in caplog.records if one.name == "smtp_relay.filters"]
    assert record.getMessage() == "filter greylist failed at rcpt and defers: ConnectionError"
    assert record.exc_info is not None
    assert (record.session, record.id) == ("session-1", "mail-1")  # type: ignore[attr-defined]


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize(
    ("phase", "codes"),
    [("connect", [421]), ("mail", [250, 451]), ("rcpt", [250, 250, 451]), ("data", [250, 250, 250, 451])],
)
async def test_a_fault_defers_with_the_code_of_the_phase(phase: str, codes: list[int], slow: bool) -> None:
    scripts: dict[str, Any] = {phase: ValueError("made to fail")}
    flows = flows_of(both(Scripted(slow=slow, **scripts), Scripted(connect=ACCEPT)))
    assert await said(flows) == codes


async def test_a_fault_never_accepts_for_an_or_flow() -> None:
    flows = flows_of(either(Scripted(connect=RuntimeError("down"), rcpt=RuntimeError("down"))))
    assert await said(flows) == [250, 250, 451]


async def test_an_answer_that_is_no_decision_defers(caplog: pytest.LogCaptureFixture) -> None:
    async def slowly(*_: Any) -> Any:
        return True

    for script in (lambda *_: True, slowly):
        talk = await begun(flows_of(both(Scripted("odd", rcpt=script))))
        assert await talk.rcpt(X) == 451
    assert caplog.text.count("filter odd failed at rcpt and defers: it answered bool instead") == 2


async def test_a_hook_that_takes_too_long_defers(caplog: pytest.LogCaptureFixture) -> None:
    async def hang(*_: Any) -> Decision:
        await asyncio.Event().wait()
        return ACCEPT

    flows = flows_of(
        both(Scripted("stuck", data=hang), Scripted(data=ACCEPT), Scripted(slow=True, data=ACCEPT)),
        filter_timeout=0.01,
    )
    outcome = await delivered(flows, X)
    assert outcome.reply.code == 451  # type: ignore[union-attr]
    (record,) = [one for one in caplog.records if one.name == "smtp_relay.filters"]
    assert record.getMessage() == "filter stuck failed at data and defers: it took too long"
    assert (record.levelname, record.exc_info) == ("WARNING", None)


@pytest.mark.parametrize("slow", [False, True])
async def test_a_time_out_inside_a_hook_is_one_line_without_a_traceback(
    slow: bool, caplog: pytest.LogCaptureFixture
) -> None:
    flows = flows_of(both(Scripted("stuck", slow=slow, rcpt=TimeoutError("timed out"))))
    talk = await begun(flows)
    assert await talk.rcpt(X) == 451
    (record,) = [one for one in caplog.records if one.name == "smtp_relay.filters"]
    assert record.getMessage() == "filter stuck failed at rcpt and defers: it took too long"
    assert (record.levelname, record.exc_info) == ("WARNING", None)


async def test_a_cancelled_connection_is_cancelled() -> None:
    stopped: list[str] = []

    async def hang(*_: Any) -> Decision:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append("stopped")
        return ACCEPT

    for filters in ((Scripted(connect=hang),), (Scripted(connect=hang), Scripted(connect=hang))):
        stopped.clear()
        task = asyncio.ensure_future(flows_of(both(*filters)).connection(a_session()).connect())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(stopped) == len(filters)


async def test_a_cancellation_inside_a_filter_is_a_fault_of_the_filter() -> None:
    async def cancelled(*_: Any) -> Decision:
        raise asyncio.CancelledError

    for filters in (
        (Scripted(connect=cancelled),),
        (Scripted(connect=cancelled), Scripted(connect=cancelled)),
    ):
        assert await Dialogue(flows_of(both(*filters))).connect() == 421


class Recorder:
    def __init__(self) -> None:
        self.told: list[tuple[str, Phase, Verdict]] = []

    def filter_verdict(self, name: str, phase: Phase, verdict: Verdict, seconds: float) -> None:
        assert seconds >= 0
        self.told.append((name, phase, verdict))


async def test_the_observer_is_told_of_every_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "smtp_relay.filters")
    recorder = Recorder()
    flows = flows_of(
        both(
            Scripted("plain", connect=ACCEPT, data=ACCEPT),
            Scripted("slow", slow=True, mail=ACCEPT, rcpt=RuntimeError("down")),
            Scripted("odd", connect=lambda *_: None),
        ),
        both(Scripted("other", connect=ACCEPT), name="other"),
        on_answer=recorder.filter_verdict,
    )
    talk = await begun(flows)
    assert await talk.rcpt(X) == 250
    await talk.data()
    assert recorder.told == [
        ("plain", Phase.CONNECT, "accept"),
        ("odd", Phase.CONNECT, "defer"),
        ("other", Phase.CONNECT, "accept"),
        ("slow", Phase.MAIL, "accept"),
        ("slow", Phase.RCPT, "defer"),
    ]


# -- guards --------------------------------------------------------------------------------------


@pytest.mark.parametrize("operator", ["AND", "OR"])
@pytest.mark.parametrize(
    ("guards", "others", "expected"),
    [
        ((REFUSE,), (ACCEPT, ACCEPT), 550),
        ((DEFER,), (ACCEPT, ACCEPT), 451),
        ((DEFER, REFUSE), (ACCEPT,), 550),
        ((RuntimeError("broken"),), (ACCEPT,), 451),
        ((ACCEPT,), (ACCEPT,), 250),
        ((ABSTAIN,), (ACCEPT,), 250),
        ((ACCEPT,), (ABSTAIN,), 550),
        ((ACCEPT,), (DEFER,), 451),
        ((ACCEPT,), (), 550),
        ((DEFER,), (), 550),
        ((ACCEPT, ABSTAIN), (), 550),
    ],
)
async def test_a_guard_only_objects(operator: Any, guards: Any, others: Any, expected: int) -> None:
    filters = [Scripted(guard=True, rcpt=one) for one in guards] + [Scripted(rcpt=one) for one in others]
    for order in (filters, filters[::-1]):
        beside = both(Scripted(rcpt=to(Y)), name="beside")
        talk = await begun(flows_of(Flow("in", tuple(order), operator), beside))
        assert await talk.rcpt(X) == expected


@pytest.mark.parametrize("operator", ["AND", "OR"])
async def test_a_flow_of_guards_alone_is_refused_at_connect(operator: Any) -> None:
    alone = Flow("in", (Scripted(guard=True, connect=ACCEPT, data=ACCEPT, auth=ACCEPT),), operator)
    assert await Dialogue(flows_of(alone)).connect() == 554


@pytest.mark.parametrize("operator", ["AND", "OR"])
async def test_a_guard_objects_after_data_recipient_by_recipient(operator: Any) -> None:
    guard = Scripted(guard=True, data=Decision("abstain", recipients=frozenset({Y})))
    flow = Flow("in", (Scripted(connect=ACCEPT), guard), operator)
    outcome = await delivered(flows_of(flow, partial_accept=True), X, Y)
    assert outcome.recipients == ((X, Reply(550, "5.7.1", "This mail is not accepted")), (Y, ("in",)))
    assert outcome.reply is None
    whole = await delivered(flows_of(flow), X, Y)
    assert whole.reply is not None
    assert whole.reply.code == 550


@pytest.mark.parametrize("operator", ["AND", "OR"])
async def test_a_guard_that_defers_after_data_defers_the_mail(operator: Any) -> None:
    flow = Flow("in", (Scripted(connect=ACCEPT), Scripted(guard=True, data=DEFER)), operator)
    outcome = await delivered(flows_of(flow, partial_accept=True), X)
    assert outcome.reply is not None
    assert outcome.reply.code == 451


async def test_a_flow_that_takes_waits_for_its_guards_alone() -> None:
    early, late = Scripted(connect=ACCEPT), Scripted(rcpt=ACCEPT)
    guard = Scripted(guard=True, mail=ABSTAIN, rcpt=ABSTAIN)
    await delivered(flows_of(either(early, late, guard)), X)
    assert late.calls == []
    assert [phase for phase, _ in guard.calls] == [Phase.MAIL, Phase.RCPT]


async def test_a_refusal_by_a_guard_settles_the_flow() -> None:
    guard, other = Scripted(guard=True, mail=REFUSE), Scripted(connect=ABSTAIN, rcpt=ACCEPT)
    talk = await begun(flows_of(either(guard, other), both(Scripted(rcpt=to(Y)), name="beside")))
    assert await talk.rcpt(X) == 550
    assert [phase for phase, _ in other.calls] == [Phase.CONNECT]


async def test_the_client_is_told_the_words_of_the_filter_that_decides() -> None:
    other = Scripted(connect=ACCEPT, rcpt=refuse(550, "5.1.1", "no such user"))
    last = Scripted(rcpt=refuse(550, "5.1.2", "not here"))
    guard = Scripted(guard=True, rcpt=refuse(550, "5.7.1", "listed"))
    silent = Scripted(guard=True, rcpt=REFUSE)
    for filters, text in (
        ((other, last, guard), "listed"),
        ((Scripted(connect=ABSTAIN, rcpt=ABSTAIN), last, silent), "No mail is accepted for this recipient"),
        ((last, Scripted(guard=True, rcpt=ABSTAIN)), "not here"),
    ):
        talk = await begun(flows_of(either(*filters)))
        reply = talk.state.rcpt(talk.transaction, X)
        assert isinstance(reply, Reply)
        assert reply.text == text


async def test_a_guard_is_no_reason_to_ask_for_authentication() -> None:
    guard = Scripted(guard=True, checks=True, auth=ACCEPT)
    talk = await begun(flows_of(both(guard, Scripted(rcpt=to(Y)))))
    assert await talk.rcpt(X) == 550
    assert await talk.rcpt(Y) == 250
