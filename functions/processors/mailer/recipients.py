"""The state of a mail for a group of recipients, from attempt to attempt.

Each transaction that served or refused a recipient leaves a receipt that lists both. The next
attempt reads these receipts in order, starting from the whole group, and asks only for the
recipients that are left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from functions.errors import Permanent, Temporary
from functions.processors.base import Once
from functions.smtp_client.reply import Said, Unreachable
from functions.smtp_client.transaction import TransactionResult

GROUP: Final = 100
"""Most recipients of one transaction: as many as every server takes (RFC 5321 section 4.5.3.1.8). The
names of receipts depend on it: another number would ask again for mails that are under way."""

MAX_SHOWN: Final = 10
"""Most recipients that a reason names for the same words; the fault and its record name all."""

MAX_REASON: Final = 4_000

Send = Callable[[Sequence[str]], TransactionResult]
"""Runs one transaction. Raises Temporary."""


@dataclass(slots=True)
class RecipientResults:
    """The result of an attempt: recipients in `served` have the mail, now or since an earlier attempt.

    `unreachable` is the fault if the server could not be reached, `in_doubt` says that some of the
    deferred recipients may have the mail, `retry_after` is the least wait in seconds for them.
    """

    served: list[str] = field(default_factory=list)
    refused: dict[str, Said] = field(default_factory=dict)
    deferred: dict[str, Said] = field(default_factory=dict)
    unreachable: Unreachable | None = None
    in_doubt: bool = False
    retry_after: float | None = None

    def add(self, other: RecipientResults) -> None:
        """Add the results of another group."""
        self.served += other.served
        self.refused |= other.refused
        self.deferred |= other.deferred
        self.unreachable = self.unreachable or other.unreachable
        self.in_doubt = self.in_doubt or other.in_doubt
        self.retry_after = max(filter(None, (self.retry_after, other.retry_after)), default=None)

    def put_off(self, recipients: Iterable[str], fault: Temporary) -> None:
        """Leave these recipients for later because of a fault."""
        said = Said(fault.enhanced, fault.reason)
        told = fault.deferred if isinstance(fault, _PutOff) else {}
        self.deferred = {each: told.get(each, said) for each in recipients}
        self.unreachable = fault if isinstance(fault, Unreachable) else None
        self.in_doubt = fault.in_doubt
        self.retry_after = fault.retry_after

    def settle(self) -> None:
        """Raises Temporary if recipients are left, else Permanent if recipients were refused."""
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
        raise Temporary(
            reason,
            enhanced=enhanced,
            retry_after=self.retry_after,
            in_doubt=self.in_doubt,
            no_login=self.unreachable is not None and self.unreachable.no_login,
            recipients=about,
        )


class _PutOff(Temporary):
    """A transaction that served and refused no recipient."""

    def __init__(self, deferred: dict[str, Said], *, in_doubt: bool = False) -> None:
        super().__init__(words(deferred), in_doubt=in_doubt)
        self.deferred = deferred


def deliver_to(recipients: Sequence[str], once: Once, send: Send) -> RecipientResults:
    """Serve the recipients that are not served yet, in groups. Raises Permanent if the mail cannot be
    sent to any of them.

    A turn ends when each recipient is served or refused. If a turn ended before this attempt, the
    operator replays the mail: the refused recipients are then asked again.
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
    """The results of one turn for a group, and True if this attempt ran a transaction for them."""
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
        if fresh and pending and tally.in_doubt:
            # Some are served, and have their receipt. The others are a transaction of their own, in doubt.
            send = partial(_lost, _PutOff(tally.deferred, in_doubt=True))
        elif fresh and pending and not tally.crowded:
            ending.deferred = {each: tally.deferred[each] for each in pending}
            break
    return ending, ran


def _lost(fault: _PutOff, pending: Sequence[str]) -> TransactionResult:
    raise fault


def _transaction(turn: str, pending: Sequence[str], once: Once, send: Send) -> tuple[TransactionResult, bool]:
    """One transaction, run now (then the second value is true) or remembered."""
    done: list[TransactionResult] = []

    def effect() -> str:
        tally = send(pending)
        if not tally.accepted and not tally.refused:
            raise _PutOff(tally.deferred, in_doubt=tally.in_doubt)
        done.append(tally)
        return encode(tally)

    result = once(_part(turn, pending), effect)
    return (done[0], True) if done else (decode(result, pending), False)


def _part(turn: str, recipients: Iterable[str]) -> str:
    """The name of a transaction; another set of recipients gets another name."""
    return hashlib.sha256("\0".join([turn, *recipients]).encode()).hexdigest()[:24]


def encode(tally: TransactionResult) -> str:
    """A transaction's results for its receipt: the server's reply, which is logged; then, unless it
    served all, the refused recipients with the server's words and the deferred ones."""
    if not tally.refused and not tally.deferred:
        return tally.answer
    details = {"refused": tally.refused, "deferred": list(tally.deferred)}
    return f"{tally.answer}\n{json.dumps(details, separators=(',', ':'))}"


def decode(result: str | None, pending: Sequence[str]) -> TransactionResult:
    """The results that a receipt holds for its recipients. Raises Temporary if it holds none, because
    then it is not known which recipients are served."""
    if result is None:
        raise Temporary("the receipt does not say which recipients were served", in_doubt=True)
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
    """The reasons why recipients were not served, those with the same words together. Unless `named`, a
    reason that all share names no recipient."""
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
