"""`quota`: what the filters `sending-policy` have counted, of servers that run or are stopped."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable
from typing import Final

from functions.errors import ConfigError
from functions.message.domains import fold_ascii
from functions.message.text import escaped
from functions.options.environment import variable
from functions.options.secrets import Runtime
from listener.cli.arguments import CONFIG
from listener.config.load import load
from listener.filters.sending.counts import FILE, Counts, Used
from listener.filters.sending.items import TableItems
from listener.filters.sending.slots import StoreFault
from listener.filters.sending.table import TABLE, client
from listener.server.build import state_folder

_EPILOG: Final = """\
actions:
  show [USER]     the recipients that count now, of every user or of one (the default)
  reset USER…     forget what counts for these users or client addresses (--all: for everybody)

examples:
  smtp-relay quota
  smtp-relay quota show ann@example.com --json
  smtp-relay quota reset ann@example.com

--json prints one object per line: flow, filter, rule, limit, who (the user, or the client's address), used,
most, seconds; reset prints who and counts, how many counts were not zero.

If SMTP_RELAY_LIMITS_TABLE names a table of DynamoDB, the counts are there. Blocks that listeners have taken
count as used, and outlive a reset. It takes dynamodb:Scan, and for reset also GetItem and PutItem.

Exit status: 0; 1 if the counts cannot be read; 2 for a mistake in arguments.
"""

_TABLE_CURE: Final = "look at AWS_REGION, the credentials and their rights: dynamodb:Scan, GetItem, PutItem"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EPILOG
    parser.add_argument(
        "action", nargs="?", choices=("show", "reset"), default="show", metavar="ACTION", help="show, reset"
    )
    parser.add_argument("users", nargs="*", metavar="USER")
    parser.add_argument("--config", "-c", **CONFIG)
    parser.add_argument("--all", action="store_true", help="with reset: of everybody")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")


def run(arguments: argparse.Namespace) -> int:
    """Carry out one action. Returns 0, or 1 if the counts cannot be read."""
    users = [fold_ascii(one) for one in arguments.users]
    if arguments.all and (arguments.action != "reset" or users):
        raise ConfigError("--all", "goes with reset, without users")
    if arguments.action == "reset" and not (users or arguments.all):
        raise ConfigError("quota reset", "names no user", "give users, or --all")
    config = load(arguments.config, os.environ)
    if not any(one.limits_senders for flow in config.flows.values() for one in flow.filters):
        raise ConfigError(config.source, "has no sending-policy, so nothing is counted")
    table = variable(os.environ, TABLE)
    path = state_folder(config, Runtime.here()) / FILE
    store: Counts | TableItems | None = None
    try:
        if table:
            store = TableItems(table, client)
        elif path.exists():
            store = Counts(path)
        if arguments.action == "reset":
            return _reset(store, users or [None], as_json=arguments.json)
        missing = "" if store else f" ({path} does not exist: no server has counted here)"
        return _show(_chosen(store, users), missing, as_json=arguments.json)
    except StoreFault as fault:
        cure = _TABLE_CURE if table else "ask the server's user, or root"
        print(f"smtp-relay: {escaped(str(fault))} ({cure})", file=sys.stderr)
        return 1


def _chosen(counts: Counts | TableItems | None, users: list[str]) -> list[Used]:
    found = [] if counts is None else [one for one in counts.used() if not users or one.label[-1] in users]
    return sorted(found, key=lambda one: (one.label[:-2], -one.used / max(1, one.most), one.label))


def _show(found: Iterable[Used], missing: str, *, as_json: bool) -> int:
    number = 0
    for one in found:
        number += 1
        flow, label, rule, limit, who = (*one.label, *[""] * 5)[:5]
        if as_json:
            row = {"flow": flow, "filter": label, "rule": rule, "limit": limit, "who": who}
            print(json.dumps({**row, "used": one.used, "most": one.most, "seconds": one.seconds}))
        else:
            print(escaped(f"{who}: {one.used} of {limit}  ({flow}/{label} {rule})"))
    if not number and not as_json:
        print(f"nothing counts now{missing}")
    return 0


def _reset(counts: Counts | TableItems | None, users: list[str] | list[None], *, as_json: bool) -> int:
    for user in users:
        number = 0 if counts is None else counts.reset(user)
        if as_json:
            print(json.dumps({"who": user, "counts": number}))
        else:
            print(escaped(f"{user or 'everybody'}: {number} counts forgotten"))
    return 0
