"""What can be typed on the command line, read from the parsers of all commands."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Value = tuple[str, ...] | Literal["file", "text"]
"""The values to propose: words, names of files, or none because only the user knows."""

_FILES = frozenset({"FILE", "DIR", "CONFIG", "FILE.eml"})


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag with all its spellings; `value` is None if none follows it."""

    names: tuple[str, ...]
    help: str
    value: Value | None


@dataclass(frozen=True, slots=True)
class Command:
    """A command with its flags, and the values that its words may have."""

    name: str
    help: str
    flags: tuple[Flag, ...]
    words: Value


def command(name: str, text: str, actions: Iterable[argparse.Action]) -> Command:
    """A command as its parser's actions describe it."""
    flags: list[Flag] = []
    words: Value = "text"
    for action in actions:
        if action.option_strings:
            value = None if action.nargs == 0 else _value(action)
            flags.append(Flag(tuple(action.option_strings), _plain(action.help), value))
        elif words == "text":
            words = _value(action)
    return Command(name, text, tuple(flags), words)


def _value(action: argparse.Action) -> Value:
    if action.choices is not None:
        return tuple(map(str, action.choices))
    return "file" if action.type is Path or action.metavar in _FILES else "text"


def _plain(text: str | None) -> str:
    """A flag's help on one line; `%%` is argparse's writing of `%`."""
    return " ".join((text or "").replace("%%", "%").split())
