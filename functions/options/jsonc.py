"""JSON with comments and trailing commas, read with the standard parser.

Spaces first replace everything that is not JSON, so every error names the line and column of the
original file.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

_SKIP: Final = r"(?:\s|//[^\n]*+|(?>/\*.*?\*/))*+"  # possessive: a comment ends where it first can
_TOKEN: Final = re.compile(
    rf"""
      "(?:[^"\\]|\\.)*"?       # a string: kept, whatever it holds
    | //[^\n]*                 # a comment to the end of the line
    | /\*.*?\*/                # a comment over lines
    | ,(?={_SKIP}[}}\]])       # a comma before a closing bracket
    """,
    re.VERBOSE | re.DOTALL,
)
_VISIBLE: Final = re.compile(r"[^\r\n]")
_KEY_OR_BRACE: Final = re.compile(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}]', re.DOTALL)


class NotJson(ValueError):
    """The text cannot be read: `line` and `column` start at 1, `reason` says what is wrong."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"line {line}, column {column}: {reason}")
        self.reason = reason
        self.line = line
        self.column = column


class _Twice(Exception):
    """One object has a key twice."""


def parse(text: str) -> Any:
    """The value of a JSON or JSONC text. Raises NotJson, also for a duplicate key."""
    plain = _TOKEN.sub(_blank, text.removeprefix("\ufeff"))
    try:
        return json.loads(plain, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise NotJson(error.msg, error.lineno, error.colno) from None
    except _Twice:
        raise _second_key(plain) from None
    except RecursionError:
        raise NotJson("brackets are nested too deep") from None
    except ValueError as error:  # a number of thousands of digits, or not a number
        raise NotJson(str(error)) from None


def _blank(match: re.Match[str]) -> str:
    token = match[0]
    return token if token.startswith('"') else _VISIBLE.sub(" ", token)


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _second_key(text: str) -> NotJson:
    """The error for the text's first duplicate key."""
    open_objects: list[set[str]] = []
    for match in _KEY_OR_BRACE.finditer(text):
        if match[0] == "{":
            open_objects.append(set())
        elif match[0] == "}":
            open_objects.pop()
        elif match[2]:
            key = json.loads(match[1])
            if key in open_objects[-1]:
                at = match.start()
                line = text.count("\n", 0, at) + 1
                return NotJson(f"the key {key!r} stands twice", line, at - text.rfind("\n", 0, at))
            open_objects[-1].add(key)
    return NotJson("a key stands twice in one object")
