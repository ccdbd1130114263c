"""Address lists of header fields, read leniently (RFC 5322 sections 3.4 and 4.4).

A list is what a stranger wrote: any text gives a list, in linear time and without recursion.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from functions.message.charset import decode, decode_words

# The possessive forms (`*+`) keep a quote or a bracket that never ends from costing more than one pass.
_TOKEN: Final = re.compile(
    r"""
      (?P<blank>[\s\x00]+)
    | "(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*+)"?
    | <(?P<angle>(?:[^<>"]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+)>?
    | (?P<comment>\()
    | (?P<end>[,;][,;\s\x00]*+)
    | (?P<group>:)
    | (?P<text>\[[^\]\s]*+\]?|[^\s\x00"<,;:(\[]+|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PAREN: Final = re.compile(r"\\.|[()]", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class Address(NamedTuple):
    """A mailbox: display name ("" for none), and addr-spec ("" where only a name was written)."""

    name: str
    address: str


def parse_addresses(value: bytes, most: int = 2_000) -> list[Address]:
    """The mailboxes of an unfolded address-list value, groups flattened, at most `most` of them.

    Display names have their encoded words read. Never raises.
    """
    text = decode(value)
    found: list[Address] = []
    box = _Mailbox()
    at = 0
    while at < len(text) and len(found) < most:
        token = _TOKEN.match(text, at)
        assert token is not None  # the last alternative takes any character
        at = token.end()
        match token.lastgroup:
            case "blank":
                box.glued = False
            case "quoted":
                box.add(_ESCAPED.sub(r"\1", token["quoted"]), token[0])
            case "angle":
                box.angle = token["angle"]
            case "comment":
                start, at = at, _comment_end(text, at)
                box.comment = box.comment or text[start : at - 1]
                box.glued = False
            case "end":
                box.settle(found)
                box = _Mailbox()
            case "group":
                box = _Mailbox()
            case _:
                box.add(token[0], token[0])
    box.settle(found)
    return found[:most]


class _Mailbox:
    """One mailbox in the reading: its words as meant and as written."""

    __slots__ = ("angle", "comment", "glued", "meant", "written")

    def __init__(self) -> None:
        self.meant: list[list[str]] = []
        self.written: list[list[str]] = []
        self.angle: str | None = None
        self.comment = ""
        self.glued = False

    def add(self, meant: str, written: str) -> None:
        if self.glued:
            self.meant[-1].append(meant)
            self.written[-1].append(written)
        else:
            self.meant.append([meant])
            self.written.append([written])
        self.glued = True

    def settle(self, found: list[Address]) -> None:
        words = ["".join(word) for word in self.meant]
        address = self.angle
        if address is None:
            # `Name local@domain`: the last word with an @ outside quotes is the address.
            for at in range(len(words) - 1, -1, -1):
                if any("@" in piece for piece in self.written[at] if not piece.startswith('"')):
                    address = "".join(self.written[at])
                    del words[at]
                    break
        name = _plain(" ".join(words) or self.comment)
        address = (address or "").strip()
        if address or name:
            found.append(Address(name, address))


def _comment_end(text: str, at: int) -> int:
    depth = 1
    for found in _PAREN.finditer(text, at):
        if found[0] == "(":
            depth += 1
        elif found[0] == ")":
            depth -= 1
            if not depth:
                return found.end()
    return len(text) + 1


def _plain(name: str) -> str:
    return decode_words(name.encode("utf-8", "replace")).strip()
