"""`completion`: a script that lets a shell complete commands, flags and files. It is made of the parsers,
so it has all that they have."""

from __future__ import annotations

import argparse

from listener.cli.completion.scripts import SHELLS
from listener.cli.completion.words import Command, command
from listener.cli.parser import give_examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=tuple(SHELLS), metavar="SHELL", help="bash, zsh or fish")
    give_examples(
        parser,
        'eval "$(smtp-relay completion bash)"   # in ~/.bashrc',
        'eval "$(smtp-relay completion zsh)"    # in ~/.zshrc, after compinit',
        "smtp-relay completion fish > ~/.config/fish/completions/smtp-relay.fish",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    print(SHELLS[arguments.shell](commands()), end="")
    return 0


def commands() -> list[Command]:
    """All commands, in the order of the help."""
    from listener.cli.main import COMMANDS, parser

    return [command(name, text, parser(name).actions) for name, (_, text) in COMMANDS.items()]
