"""`mails delete`: removes stored files, and only files that no retry writes again."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from functions.errors import ConfigError, DeliveryFault
from functions.local.view.stored import StoredFile
from functions.local.view.unfinished import unfinished_mails
from functions.message.text import escaped
from listener.cli.mails.mails import line
from listener.cli.mails.selecting import LATEST, is_path
from listener.cli.mails.stored import StoredMails
from listener.config.relay import RelayConfig


def delete(mails: StoredMails, config: RelayConfig, words: list[str], arguments: argparse.Namespace) -> int:
    """Remove the files of the given mails. Returns 0, or 1 if one was not removed. Raises ConfigError."""
    if bool(words) is arguments.all:
        raise ConfigError("mails delete", "takes mails, or --all", f"smtp-relay mails delete {LATEST}")
    found, missing = _chosen(mails, words, all_mails=arguments.all)
    if found and not arguments.yes and not _agreed(found):
        print("smtp-relay: nothing is deleted", file=sys.stderr)
        return 1
    try:
        unfinished = unfinished_mails(config, Path.cwd(), os.environ)
    except DeliveryFault as fault:
        print(f"smtp-relay: {config.spool.url}: {escaped(fault.reason)}: nothing is deleted", file=sys.stderr)
        return 1
    kept = removed = 0
    for mail in found:
        why = unfinished.holds(mail.id, mail.time)
        if not why:
            try:
                folder = mails.owner(mail.path)
                if folder is None:
                    raise ConfigError(str(mail.path), "is not in a folder of a file output")
                folder.remove(mail.path)
            except FileNotFoundError:
                why = "is gone"
            except OSError as error:
                why = f"cannot be deleted: {error.strerror or error}"
        if why:
            kept += 1
            print(f"smtp-relay: {escaped(os.fspath(mail.path))}: {why}", file=sys.stderr)
            continue
        removed += 1
        if arguments.json:
            print(json.dumps(mail.summary()))
        elif not arguments.all:
            print(line(mail))
    if not arguments.json:
        print(f"{removed} deleted")
    return 1 if kept or missing else 0


def _chosen(mails: StoredMails, words: list[str], *, all_mails: bool) -> tuple[list[StoredFile], int]:
    """The mails to remove, and how many words mean none."""
    if all_mails:
        return [mails.read(one).without_content() for one in mails.newest()], 0
    found: dict[Path, StoredFile] = {}
    missing = 0
    for word in words:
        if word != LATEST and is_path(word) and mails.owner(Path(word)) is None:
            raise ConfigError(word, "is not in a folder of a file output", "delete it yourself")
        these = mails.named(word)
        found.update((mail.path, mail) for mail in these)
        if not these:
            missing += 1
            print(f"smtp-relay: {escaped(word)}: no such mail", file=sys.stderr)
    return list(found.values()), missing


def _agreed(found: list[StoredFile]) -> bool:
    """True if a person in a terminal agrees, or there is none to ask."""
    if not sys.stdin.isatty():
        return True
    for mail in found[:5]:
        print(line(mail), file=sys.stderr)
    what = "this mail" if len(found) == 1 else f"these {len(found)} mails"
    print(f"Delete {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes"}
