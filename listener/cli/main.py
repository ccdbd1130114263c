"""The command line. A command's module is imported when the command runs, so no command pays for the
others."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from listener.cli.parser import Parser
from listener.cli.terminal import TerminalStream, escaping

COMMANDS: Final = {
    "serve": ("serve", "receive mail and deliver it, until SIGTERM"),
    "check": ("check", "validate a configuration and explain it"),
    "schema": ("schema", "print the JSON Schema of the configuration"),
    "dkim-generate": ("dkim_generate", "make a DKIM key: DNS record and configuration"),
    "hash-password": ("hash_password", "hash a password for static-auth"),
    "deadletter": ("mails.deadletter", "list, replay or drop outputs that were given up"),
    "sweep": ("mails.sweep", "make one pass over the spool for mail that is due again"),
    "send": ("mails.send", "send a test mail"),
    "mails": ("mails.mails", "look at the stored mails: list, show, open, tail, wait, delete"),
    "queue": ("mails.queue", "the mails that wait in the spool: list, explain, retry"),
    "quota": ("quota", "what sending-policy has counted: show, reset"),
    "webhook": ("webhook", "test an output of type webhook: post a sample, show the answer"),
    "auth-check": ("auth_check", "show mail-auth's results for one mail"),
    "init": ("init.command", "write a configuration to start with"),
    "completion": ("completion.command", "print what lets a shell complete commands and flags"),
}
"""Each command's module in this folder, and its help. The module has `add_arguments(parser)`, which gives
examples too, and `run(arguments)`, which returns the exit status."""

_HELP: Final = """\
usage: smtp-relay [CONFIG] [--port PORT] [--folder DIR] …   the same as smtp-relay serve
       smtp-relay COMMAND …

A dynamic SMTP server: filters decide, mails go to folders, buckets, queues or SES.

commands:
{commands}

`smtp-relay COMMAND --help` shows the arguments and examples of one, `smtp-relay --version` the version.

examples:
  smtp-relay
  smtp-relay --port 2525 --folder mails -v
  smtp-relay relay.jsonc
  smtp-relay send you@example.com
  smtp-relay init smarthost
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 for a user's mistake, 1 otherwise."""
    with escaping():
        return _run(list(sys.argv[1:] if argv is None else argv))


def _run(arguments: list[str]) -> int:
    from functions.errors import ConfigError

    try:
        name, rest = _chosen(arguments)
        if not name:
            print(_help(), end="")
            raise SystemExit(0)
        command = parser(name)
        chosen = command.parse_args(command.arranged(rest))
        status: int = chosen.run(chosen)
        sys.stdout.flush()
    except ConfigError as mistake:
        # Only a server has set up logs, and in a format of its own.
        logs = sys.modules.get("listener.logs.setup")
        if logs is None or not logs.tell_end(str(mistake)):
            print(f"smtp-relay: {mistake}".replace("\n", "\nsmtp-relay: "), file=sys.stderr)
        return 2
    except EOFError:
        print("smtp-relay: the input ended before the answer", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except ModuleNotFoundError as error:
        module = error.name or str(error)
        if module.startswith(("listener", "functions")):
            raise
        print(
            f"smtp-relay: the module {module} is not installed (pip install 'smtp-relay[listener,inbox]')",
            file=sys.stderr,
        )
        return 2
    except BrokenPipeError:
        # The reader of the output is gone.
        _drop_output()
        return 1
    except Exception as error:
        if isinstance(sys.stdout, TerminalStream) and sys.stdout.failed:
            _drop_output()
            print(f"smtp-relay: the output cannot be written: {error} (make room there)", file=sys.stderr)
            return 1
        if isinstance(error, FileNotFoundError) and _homeless():
            print(
                "smtp-relay: the working folder does not exist any more (change into another)",
                file=sys.stderr,
            )
            return 2
        import logging

        logging.basicConfig()
        logging.getLogger("smtp_relay").critical("unexpected fault, please report it", exc_info=True)
        return 1
    return status


def _drop_output() -> None:
    """Buffered text must not cause an error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _homeless() -> bool:
    """True if the working folder was removed."""
    try:
        os.getcwd()  # noqa: PTH109 - pathlib is not imported otherwise
    except FileNotFoundError:
        return True
    return False


def _chosen(arguments: list[str]) -> tuple[str, list[str]]:
    """The command and its arguments; flags may stand before it, and without it the command is `serve`.
    "" for the help of all. Raises ConfigError for a word that is neither a command nor a file."""
    first = arguments[0] if arguments else ""
    if first in COMMANDS:
        return first, arguments[1:]
    if first == "help":
        return (arguments[1], ["--help"]) if arguments[1:2] and arguments[1] in COMMANDS else ("", [])
    if first in {"-h", "--help"}:
        return "", []
    if first in {"-V", "--version", "version"}:
        return "serve", ["--version"]
    serve = parser("serve")
    at = serve.first_word(arguments)
    if at is not None and arguments[at] in COMMANDS:
        return arguments[at], arguments[:at] + arguments[at + 1 :]
    if at is not None and all(map(serve.knows, arguments[:at])):
        _check_file(arguments[at])
    return "serve", arguments


def _check_file(word: str) -> None:
    """A word that is not a command is a file, unless there is none and the word does not look like one.
    Raises ConfigError."""
    if os.access(word, os.F_OK) or "/" in word or word.endswith((".jsonc", ".json", ".yaml", ".yml")):
        return
    import difflib

    from functions.errors import ConfigError

    near = difflib.get_close_matches(word, COMMANDS, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(word, "neither a command nor a file", f"{meant}commands are {', '.join(COMMANDS)}")


def parser(name: str) -> Parser:
    """The parser of one command. Its result has the command's function as `run`."""
    place, text = COMMANDS[name]
    made = Parser(prog=f"smtp-relay {name}", description=text[0].upper() + text[1:] + ".")
    module = import_module(f"listener.cli.{place}")
    module.add_arguments(made)
    made.set_defaults(run=module.run)
    return made


def _help() -> str:
    """The help of all commands."""
    commands = "\n".join(f"  {name:14} {text}" for name, (_, text) in COMMANDS.items())
    return _HELP.format(commands=commands)


def entry() -> NoReturn:
    """For `python -m`."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
