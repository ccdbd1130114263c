"""YAML, as strict as the JSON reader: keys are strings, without duplicates."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml


class NotYaml(ValueError):
    """The text cannot be read: `line` and `column` start at 1, `reason` says what is wrong, `cure` how to
    fix it."""

    def __init__(self, reason: str, mark: Any = None, cure: str = "") -> None:
        self.line = mark.line + 1 if mark else 1
        self.column = mark.column + 1 if mark else 1
        super().__init__(f"line {self.line}, column {self.column}: {reason}")
        self.reason = reason
        self.cure = cure


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, in C if available."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen: set[str] = set()
        for key, value in node.value:
            _check_number(value)
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                what = f"a key is text here, and {_text(key)} is not one to YAML"
                raise NotYaml(what, key.start_mark, _QUOTES)
            if key.value in seen:
                raise NotYaml(
                    f"the key {key.value!r} stands twice", key.start_mark, "remove one, or rename it"
                )
            seen.add(key.value)
        made: dict[str, Any] = super().construct_mapping(node, deep=deep)
        return made


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises NotYaml."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        raise _located(text, error) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, NotYaml):
            raise
        raise NotYaml(f"is not YAML: {error}".replace("\n", " ")) from None


_QUOTES: Final = "put it in quotes"
_NUMBERS: Final = frozenset({"tag:yaml.org,2002:int", "tag:yaml.org,2002:float"})
_ODD_NUMBER: Final = re.compile(r"[-+]?0[0-9_]|.*:")
_INDENT: Final = "indent the keys of one object by the same number of spaces"

_WORDS: Final = (
    (
        "mapping values are not allowed",
        "a colon is out of place",
        "write a space after the colon of each key, and put a text that holds ': ' in quotes",
    ),
    ("could not find expected ':'", "a key has no colon", "write a space after the colon of each key"),
    ("expected <block end>", "the indentation does not fit the lines above", _INDENT),
    ("expected ',' or", "a list or object does not end", "close each [ with ], and each { with }"),
    ("did not find expected", "the indentation does not fit the lines above", _INDENT),
    ("nesting depth", "lists and objects are nested too deep", "take some away"),
    ("another document", "a second document begins", "keep one, and remove the --- between them"),
    ("unindent", "the indentation does not fit the lines above", _INDENT),
)
"""The parser's words, ours, and the cure."""


def _located(text: str, error: yaml.MarkedYAMLError) -> NotYaml:
    """The parser's error in the words of a user."""
    mark, problem = error.problem_mark, error.problem or "is not YAML"
    line = text.split("\n")[mark.line] if mark else ""
    if "\t" in line[: len(line) - len(line.lstrip())]:
        tabs = NotYaml("a tab indents this line", mark, "indent with spaces")
        tabs.column = 1
        return tabs
    if "alphabetic" in problem:
        problem = "a text that begins with * or & has a meaning in YAML"
        return NotYaml(problem, mark, "put the text in quotes")
    found = next((known for known in _WORDS if known[0] in problem), None)
    if found is not None:
        return NotYaml(found[1], mark, found[2])
    special = next((each for each in "*&!%@`" if each in line), "")
    if special:
        return NotYaml(f"{problem}: {special} has a meaning in YAML", mark, "put the text in quotes")
    return NotYaml(problem, mark)


def _check_number(node: yaml.Node) -> None:
    """Refuses what only YAML 1.1 takes as a number: 1:30 would be 90, and 0025 would be 21."""
    if isinstance(node, yaml.ScalarNode) and node.tag in _NUMBERS and _ODD_NUMBER.match(node.value):
        raise NotYaml(
            f"{node.value} is another number to YAML",
            node.start_mark,
            "put a text in quotes, and write a number in decimal digits without a 0 before them",
        )


def _text(key: yaml.Node) -> str:
    return repr(key.value) if isinstance(key.value, str) else "that begins here"
