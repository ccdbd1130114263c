"""What can be typed, as the parsers say it."""

from __future__ import annotations

import argparse
from pathlib import Path

from listener.cli.completion.command import commands
from listener.cli.completion.words import Flag, command
from listener.cli.main import COMMANDS, parser


def test_every_command_is_there_with_every_flag() -> None:
    found = commands()
    assert [one.name for one in found] == list(COMMANDS)
    for one in found:
        named = {name for flag in one.flags for name in flag.names}
        assert named == {name for action in parser(one.name).actions for name in action.option_strings}
        assert "--help" in named


def test_a_flag_and_a_word_say_what_follows() -> None:
    made = argparse.ArgumentParser(add_help=False)
    made.add_argument("kind", choices=("a", "b"))
    made.add_argument("more", nargs="*")
    made.add_argument("-f", "--file", type=Path, help="50%% of\n  a file")
    made.add_argument("--on", choices=("x", "y"), help="on")
    made.add_argument("--name", help="a name")
    made.add_argument("--body", metavar="FILE", help="text")
    made.add_argument("--yes", action="store_true")
    found = command("one", "does it", made._actions)
    assert (found.name, found.help, found.words) == ("one", "does it", ("a", "b"))
    assert found.flags == (
        Flag(("-f", "--file"), "50% of a file", "file"),
        Flag(("--on",), "on", ("x", "y")),
        Flag(("--name",), "a name", "text"),
        Flag(("--body",), "text", "file"),
        Flag(("--yes",), "", None),
    )
