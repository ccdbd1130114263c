"""The command line. A command's module is imported when the command runs, so no command pays for the
others."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from functions import __version__
from listener.cli.terminal import escaping

COMMANDS: Final = {
    "serve": ("serve", "receive mail and deliver it, until SIGTERM"),
    "check": ("check", "validate a configuration and explain it"),
    "schema": ("schema", "print the JSON Schema of the configuration"),
    "dkim-generate": ("dkim_generate", "make a DKIM key: DNS record and configuration"),
    "hash-password": ("hash_password", "hash a password for static-auth"),
    "deadletter": ("mails.deadletter", "list, replay or drop outputs that were given up"),
    "sweep": ("mails.sweep", "make one pass over the spool for mail that is due again"),
    "send": ("mails.send", "send a test mail"),
    "auth-check": ("auth_check", "show mail-auth's results for one mail"),
}
"""Each command's module in this folder, and its help. The module has `add_arguments(parser)` and
`run(arguments)`, which returns the exit status."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 for a user's mistake, 1 otherwise."""
    with escaping():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    from functions.errors import ConfigError

    try:
        if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help", "--version"):
            _not_a_typo(arguments)
            arguments.insert(0, "serve")
        chosen = _parse(arguments)
        status: int = chosen.run(chosen)
    except ConfigError as mistake:
        # Only a server has set up logs, and in a format of its own.
        logs = sys.modules.get("listener.logs.setup")
        if logs is None or not logs.tell_end(str(mistake)):
            print(f"smtp-relay: {mistake}".replace("\n", "\nsmtp-relay: "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output is gone; buffered text must not cause an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        import logging

        logging.basicConfig()
        logging.getLogger("smtp_relay").critical("unexpected fault, please report it", exc_info=True)
        return 1
    return status


def _not_a_typo(arguments: Sequence[str]) -> None:
    """A word that is not a command is a file, unless there is no such file and the word does not look
    like one. Raises ConfigError."""
    if not arguments or arguments[0].startswith("-") or Path(arguments[0]).exists():
        return
    import difflib

    from functions.errors import ConfigError

    if near := difflib.get_close_matches(arguments[0], COMMANDS, n=1):
        raise ConfigError(arguments[0], "is not a command or a file", f"did you mean {near[0]!r}?")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser(arguments[0])
    chosen, rest = parser.parse_known_args(arguments)
    # argparse accepts no positionals after options that follow the first ones.
    if rest and (chosen.command != "deadletter" or any(one.startswith("-") for one in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        chosen.ids = [*chosen.ids, *rest]
    return chosen


def _parser(chosen: str) -> argparse.ArgumentParser:
    """The parser of all commands, with the arguments of the chosen one."""
    parser = argparse.ArgumentParser(
        prog="smtp-relay",
        description="A dynamic SMTP server: filters decide, mails go to folders, buckets, queues or SES.",
        epilog="`smtp-relay CONFIG` is short for `smtp-relay serve CONFIG`.",
    )
    parser.add_argument("--version", action="version", version=f"smtp-relay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (place, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            module = import_module(f"listener.cli.{place}")
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def entry() -> NoReturn:
    """For `python -m`."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
