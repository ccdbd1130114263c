"""`sweep`: one pass over the spool, and its result."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from functions.backends import sweep_once
from functions.errors import DeliveryFault
from functions.message.text import escaped
from listener.cli.arguments import CONFIG
from listener.cli.parser import give_examples
from listener.config.load import load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", **CONFIG)
    give_examples(parser, "smtp-relay sweep", "smtp-relay sweep relay.jsonc")


def run(arguments: argparse.Namespace) -> int:
    """Make one pass and print its result. Returns 0, or 1 if the spool failed."""
    config = load(arguments.config, os.environ)
    try:
        swept = sweep_once(config, Path.cwd(), os.environ)
    except DeliveryFault as fault:
        print(f"smtp-relay: {config.spool.url}: {escaped(fault.reason)}", file=sys.stderr)
        return 1
    age = "" if swept.oldest is None else f", the oldest {swept.oldest:.0f} s old"
    print(f"{swept.unfinished} unfinished{age}; {swept.dead} dead; {swept.notified} notified again")
    return 0
