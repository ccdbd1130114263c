"""`queue`: the mails that wait in the spool, why, and until when."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

from functions.backends import open_queue
from functions.errors import ConfigError, DeliveryFault
from functions.message.text import escaped, listed
from functions.spool.dead_record import UNKNOWN, DeadRecord
from functions.spool.queue import Failure, MailQueue, QueuedMail
from listener.cli.arguments import CONFIG
from listener.cli.mails.selecting import (
    LATEST,
    chosen_id,
    clock,
    is_path,
    one_word,
    path_list,
)
from listener.config.load import load
from listener.config.relay import RelayConfig

ACTIONS: Final = ("list", "explain", "retry")

_EPILOG: Final = """\
actions:
  list            every mail in the spool (the default)
  explain [ID]    one sentence: why the mail waits, and when it is tried next; `queue ID` does the same
  retry ID…       try these mails now, in the running server too (--all: every mail that waits)

ID is `latest`, an id, the first characters of an id, or the path of a stored file.

examples:
  smtp-relay queue
  smtp-relay queue explain latest
  smtp-relay queue retry --all
  smtp-relay queue -c relay.jsonc --json | jq -r .id

--json prints one object per line: id, state (waiting, parked, unreadable), received and next (Unix
milliseconds; next is 0 for now, null if the spool does not know it), reverse_path, recipients, flows,
size, attempts, failures (flow, output, reason, code, at, attempts, in_doubt), dead (the dead records),
under_way; explain adds sentence, retry prints id.

Exit status: 0; 1 if there is no such mail or the spool cannot be read; 2 for a mistake in arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.set_defaults(mail_action="explain")
    parser.add_argument(
        "action", nargs="?", choices=ACTIONS, default=ACTIONS[0], metavar="ACTION", help=", ".join(ACTIONS)
    )
    parser.add_argument("ids", nargs="*", metavar="ID")
    parser.add_argument("--config", "-c", **CONFIG)
    parser.add_argument("--all", action="store_true", help="with retry: every mail that waits")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action. Returns 0, or 1 if there is no such mail or the spool refused."""
    action, words = arguments.action, arguments.ids
    if arguments.all and (action != "retry" or words):
        raise ConfigError("--all", "goes with retry, without ids")
    if action == "retry" and not (words or arguments.all):
        raise ConfigError("queue retry", "names no mail", "give ids, or --all")
    if action == "list" and words:
        raise ConfigError("queue list", "takes no ids", f"smtp-relay queue explain {words[0]}")
    config = load(arguments.config, os.environ)
    try:
        queue = open_queue(config, Path.cwd(), os.environ)
        if action == "list":
            return _list(queue, config, as_json=arguments.json)
        if action == "explain":
            return _explain(queue, config, one_word("queue explain", words), as_json=arguments.json)
        return _retry(queue, words, as_json=arguments.json)
    except DeliveryFault as fault:
        print(f"smtp-relay: {config.spool.url}: {escaped(fault.reason)}", file=sys.stderr)
        return 1


def _list(queue: MailQueue, config: RelayConfig, *, as_json: bool) -> int:
    count = parked = 0
    now = time.time() * 1000
    for mail in queue.mails():
        count += 1
        parked += mail.state == "parked"
        print(json.dumps(mail.summary()) if as_json else line(mail, now))
    if not as_json:
        print(f"{count - parked} waiting, {parked} given up" + _absence(queue, config, count))
    return 0


def _absence(queue: MailQueue, config: RelayConfig, count: int) -> str:
    """A word about a spool without a folder or without a server."""
    if not config.spool.in_bucket and not config.spool.folder(Path.cwd()).is_dir():
        return f" ({config.spool.folder(Path.cwd())} does not exist: no server has started here)"
    return " (no server seems to run on this spool)" if count and queue.owned is False else ""


def _explain(queue: MailQueue, config: RelayConfig, word: str, *, as_json: bool) -> int:
    mail_id = _id_of(queue, word)
    mail = next(iter(queue.mails([mail_id], claims=True)), None) if mail_id else None
    if mail is not None:
        sentence, found = Sentences(queue.owned, config, time.time() * 1000).about(mail), True
    else:
        sentence, found = _gone(queue, config, mail_id or word)
    if as_json:
        about: dict[str, Any] = {"id": mail_id or word, "state": "gone"} if mail is None else mail.summary()
        print(json.dumps({**about, "sentence": sentence}))
    else:
        print(sentence if mail is None else f"{mail.id}: {sentence}")
    return 0 if found else 1


def _gone(queue: MailQueue, config: RelayConfig, word: str) -> tuple[str, bool]:
    """The sentence about a mail that is not in the spool, and if it is known."""
    if word == LATEST:
        return "no mail is in the spool", True
    if records := queue.buried(word):
        return f"{word}: is not in the spool any more; {'; '.join(map(_given_up, records))}", True
    from functions.local.view.folders import folders_of
    from listener.cli.mails.stored import StoredMails

    # Several if several outputs stored it.
    if stored := StoredMails(folders_of(config, Path.cwd())).named(word):
        places = listed([str(one.path) for one in stored], joint="and")
        return f"{stored[0].id or word}: is delivered, and stored as {places}", True
    return (
        f"{word}: is not in the spool: every output has delivered it, or this server never accepted it"
    ), False


def _retry(queue: MailQueue, words: list[str], *, as_json: bool) -> int:
    missing = 0
    wanted: list[str] = []
    for word in words:
        mail_id = _id_of(queue, word)
        if mail_id is None or next(iter(queue.mails([mail_id])), None) is None:
            print(f"smtp-relay: {word}: is not in the spool", file=sys.stderr)
            missing += 1
        else:
            wanted.append(mail_id)
    done = queue.retry(wanted if words else None) if wanted or not words else []
    for mail_id in done:
        print(json.dumps({"id": mail_id}) if as_json else mail_id)
    for mail_id in dict.fromkeys(wanted):
        if mail_id not in done:
            cure = f"smtp-relay deadletter replay {mail_id}"
            print(f"smtp-relay: {mail_id}: is given up; `{cure}` tries it again", file=sys.stderr)
            missing += 1
    if not as_json:
        when = "at the next start of a server" if done and queue.owned is False else "now"
        print(f"{len(done)} to be tried {when}")
    return 1 if missing else 0


def _id_of(queue: MailQueue, word: str) -> str | None:
    """The id that a word means in this spool; the word itself if it may be an id of a mail that is gone."""
    if is_path(word):
        from functions.local.view.stored import read_stored

        return read_stored(Path(word), trusted=True).id or None
    found = chosen_id(word, queue.ids())
    return found or (None if word == LATEST else word)


def line(mail: QueuedMail, now: float) -> str:
    """A mail on one line: id, addresses, attempts, next attempt, reason. `now` is Unix milliseconds."""
    parts = [mail.id, path_list(mail.reverse_path, mail.recipients)]
    if mail.state == "parked":
        parts.append("given up")
    elif mail.state == "unreadable":
        parts.append("cannot be read")
    else:
        if mail.attempts is not None:
            parts.append(times(mail.attempts, "attempt"))
        if mail.next is not None:
            parts.append(f"next {_when(mail.next, now)}")
    reasons: tuple[Failure | DeadRecord, ...] = (*mail.failures, *mail.dead)
    parts += [f"{_place(one)}: {one.reason} ({one.code})" for one in reasons]
    return escaped("  ".join(parts))


class Sentences:
    """Says why a mail is in the spool. `owned` says if a server runs there, None if unknown; `now` is Unix
    milliseconds."""

    def __init__(self, owned: bool | None, config: RelayConfig, now: float) -> None:
        self._owned = owned
        self._delivery = config.delivery
        self._flows = config.flows
        self._mode = config.mode
        self._now = now

    def about(self, mail: QueuedMail) -> str:
        """One sentence."""
        if mail.state == "unreadable":
            return escaped(f"cannot be read in the spool; {self._next(mail)}")
        if mail.state == "parked":
            reasons = "; ".join(map(_given_up, mail.dead)) or "its dead record was dropped"
            return escaped(f"{reasons}; `smtp-relay deadletter replay {mail.id}` tries it again")
        parts = [self._why(mail)]
        parts += map(_given_up, mail.dead)
        if mail.under_way and self._owned is not False:
            parts.append("an attempt is under way")
        else:
            parts.append(self._next(mail))
        if mail.failures and mail.received is not None:
            end = mail.received + min(map(self._give_up_after, mail.failures))
            parts.append(f"given up {'when that fails' if end <= self._now else f'at {clock(end)}'}")
        return escaped("; ".join(parts))

    def _why(self, mail: QueuedMail) -> str:
        doubtful = any(one.in_doubt for one in mail.failures)
        if mail.under_way and self._owned is False:
            then = "sent again" if self._delivery.on_doubt == "resend" else "given up"
            return f"in doubt: a server ended during an attempt, whose effect may have happened; it is {then}"
        if mail.failures:
            why = "waits because " + " and ".join(map(_failed, mail.failures))
            if doubtful:
                why += "; that attempt is in doubt: it got no answer, so its effect may have happened"
            return why
        if mail.attempts:
            return f"waits after {times(mail.attempts, 'attempt')}, whose reasons are not recorded"
        if mail.attempts is None:
            return "waits for its function"
        return "waits for its first attempt"

    def _give_up_after(self, failure: Failure) -> int:
        """Milliseconds after which an output is given up."""
        flow = self._flows.get(failure.flow)
        own = [
            output.give_up_after
            for label, output in (flow.labelled() if flow else ())
            if label == failure.output and output.give_up_after is not None
        ]
        return own[0] if own else self._delivery.give_up_after

    def _next(self, mail: QueuedMail) -> str:
        if mail.next is None:
            if self._mode == "events":
                return "its notification comes again until it is delivered, and the sweep sends a new one"
            return "the server that delivers looks for it every 5 minutes"
        if self._owned is False:
            return "no server seems to run on this spool: the next attempt is made when one starts"
        return f"next attempt {_when(mail.next, self._now)}"


def _when(at: float, now: float) -> str:
    if at <= now:
        return "now"
    day = at - now > 20 * 3_600_000
    return f"at {clock(at, day=day)} (in {span((at - now) / 1000)})"


def span(seconds: float) -> str:
    """A duration in words: `40 s`, `3 min`, `2 h`, `3 d`."""
    for size, unit in ((172_800, "d"), (7_200, "h"), (120, "min")):
        if seconds >= size:
            return f"{seconds / {'d': 86_400, 'h': 3_600, 'min': 60}[unit]:.0f} {unit}"
    return f"{seconds:.0f} s"


def times(count: int, noun: str) -> str:
    """`1 attempt`, `2 attempts`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _place(one: Failure | DeadRecord) -> str:
    return f"{one.flow}/{one.output}" if one.flow else one.output


def _failed(one: Failure) -> str:
    often = {1: "once", 2: "twice"}.get(one.attempts, f"{one.attempts} times")
    return f"output {_place(one)} failed {often}: {one.reason} ({one.code})"


def _given_up(one: DeadRecord) -> str:
    what = "the mail" if one.output == UNKNOWN and not one.flow else f"output {_place(one)}"
    return f"{what} was given up after {times(one.attempts, 'attempt')}: {one.reason} ({one.code})"
