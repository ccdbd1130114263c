"""The parser of a command: flags and words in any order, mistakes on one line, examples in the help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NoReturn

_A_MAIL: Final = r"latest|[0-9A-Fa-f]{4,8}(-[0-9A-Fa-f-]*)?|.*/.*"
"""`latest`, an id or its beginning, or a path: no action looks like one of them."""


class Parser(argparse.ArgumentParser):
    """`argparse`'s, for one command."""

    def __init__(self, *, prog: str, description: str, **others: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **others,
        )

    @property
    def actions(self) -> Sequence[argparse.Action]:
        """The flags and words."""
        return self._actions

    def arranged(self, arguments: Sequence[str]) -> list[str]:
        """The arguments with all flags before all words, because argparse takes the words of one command
        only where they stand together. A mail without an action gets the command's `mail_action`."""
        flags: list[str] = []
        words: list[str] = []
        for text, is_word in self._parts(arguments):
            (words if is_word else flags).extend(text)
        action = self.get_default("mail_action")
        if action and words and re.fullmatch(_A_MAIL, words[0]):
            words.insert(0, action)
        return [*flags, *(["--"] if any(word.startswith("-") for word in words) else []), *words]

    def first_word(self, arguments: Sequence[str]) -> int | None:
        """The index of the first argument that is neither a flag nor a flag's value, before any `--`."""
        at = 0
        for text, is_word in self._parts(arguments):
            if is_word:
                return at if arguments[at] == text[0] else None
            at += len(text)
        return None

    def knows(self, text: str) -> bool:
        """False for a flag that the command does not have."""
        name = text.partition("=")[0] if text.startswith("--") else text[:2]
        return not text.startswith("-") or any(one.startswith(name) for one in self._option_string_actions)

    def _parts(self, arguments: Sequence[str]) -> Iterator[tuple[list[str], bool]]:
        """Each flag with the value that follows it, and each word; True with a word."""
        rest = iter(arguments)
        for one in rest:
            if one == "--":
                yield from (([word], True) for word in rest)
            elif not one.startswith("-") or one == "-":
                yield [one], True
            elif self._takes_next(one) and (value := next(rest, None)) is not None:
                yield [one, value], False
            else:
                yield [one], False

    def _takes_next(self, text: str) -> bool:
        """True if a flag's value is the next argument."""
        if text.startswith("--"):
            known = self._option_string_actions
            names = [text] if text in known else [name for name in known if name.startswith(text)]
            return any(known[name].nargs is None for name in names)
        for at, letter in enumerate(text[1:], start=2):
            action = self._option_string_actions.get(f"-{letter}")
            if action is None or action.nargs is None:
                return action is not None and at == len(text)
        return False

    def error(self, message: str) -> NoReturn:
        """Print one line, and exit with 2."""
        near = self._near(message)
        self.exit(2, f"{self.prog}: {message} ({near}{self.prog} --help shows all)\n")

    def _near(self, message: str) -> str:
        head, _, unknown = message.partition("unrecognized arguments: ")
        word = unknown.partition(" ")[0].partition("=")[0]
        if head or not word.startswith("--"):
            return ""
        import difflib

        found = difflib.get_close_matches(word, self._option_string_actions, n=1)
        return f"did you mean {found[0]}? " if found else ""


def give_examples(parser: argparse.ArgumentParser, *examples: str) -> None:
    """Let the help end with these command lines."""
    parser.epilog = "examples:\n" + "\n".join(f"  {one}" for one in examples)
