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
    """The text cannot be read: `line` and `column` start at 1, `reason` says what is wrong, `cure` how to
    fix it."""

    def __init__(self, reason: str, line: int = 1, column: int = 1, cure: str = "") -> None:
        super().__init__(f"line {line}, column {column}: {reason}" + (f" ({cure})" if cure else ""))
        self.reason = reason
        self.cure = cure
        self.line = line
        self.column = column


class _Twice(Exception):
    """One object has a key twice."""


def parse(text: str) -> Any:
    """The value of a JSON or JSONC text. Raises NotJson, also for a duplicate key."""
    plain = _TOKEN.sub(_blank, text.removeprefix("\ufeff"))
    if not plain.strip():
        raise NotJson("is empty", cure='write {"flows": …} into it')
    try:
        return json.loads(plain, object_pairs_hook=_object, parse_constant=_constant)
    except json.JSONDecodeError as error:
        raise _located(plain, error) from None
    except _Twice:
        raise _second_key(plain) from None
    except RecursionError:
        raise NotJson("brackets are nested too deep", cure="take some away") from None
    except ValueError as error:  # a number of thousands of digits, or not a number
        raise NotJson(str(error), cure="write a number") from None


_QUOTES: Final = "write names and texts in double quotes"
_ONE: Final = "remove one, or rename it"
_VALUE: Final = "write a text in double quotes, a number, true, false or null"

_CURES: Final = {
    "Expecting property name enclosed in double quotes": ("", _QUOTES),
    "Expecting ':' delimiter": ("a colon is missing after the name", "write it before this"),
    "Expecting ',' delimiter": ("a comma is missing", "write it before this"),
    "Illegal trailing comma": ("a comma stands alone", "remove it"),
    "Extra data": ("more follows after the end of the first value", "remove it"),
    "Unterminated string": ("a text does not end", "close it with a double quote"),
    "Invalid control character": ("a text holds a line break or tab", "write \\n or \\t, or close the text"),
    "Invalid \\": ("a backslash begins no escape here", "write two of them"),
}
"""The standard parser's message to ours, and the cure."""


def _located(text: str, error: json.JSONDecodeError) -> NotJson:
    """The parser's error in the words of a user."""
    rest = text[error.pos :]
    at = error.lineno, error.colno
    if not rest.strip():
        return NotJson("the text ends too early", *at, "close each { with }, each [ with ], each text")
    if rest[0] in "]}" and text[: error.pos].rstrip().endswith(","):
        return NotJson("a comma stands alone", *at, "remove it")
    if rest.startswith("/*"):
        return NotJson("a comment has no end", *at, "close it with */")
    if rest.startswith("#"):
        return NotJson("# begins no comment here", *at, "write // before a comment")
    if error.msg == "Expecting value":
        if re.match(r"(?:---|[A-Za-z_][\w-]*:)(?:\s|$)", text.lstrip()):
            return NotJson("is not JSON", *at, "if it is YAML, let its name end in .yaml")
        if text[: error.pos].strip() == "" and not text.strip().startswith(("{", "[", '"')):
            return NotJson("is not JSON", *at, "a configuration is JSON and begins with {, or YAML in *.yaml")
        word = re.match(r"\w+|.", rest, re.DOTALL)
        return NotJson(f"{(word[0] if word else rest)!r} is no value".replace("\n", " "), *at, _VALUE)
    number = re.search(r"[-+.\w]+$", text[: error.pos])
    if number and error.msg.startswith("Expecting ',' delimiter") and re.match(r"[\w.]", rest):
        word = re.match(r"[-+.\w]*", rest)
        whole = number[0] + (word[0] if word else "")
        cure = "write decimal digits without a 0 before them, or a text in double quotes"
        return NotJson(f"{whole!r} is no number", *at, cure)
    if rest[0] in "]}" and error.msg.startswith("Expecting ','"):
        return NotJson(f"{rest[0]} closes no bracket", *at, "close each { with }, each [ with ]")
    if rest.startswith(","):
        return NotJson("a comma stands alone", *at, "remove it")
    if rest[0] in "\u201c\u201d\u201e\u2018\u2019'":
        return NotJson(f"{rest[0]} is no double quote", *at, _QUOTES)
    if rest[0].isspace() or rest[0] in "\u200b\ufeff":
        return NotJson("an odd space stands here", *at, "write a plain one")
    reason, cure = next(
        (known for start, known in _CURES.items() if error.msg.startswith(start)), (error.msg, "")
    )
    return NotJson(reason or error.msg.lower(), *at, cure)


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
                return NotJson(f"the key {key!r} stands twice", line, at - text.rfind("\n", 0, at), _ONE)
            open_objects[-1].add(key)
    return NotJson("a key stands twice in one object", cure=_ONE)
