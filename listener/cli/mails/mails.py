"""`mails`: the mails that `file` outputs stored: list, show, open, follow, wait for and delete them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from functions.local.view.stored import MOST, StoredFile
from functions.message.text import escaped
from listener.cli.arguments import CONFIG
from listener.cli.mails.selecting import LATEST, clock, one_word, path_list
from listener.cli.mails.stored import StoredMails
from listener.config.load import load
from listener.config.relay import RelayConfig

ACTIONS: Final = ("list", "show", "open", "tail", "wait", "delete", "reindex")

_EPILOG: Final = """\
actions:
  list             the stored mails, the newest first (the default)
  show [MAIL]      header and text of one mail; `mails MAIL` does the same
  open [MAIL]      one mail in the browser, as a page of this machine; as text without a browser
  tail             one line for each mail that comes, until Ctrl-C
  wait             wait for a mail, for tests: exit 0 with the mail, 1 at the time-out
  delete MAIL…     remove stored files
  reindex          make the index of the inbox again; read marks and tags stay

MAIL is `latest` (the default of show and open), an id, the first characters of an id, or the path of a
stored file.

examples:
  smtp-relay mails
  smtp-relay mails show latest --html
  smtp-relay mails wait --to ann@example.com --subject 'reset your password' --timeout 5
  smtp-relay mails tail --json
  smtp-relay mails delete --all --yes
  smtp-relay mails list --json --limit 0 | jq -r .subject

--json prints one object per mail: id (empty if the file does not tell it), time (ISO 8601, UTC), from, to,
subject, size (bytes), file, error (null, or why the file cannot be read as a mail). from and to are those
of SMTP if the output has addRawHeaders, else those of the header. show --json adds headers (pairs), text,
html and attachments (name, type, size).

Exit status: 0; 1 if there is no such mail, or a mail was not deleted; 2 for a mistake in arguments.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.set_defaults(mail_action="show")
    parser.add_argument(
        "action", nargs="?", choices=ACTIONS, default=ACTIONS[0], metavar="ACTION", help=", ".join(ACTIONS)
    )
    parser.add_argument("ids", nargs="*", metavar="MAIL")
    parser.add_argument("--config", "-c", **CONFIG)
    parser.add_argument("--folder", metavar="DIR", help="the folder that the server was started with")
    parser.add_argument("--json", action="store_true", help="one JSON object per mail")
    parser.add_argument("--limit", type=_count, default=50, metavar="N", help="list: at most N; 0 for all")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--raw", action="store_true", help="show: the file as it is")
    form.add_argument("--html", action="store_true", help="show: the source of the HTML text")
    form.add_argument("--headers", action="store_true", help="show: every header field")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--no-browser", action="store_true", help="open: print the address of the page")
    how.add_argument("--print", action="store_true", dest="as_text", help="open: print the text")
    parser.add_argument("--count", type=_count, default=0, metavar="N", help="tail: end after N mails")
    parser.add_argument("--to", action="append", default=[], metavar="ADDRESS", help="wait: a recipient")
    parser.add_argument("--from", dest="sender", metavar="ADDRESS", help="wait: the sender")
    parser.add_argument("--subject", metavar="TEXT", help="wait: a part of the subject, in any case")
    parser.add_argument(
        "--since",
        metavar="TIME",
        help="wait: also mails that came since then: 90s, 5m before now, or 2026-01-02T03:04 (default 60s)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=30.0, metavar="SECONDS", help="wait: how long (default 30)"
    )
    parser.add_argument("--all", action="store_true", help="delete: every stored mail")
    parser.add_argument("--yes", "-y", action="store_true", help="delete: do not ask")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action. Returns 0, or 1 if there is no such mail."""
    action, words = arguments.action, arguments.ids
    if action in {"list", "tail", "wait", "reindex"} and words:
        raise ConfigError(f"mails {action}", f"takes no {words[0]!r}", f"smtp-relay mails show {words[0]}")
    config = load(arguments.config, os.environ)
    if action == "reindex":
        return _reindex(config)
    mails = StoredMails.of(config, Path.cwd(), arguments.folder)
    if action == "list":
        return _list(mails, arguments.limit, as_json=arguments.json)
    if action == "tail":
        return _tail(mails, arguments)
    if action == "wait":
        return _wait(mails, arguments)
    if action == "delete":
        from listener.cli.mails.deleting import delete

        return delete(mails, config, words, arguments)
    word = one_word(f"mails {action}", words)
    found = mails.named(word, MOST)
    if not found:
        return _none(mails, word)
    from listener.cli.mails import showing

    if action == "show":
        return showing.show(found[0], arguments)
    return showing.open_page(found[0], arguments)


def _reindex(config: RelayConfig) -> int:
    """Remove the index: a server that runs makes it again at once, any other when it starts. Raises
    ConfigError without an inbox."""
    from listener.inbox.index import rebuild
    from listener.inbox.settings import settings_of

    settings = settings_of(config, Path.cwd())
    if settings is None:
        raise ConfigError(
            "mails reindex", "the configuration has no inbox", 'add "inbox": {}, or serve --inbox'
        )
    rebuild(settings.index)
    print("the index is made again")
    return 0


def line(mail: StoredFile) -> str:
    """A mail on one line: time, from → to, subject, size, file."""
    what = mail.error or mail.subject or "(no subject)"
    here = Path.cwd()
    name = os.fspath(mail.path.relative_to(here) if mail.path.is_relative_to(here) else mail.path)
    parts = [clock(mail.time * 1000), path_list(mail.sender, mail.recipients), what, size(mail.size), name]
    return escaped("  ".join(parts))


def size(count: int) -> str:
    """`900 B`, `12 kB`, `3.4 MB`."""
    for unit, of in (("MB", 1_000_000), ("kB", 1_000)):
        if count >= of:
            return f"{count / of:.1f} {unit}" if count < 10 * of else f"{count / of:.0f} {unit}"
    return f"{count} B"


def _list(mails: StoredMails, limit: int, *, as_json: bool) -> int:
    files = mails.newest()
    for one in files[: limit or None]:
        mail = mails.read(one)
        print(json.dumps(mail.summary()) if as_json else line(mail))
    if not as_json:
        places = ", ".join(str(folder.path) for folder in mails.folders)
        more = f", the newest {limit} shown (--limit 0 shows all)" if limit and len(files) > limit else ""
        print(f"{len(files)} in {places}{more}")
    return 0


def _none(mails: StoredMails, word: str) -> int:
    places = ", ".join(str(folder.path) for folder in mails.folders)
    missing = f"{word}: no such mail in {places} (smtp-relay mails list shows all)"
    what = f"no mail is stored in {places}" if word == LATEST else missing
    print(f"smtp-relay: {what}", file=sys.stderr)
    return 1


def _tail(mails: StoredMails, arguments: argparse.Namespace) -> int:
    from listener.cli.mails.waiting import Watch

    watch = Watch(mails, 0.0)
    watch.new()  # those that are there
    left = arguments.count
    for mail in watch.follow(lambda: False):
        print(json.dumps(mail.summary()) if arguments.json else line(mail), flush=True)
        left -= 1
        if left == 0:
            break
    return 0


def _wait(mails: StoredMails, arguments: argparse.Namespace) -> int:
    from listener.cli.mails.deadletter import moment
    from listener.cli.mails.waiting import Conditions, plain_address, wait_for

    to = tuple(plain_address(each) for each in arguments.to)
    sender = None if arguments.sender is None else plain_address(arguments.sender)
    conditions = Conditions(to, sender, arguments.subject)
    now = time.time()
    since = moment("--since", arguments.since or "60s", now)
    mail, nearest = wait_for(mails, conditions, (since or 0) / 1000, arguments.timeout)
    if mail is not None:
        print(json.dumps(mail.summary()) if arguments.json else line(mail))
        return 0
    if arguments.json:
        near = [{**one.summary(), "missed": missed} for one, missed in nearest]
        print(json.dumps({"error": "no such mail came in time", "nearest": near}))
        return 1
    print(f"smtp-relay: no such mail came within {arguments.timeout:g} s", file=sys.stderr)
    for one, missed in nearest:
        print(f"  {line(one)}\n    {escaped('; '.join(missed))}", file=sys.stderr)
    if not nearest:
        places = ", ".join(str(folder.path) for folder in mails.folders)
        print(f"  no mail came since {clock(since or 0)} into {places}", file=sys.stderr)
    return 1


def _count(text: str) -> int:
    if not text.isdecimal() or len(text) > 9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _seconds(text: str) -> float:
    try:
        found = float(text.removesuffix("s"))
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return found
