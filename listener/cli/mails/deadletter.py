"""`deadletter`: list, show, replay and drop outputs that were given up."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, TextIO

from functions.backends import open_dead_letters
from functions.errors import ConfigError, DeliveryFault
from functions.message.text import escaped
from functions.spool.dead_record import DeadRecord
from functions.spool.deadletters import DeadLetters, KeptSelection, Selection, Shown
from listener.cli.arguments import CONFIG
from listener.cli.mails.selecting import chosen_id
from listener.cli.parser import give_examples
from listener.config.load import load

_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")
_ID_LENGTH: Final = 36  # of a UUID as text
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(mail_action="show")
    parser.add_argument("action", nargs="?", default="list", choices=("list", "show", "replay", "drop"))
    parser.add_argument(
        "ids",
        nargs="*",
        metavar="ID",
        help="`latest`, a mail's id or its beginning, or ID/OUTPUTKEY for one output",
    )
    parser.add_argument("--config", "-c", **CONFIG)
    parser.add_argument(
        "--since", metavar="TIME", help="given up at or after: 2026-01-02T03:04, or 90m, 12h, 3d ago"
    )
    parser.add_argument("--until", metavar="TIME", help="given up before")
    parser.add_argument("--flow", help="selects by flow")
    parser.add_argument("--output", help="selects by output")
    parser.add_argument("--reason", help="selects by a text in the reason or code")
    parser.add_argument("--all", action="store_true", help="replay or drop all dead letters")
    parser.add_argument(
        "--kept",
        action="store_true",
        help="replay kept mail: by IDs, the time it was received (--since, --until), --prefix, or --all",
    )
    parser.add_argument(
        "--prefix", metavar="TEXT", help="with --kept: the start of the key below kept/, or of the path"
    )
    parser.add_argument("--now", action="store_true", help="do not wait for the sweep")
    parser.add_argument("--dry-run", action="store_true", help="only print the planned actions")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    give_examples(
        parser,
        "smtp-relay deadletter",
        "smtp-relay deadletter list --since 12h --reason 550",
        "smtp-relay deadletter replay latest",
        "smtp-relay deadletter replay --all --dry-run",
        "smtp-relay deadletter drop --config relay.jsonc 019b7d2a-0000-7000-8000-000000000000",
    )


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action. Returns 0, or 1 if nothing was found or the spool refused."""
    selection = selected(arguments, time.time())
    config = load(arguments.config, os.environ)
    try:
        with closing(open_dead_letters(config, Path.cwd(), os.environ)) as letters:
            return carry_out(letters, arguments, selection, sys.stdout)
    except DeliveryFault as fault:
        print(f"smtp-relay: {config.spool.url}: {escaped(fault.reason)}", file=sys.stderr)
        return 1


def selected(arguments: argparse.Namespace, now: float) -> Selection:
    """The selection of the command line's options; `now` is Unix time. Raises ConfigError."""
    if arguments.kept and arguments.action != "replay":
        raise ConfigError("--kept", "goes with replay")
    if arguments.prefix is not None and not arguments.kept:
        raise ConfigError("--prefix", "goes with --kept")
    if arguments.kept and (arguments.flow or arguments.output or arguments.reason):
        raise ConfigError("--kept", "cannot select by flow, output or reason", "give ids, times or a prefix")
    since, until = moment("--since", arguments.since, now), moment("--until", arguments.until, now)
    if arguments.kept and arguments.prefix and not arguments.ids:
        return Selection(since=since, until=until)
    selection = Selection(
        since=since,
        until=until,
        flow=arguments.flow,
        output=arguments.output,
        reason=arguments.reason,
        ids=tuple(arguments.ids),
    )
    if arguments.action in {"replay", "drop"} and selection == Selection() and not arguments.all:
        raise ConfigError(arguments.action, "would affect every dead letter", "give ids or filters, or --all")
    return selection


def moment(option: str, text: str | None, now: float) -> int | None:
    """A time as Unix milliseconds: ISO 8601 (UTC without another zone), or `90m`, `12h`, `3d` before
    `now`. Raises ConfigError."""
    if text is None:
        return None
    if ago := _AGO.fullmatch(text):
        return int((now - int(ago[1]) * _SECONDS[ago[2]]) * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(option, f"{text!r} is not a time (2026-01-02T03:04, or 12h, 3d ago)") from None
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1000)


def carry_out(letters: DeadLetters, arguments: argparse.Namespace, selection: Selection, out: TextIO) -> int:
    """The action on the selected records. Raises DeliveryFault."""
    if arguments.kept:
        return _replay_kept(letters, arguments, selection, out)
    records = letters.list(replace(selection, ids=tuple(_whole(letters, selection.ids))))
    if arguments.action == "list":
        return _list(records, out, as_json=arguments.json)
    # The whole list is read first, because acting on a record changes the list.
    if arguments.action == "show":
        return _show(map(letters.show, list(records)), out, as_json=arguments.json)
    if arguments.action == "drop":
        return _each(list(records), letters.drop, "dropped", arguments, out)
    replay = partial(letters.replay, now=arguments.now)
    return _each(list(records), replay, "replayed", arguments, out)


def _whole(letters: DeadLetters, words: Iterable[str]) -> Iterator[str]:
    """The ids that the words mean: `latest`, the beginning of an id, or as they are. Raises ConfigError if a
    word begins several ids."""
    for word in words:
        if "/" in word or len(word) >= _ID_LENGTH:
            yield word
        else:
            yield chosen_id(word, ((one.id, one.last) for one in letters.list(Selection()))) or word


def _list(records: Iterable[DeadRecord], out: TextIO, *, as_json: bool) -> int:
    count = 0
    for record in records:
        count += 1
        print(json.dumps(record.summary()) if as_json else line(record), file=out)
    if not as_json:
        print(f"{counted(count)} given up" if count else "nothing was given up", file=out)
    return 0


def counted(outputs: int) -> str:
    """`1 output`, `2 outputs`."""
    return f"{outputs} output{'' if outputs == 1 else 's'}"


def _show(letters: Iterable[Shown], out: TextIO, *, as_json: bool) -> int:
    count = 0
    for shown in letters:
        count += 1
        print(_as_json(shown) if as_json else described(shown), file=out)
    if not count:
        print("smtp-relay: no such dead letter", file=sys.stderr)
    return 0 if count else 1


def _each(
    records: Sequence[DeadRecord],
    act: Callable[[DeadRecord], None],
    done: str,
    arguments: argparse.Namespace,
    out: TextIO,
) -> int:
    for record in records:
        if not arguments.dry_run:
            act(record)
        print(json.dumps(record.summary()) if arguments.json else line(record), file=out)
    if not arguments.json:
        print(f"{len(records)} {'would be ' if arguments.dry_run else ''}{done}", file=out)
    return 0 if records else 1


def _replay_kept(
    letters: DeadLetters, arguments: argparse.Namespace, selection: Selection, out: TextIO
) -> int:
    """Each mail once. A mail given by its id must exist; a mail of a range that is gone meanwhile is
    skipped."""
    meant = KeptSelection(selection.since, selection.until, arguments.prefix or "")
    ids = arguments.ids or list(letters.kept(meant))
    for mail_id in ids:
        if arguments.dry_run:
            print(f"{mail_id} would be replayed", file=out)
            continue
        number = letters.replay_kept(mail_id, now=arguments.now)
        text = {"id": mail_id, "replay": number}
        print(json.dumps(text) if arguments.json else f"{mail_id} replayed (number {number})", file=out)
    if not arguments.ids and not arguments.json:
        print(f"{len(ids)} {'would be ' if arguments.dry_run else ''}replayed", file=out)
    return 0 if ids else 1


def line(record: DeadRecord) -> str:
    """A record on one line: time, output, reason."""
    when = datetime.fromtimestamp(record.last / 1000, UTC)
    place = f"{record.id}/{record.key} {record.flow}/{record.output}"
    attempts = f"{record.attempts} attempt{'' if record.attempts == 1 else 's'}"
    return escaped(f"{when:%Y-%m-%dT%H:%M:%SZ} {place} {record.code} {record.reason} ({attempts})")


def described(shown: Shown) -> str:
    """A record with its mail, for people."""
    record, envelope = shown.record, shown.envelope
    lines = [line(record), f"  from <{record.reverse_path}>"]
    lines += [f"  to   <{recipient}>" for recipient in record.recipients]
    if envelope is None:
        lines.append("  the mail itself is gone")
    else:
        lines.append(f"  received {envelope.received_at:%Y-%m-%dT%H:%M:%SZ} from {envelope.client.ip}")
        lines.append(f"  {envelope.size} bytes, replay {envelope.replay}")
        lines += [f"  | {part}" for part in shown.head.decode("utf-8", "replace").splitlines()]
    return "\n".join(map(escaped, lines))


def _as_json(shown: Shown) -> str:
    envelope = None if shown.envelope is None else json.loads(shown.envelope.to_json())
    head = shown.head.decode("utf-8", "replace")
    return json.dumps({**shown.record.summary(), "envelope": envelope, "head": head})
