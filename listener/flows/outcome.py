"""The outcome of a mail: for each recipient, and as SMTP's one reply (docs/concepts.md)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from functions.message.envelope import FlowNotes
from listener.api.decision import Decision, Exact, Phase, Reply
from listener.flows.inquiry import Answers
from listener.flows.tally import DEFERS, MAY_TAKE, NOTHING_SAID, TAKES, FilterVerdicts, Hook, Plan, Tallies
from listener.flows.wording import worded

RecipientOutcome = tuple[str, ...] | Reply
"""Names of the flows that took a recipient, never empty; or the reply that says why none did."""


class DataOutcome(NamedTuple):
    """The outcome of a mail whose content has come in.

    `recipients` is in the order of `transaction.recipients`, each with the flows that took it or
    the reply that refuses or defers it; LMTP sends these replies. `reply` is SMTP's one reply for
    the mail; None means 250. `notes` are those of the flows that took a recipient and have notes.
    """

    recipients: tuple[tuple[str, RecipientOutcome], ...]
    reply: Reply | None
    notes: Mapping[str, FlowNotes]


def stored_for(flow: str, outcome: DataOutcome | None, replies: Sequence[Reply], *, lmtp: bool) -> list[str]:
    """The recipients for whom a mail with that outcome and these replies was stored for a flow, or may have
    been: the spool may store one that it defers (451)."""
    if outcome is None or (outcome.reply is not None and not lmtp):
        return []
    if not any(reply.code < 300 or reply.code == 451 for reply in replies):
        return []
    return [to for to, flows in outcome.recipients if flow in flows and not isinstance(flows, Reply)]


def rejection(phase: Phase, plans: Sequence[Plan], tallies: Sequence[FilterVerdicts]) -> Reply:
    """The reply if no flow can take the mail any more: a deferral if a flow only defers, in the words
    of the first flow that has words for it."""
    refusal: Reply | None = None
    deferral: Reply | None = None
    deferred = False
    for plan in plans:
        tally = tallies[plan.place]
        if plan.standing(tally, plan.later[phase]) == DEFERS:
            deferred = True
            deferral = deferral or plan.deferral(tally)
        else:
            refusal = refusal or plan.refusal(tally)
    return worded(phase, "defer", deferral) if deferred else worded(phase, "refuse", refusal)


def refusal_of(
    phase: Phase, plans: Sequence[Plan], tallies: Tallies, auth_required: Reply | None
) -> Reply | None:
    """None while any flow takes or may take the mail. `auth_required` is the reply that asks the client to
    authenticate, None if it cannot. Before MAIL, a flow still may if only an authentication is missing; from
    MAIL on, the reply asks for it."""
    count_auth = auth_required is not None and phase == Phase.CONNECT
    verdicts = tallies.verdicts
    for plan in plans:
        to_come = plan.later[phase] | plan.auth if count_auth else plan.later[phase]
        if plan.standing(verdicts[plan.place], to_come) <= MAY_TAKE:
            if not count_auth:
                tallies.passed |= 1 << phase
            return None
    reply = rejection(phase, plans, verdicts)
    if auth_required is not None and reply.code >= 500:
        for plan in plans:
            if plan.standing(verdicts[plan.place], plan.later[phase] | plan.auth) <= MAY_TAKE:
                return auth_required
    return reply


def failed_attempt(answers: Answers, *, any_user: bool) -> Reply | None:
    """The reply to a client that gave credentials; None if they are accepted. With `any_user` all are."""
    for _, answer in answers:
        if isinstance(answer.reply, Exact):
            return answer.reply
    if any_user:
        return None
    tally = NOTHING_SAID
    for hook, answer in answers:
        if hook.filter.checks_credentials:
            tally = tally.plus(1, answer)
    if tally.accepted:
        return None
    if tally.deferred:
        return worded(Phase.AUTH, "defer", next((reply for _, reply in tally.deferrals), None))
    return worded(Phase.AUTH, "refuse", next((reply for _, reply in tally.refusals), None))


def settle(
    plans: Sequence[Plan],
    rows: Sequence[tuple[str, Tallies]],
    offered: Mapping[int, frozenset[str]],
    answers: Answers,
    *,
    partial_accept: bool,
) -> DataOutcome:
    """Judge a mail. `rows` are the recipients with the flows' tallies up to RCPT; `offered` are the
    recipients that the filters of a flow, by its place, were asked about at DATA."""
    recipients: list[tuple[str, RecipientOutcome]] = []
    took: set[str] = set()
    for address, row in rows:
        final = list(row.verdicts)
        for hook, answer in answers:
            place = hook.place
            # A filter that was not asked about a recipient did not exclude it.
            if address in offered[place]:
                final[place] = final[place].plus_for(hook.bit, answer, address)
            else:
                final[place] = final[place].plus(hook.bit, answer)
        outcome = _outcome(plans, final)
        if not isinstance(outcome, Reply):
            took.update(outcome)
        recipients.append((address, outcome))
    noted: dict[str, list[Decision]] = {}
    for hook, answer in answers:
        if (answer.headers or answer.results) and (name := plans[hook.place].name) in took:
            noted.setdefault(name, []).append(answer)
    notes = {name: _notes(found) for name, found in noted.items()} if noted else NO_NOTES
    return DataOutcome(tuple(recipients), _one_reply(recipients, partial_accept), notes)


def unasked(
    plans: Sequence[Plan], rows: Sequence[tuple[str, Tallies]], *, partial_accept: bool
) -> DataOutcome:
    """Judge a mail for which every filter abstains at DATA: `settle` without answers."""
    recipients = [(address, row.outcome or outcome_of(plans, row)) for address, row in rows]
    return DataOutcome(tuple(recipients), _one_reply(recipients, partial_accept), NO_NOTES)


def outcome_of(plans: Sequence[Plan], row: Tallies) -> RecipientOutcome:
    """The outcome of a recipient with these tallies if no filter answers at DATA."""
    row.outcome = outcome = _outcome(plans, row.verdicts)
    row.whole = not isinstance(outcome, Reply) and len(outcome) == len(plans)
    return outcome


def alike(
    plans: Sequence[Plan], row: Tallies, hook: Hook, answer: object
) -> tuple[tuple[str, ...], Mapping[str, FlowNotes]] | None:
    """What `settle` makes of one filter's answer for recipients with the same tallies: the flows that take
    them all, and the notes. None where it has to be asked itself: no flow takes them, or the answer is not
    there yet, or tells them apart."""
    if type(answer) is not Decision or answer.recipients is not None:
        return None
    after = row.plus(((hook, answer),))
    outcome = after.outcome or outcome_of(plans, after)
    if isinstance(outcome, Reply):
        return None
    name = plans[hook.place].name
    noted = (answer.headers or answer.results) and name in outcome
    return outcome, {name: _notes((answer,))} if noted else NO_NOTES


NO_NOTES: Final[Mapping[str, FlowNotes]] = {}


def _outcome(plans: Sequence[Plan], tallies: Sequence[FilterVerdicts]) -> RecipientOutcome:
    """The outcome of one recipient after all filters have answered."""
    flows = tuple([plan.name for plan in plans if plan.standing(tallies[plan.place], 0) == TAKES])
    return flows or rejection(Phase.DATA, plans, tallies)


def _one_reply(recipients: Sequence[tuple[str, RecipientOutcome]], partial_accept: bool) -> Reply | None:
    """A deferral outweighs a refusal; a refusal outweighs an acceptance unless `partial_accept`."""
    if len(recipients) == 1 and not isinstance(recipients[0][1], Reply):
        return None
    replies = [outcome for _, outcome in recipients if isinstance(outcome, Reply)]
    if not replies:
        return None if recipients else worded(Phase.DATA, "refuse", None)
    for reply in replies:
        if reply.code < 500:
            return reply
    return None if partial_accept and len(replies) < len(recipients) else replies[0]


def _notes(answers: Sequence[Decision]) -> FlowNotes:
    """The notes of one flow's filters. Raises ValidationError if a filter gave no header fields."""
    if len(answers) == 1:
        headers, results = answers[0].headers, dict(answers[0].results)
    else:
        headers = tuple([pair for answer in answers for pair in answer.headers])
        results = {key: value for answer in answers for key, value in answer.results.items()}
    for pair in headers:
        if type(pair) is not tuple or [*map(type, pair)] != _FIELD:
            return FlowNotes(headers=headers, results=results)  # a plugin may give anything
    return FlowNotes.made({"headers": tuple(headers), "results": results})


_FIELD: Final = [str, str]
