"""How far a mail got with a group of recipients, from attempt to attempt.

Each transaction that served or refused somebody leaves a receipt with who that was. The next
attempt reads these receipts in order, from the whole group on, and asks only for those who are left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from functions.errors import Permanent, Temporary
from functions.processors.base import Once
from functions.smtp_client.reply import Said, Unreachable
from functions.smtp_client.transaction import TransactionResult

GROUP: Final = 100
"""Recipients of one transaction: as many as every server takes (RFC 5321 section 4.5.3.1.8). Part of
the names of receipts: another number would ask again for mails that are under way."""

MAX_SHOWN: Final = 10
"""Recipients that a reason names for the same words; the fault and its record name all."""

MAX_REASON: Final = 4_000

Send = Callable[[Sequence[str]], TransactionResult]
"""Runs one transaction. Raises Temporary."""


@dataclass(slots=True)
class RecipientResults:
    """How an attempt ended: recipients in `served` have the mail, now or since an earlier one.

    `unreachable` is the fault when the server was out of reach, `in_doubt` says that some of the
    deferred may have the mail.
    """

    served: list[str] = field(default_factory=list)
    refused: dict[str, Said] = field(default_factory=dict)
    deferred: dict[str, Said] = field(default_factory=dict)
    unreachable: Unreachable | None = None
    in_doubt: bool = False

    def add(self, other: RecipientResults) -> None:
        """Take the ending of another group in."""
        self.served += other.served
        self.refused |= other.refused
        self.deferred |= other.deferred
        self.unreachable = self.unreachable or other.unreachable
        self.in_doubt = self.in_doubt or other.in_doubt

    def put_off(self, recipients: Iterable[str], fault: Temporary) -> None:
        """A fault leaves these recipients for later."""
        said = Said(fault.enhanced, fault.reason)
        told = fault.deferred if isinstance(fault, _PutOff) else {}
        self.deferred = {each: told.get(each, said) for each in recipients}
        self.unreachable = fault if isinstance(fault, Unreachable) else None
        self.in_doubt = fault.in_doubt

    def settle(self) -> None:
        """Raises Temporary where somebody is left, else Permanent where somebody was refused."""
        unserved = self.deferred | self.refused
        if not unserved:
            return
        about = tuple(unserved) if self.served else ()
        named = bool(self.served) or bool(self.deferred and self.refused)
        if not self.deferred:
            reason = words(self.refused, named=named)
            enhanced = next(iter(self.refused.values())).enhanced
            raise Permanent(reason, enhanced=enhanced, recipients=about)
        reason = words(self.deferred, named=named)
        if self.refused:
            reason += f"; refused for good: {words(self.refused)}"
        enhanced = next(iter(self.deferred.values())).enhanced
        raise Temporary(reason, enhanced=enhanced, in_doubt=self.in_doubt, recipients=about)


class _PutOff(Temporary):
    """A transaction that served and refused nobody."""

    def __init__(self, deferred: dict[str, Said]) -> None:
        super().__init__(words(deferred))
        self.deferred = deferred


def deliver_to(recipients: Sequence[str], once: Once, send: Send) -> RecipientResults:
    """Serve those who are not served yet, in groups. Raises Permanent when the mail cannot be sent
    to anybody.

    A turn ends when everybody is served or refused. Where it ended before this attempt, the
    operator replays the mail: the refused are then asked again.
    """
    total = RecipientResults()
    turn, fresh = 0, False

    def send_if_reachable(group: Sequence[str]) -> TransactionResult:
        if total.unreachable is not None:
            raise total.unreachable
        return send(group)

    while recipients:
        total.refused = {}
        for at in range(0, len(recipients), GROUP):
            ending, ran = _deliver_group(turn, recipients[at : at + GROUP], once, send_if_reachable)
            total.add(ending)
            fresh = fresh or ran
        if fresh or total.deferred:
            break
        recipients = [each for each in recipients if each in total.refused]
        turn += 1
    return total


def _deliver_group(turn: int, group: Sequence[str], once: Once, send: Send) -> tuple[RecipientResults, bool]:
    """How one turn ends for a group, and whether a transaction was run for that now."""
    ending = RecipientResults()
    pending = list(group)
    ran = False
    while pending:
        try:
            tally, fresh = _transaction(f"{turn}", pending, once, send)
        except Temporary as fault:
            ending.put_off(pending, fault)
            return ending, True
        ran = ran or fresh
        ending.served += tally.accepted
        ending.refused |= tally.refused
        settled = {*tally.accepted, *tally.refused}
        pending = [each for each in pending if each not in settled]
        if fresh and pending and not tally.crowded:
            ending.deferred = {each: tally.deferred[each] for each in pending}
            break
    return ending, ran


def _transaction(turn: str, pending: Sequence[str], once: Once, send: Send) -> tuple[TransactionResult, bool]:
    """One transaction, run now (then the second value is true) or remembered."""
    done: list[TransactionResult] = []

    def effect() -> str:
        tally = send(pending)
        if not tally.accepted and not tally.refused:
            raise _PutOff(tally.deferred)
        done.append(tally)
        return encode(tally)

    result = once(_part(turn, pending), effect)
    return (done[0], True) if done else (decode(result, pending), False)


def _part(turn: str, recipients: Iterable[str]) -> str:
    """Names a transaction: any other set of recipients is another one."""
    return hashlib.sha256("\0".join([turn, *recipients]).encode()).hexdigest()[:24]


def encode(tally: TransactionResult) -> str:
    """A transaction's results for its receipt: the server's reply, which is logged; then, unless it
    served everybody, who was refused with which words and who was put off."""
    if not tally.refused and not tally.deferred:
        return tally.answer
    details = {"refused": tally.refused, "deferred": list(tally.deferred)}
    return f"{tally.answer}\n{json.dumps(details, separators=(',', ':'))}"


def decode(result: str | None, pending: Sequence[str]) -> TransactionResult:
    """What a receipt says of the recipients it was for. Raises Temporary where it says nothing, since
    then nobody knows who is served."""
    if result is None:
        raise Temporary("the receipt does not tell which recipients were served", in_doubt=True)
    answer, _, rest = result.partition("\n")
    try:
        details = json.loads(rest) if rest else {}
        refused = {address: Said(*said) for address, said in details.get("refused", {}).items()}
        deferred = dict.fromkeys(details.get("deferred", ()), Said("4.0.0", ""))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Temporary("the receipt cannot be read", in_doubt=True) from error
    accepted = [each for each in pending if each not in refused and each not in deferred]
    return TransactionResult(accepted, refused, deferred, answer)


def words(about: dict[str, Said], *, named: bool = True) -> str:
    """Why recipients were not served, those with the same words together. Unless `named`, one
    reason for all of them names nobody."""
    by_words: dict[str, list[str]] = {}
    for address, said in about.items():
        by_words.setdefault(said.words, []).append(address)
    if not named and len(by_words) == 1:
        return next(iter(by_words))[:MAX_REASON]
    pieces = []
    for text, addresses in by_words.items():
        shown = ", ".join(f"<{each}>" for each in addresses[:MAX_SHOWN])
        more = f" and {len(addresses) - MAX_SHOWN} more" if len(addresses) > MAX_SHOWN else ""
        pieces.append(f"{shown}{more}: {text}")
    return "; ".join(pieces)[:MAX_REASON]
