"""Lists of addresses in header fields, read leniently (RFC 5322 sections 3.4 and 4.4).

A list is what a stranger wrote: any text gives a list, in linear time and without recursion.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from functions.message.charset import decode_words

# The possessive forms (`*+`) keep a quote or a word that never ends from costing more than one pass.
_TOKEN: Final = re.compile(
    r"""
      (?P<blank>[\s\x00]+)
    | "(?P<quoted>[^"\\]*+(?:\\.[^"\\]*+)*+)(?P<closed>"?)
    | (?P<word>=\?[!->@-~]{1,64}\?[bBqQ]\?[^?\r\n]*+\?=)
    | (?P<open><)
    | (?P<close>>)
    | (?P<comment>\()
    | (?P<end>[,;][,;\s\x00]*+)
    | (?P<group>:)
    | (?P<text>\[[^\]\s]*+\]?|(?:[^\s\x00"<>,;:(\[=]++|=(?!\?))++|.)
    """,
    re.VERBOSE | re.DOTALL,
)
_USUAL: Final = re.compile(  # one address, with or without a display name: what most lists are made of
    r"""
    [ \t]*+
    (?: (?: "(?P<quoted>[^"\\<>@\x00]*+)"[ \t]*+
          | (?P<words>(?: [^"(),:;<>@\[\\\x00=]++ | =(?!\?)
                        | =\?[^"(),:;<>@\[\\\s\x00?]{1,64}\?[bBqQ]\?[^"(),:;<>@\[\\\x00?\r\n]*+\?= )*+)
        )
        <(?P<angle>[^"(),:;<>@\[\\\s\x00]++@[0-9A-Za-z.-]++)>
      | (?P<bare>[^"(),:;<>@\[\\\s\x00=]++@[0-9A-Za-z.-]++)
    )
    [ \t]*+ (?:[,;]|\Z)
    """,
    re.VERBOSE,
)
_ROUTE: Final = re.compile(r"@[^:]*+:(?=[^@]*@)")  # RFC 5322 section 4.4: to be ignored
_PAREN: Final = re.compile(r"\\.|[()]", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class Address(NamedTuple):
    """A mailbox: display name ("" for none), and addr-spec ("" where only a name was written)."""

    name: str
    address: str


def parse_list(text: str, most: int) -> tuple[list[Address], list[Address], bool]:
    """The mailboxes, the texts that other readers take for mailboxes, and True if every quote and
    comment ends."""
    found: list[Address] = []
    unsure: list[Address] = []
    box = _Mailbox()
    balanced = True
    at = 0
    while at < len(text) and len(found) + len(box.angles) < most:
        if box.fresh:
            box.fresh = False
            usual = _USUAL.match(text, at)
            if usual is not None:
                quoted, words, angle, bare = usual.groups()
                name = quoted or " ".join((words or "").split())
                found.append(Address(_plain(name) if name else "", angle or bare))
                box.fresh = True
                at = usual.end()
                continue
        token = _TOKEN.match(text, at)
        assert token is not None  # the last alternative takes any character
        at = token.end()
        kind = token.lastgroup
        piece = token[0]
        if kind == "text":
            box.add(piece, piece, piece)
        elif kind == "blank":
            box.glued = False
        elif kind == "closed":
            balanced = balanced and token["closed"] != ""
            box.add(_ESCAPED.sub(r"\1", token["quoted"]), piece)
        elif kind == "word":
            box.add(piece, piece)
        elif kind == "open" and box.outer is not None and not box.words:
            pass  # `<<`
        elif kind == "open":
            if box.outer is None and box.named_again:
                box = box.split(found, unsure)
            box.open()
        elif kind == "close" and (box.outer is not None or box.angles):
            box.close()
        elif kind == "comment":
            start, at = at, _comment_end(text, at)
            balanced = balanced and at <= len(text)
            if box.outer is None:
                box.comments.append(text[start : at - 1])
            box.glued = False
        elif kind == "end" and box.may_go_on and piece.strip(" \t") == ",":
            box.hold()
        elif box.outer is None and (kind == "end" or (kind == "group" and box.is_address)):
            box.settle(found, unsure)
            box = _Mailbox()
        elif box.outer is None and kind == "group":
            box.forget()
        else:
            box.add(piece, piece, piece)
    box.settle(found, unsure)
    return found[:most], unsure, balanced


class _Word:
    """Pieces without a blank between them, decoded and as written. `first` and `last` are the parts of
    the first and the last piece outside quotes and encoded words; `has_at` covers all pieces."""

    __slots__ = ("_pieces", "cut", "first", "has_at", "last")

    def __init__(self, meant: str, written: str, plain: str) -> None:
        self._pieces = [meant, written]
        self.first = self.last = plain
        self.has_at = "@" in plain
        self.cut = False

    def append(self, meant: str, written: str, plain: str) -> None:
        self._pieces += (meant, written)
        self.last = plain
        self.has_at = self.has_at or "@" in plain

    def join(self, other: _Word) -> None:
        self._pieces += other._pieces
        self.last = other.last
        self.has_at = self.has_at or other.has_at

    @property
    def meant(self) -> str:
        return "".join(self._pieces[::2])

    @property
    def written(self) -> str:
        return "".join(self._pieces[1::2])


class _Mailbox:
    """One mailbox while it is read. `words` are those of the name, or, while an angle bracket is open,
    those inside it; the name's words are then in `outer`. `held` are names in front of a comma, which may
    be the start of this mailbox's name: `Acme, Inc. <info@example.com>`."""

    __slots__ = ("_own", "angles", "comments", "fresh", "glued", "held", "outer", "shorter", "words")

    def __init__(self) -> None:
        self.words: list[_Word] = []
        self.outer: list[_Word] | None = None
        self.angles: list[str] = []
        self.shorter: list[str] = []
        self.comments: list[str] = []
        self.held: list[str] = []
        self._own = 0  # words in front of the last angle bracket
        self.fresh = True
        self.glued = False

    def add(self, meant: str, written: str, plain: str = "") -> None:
        if self.glued:
            self.words[-1].append(meant, written, plain)
        else:
            self.words.append(_Word(meant, written, plain))
            self.glued = True

    def open(self) -> None:
        self.close()
        self.outer, self.words = self.words, []

    def close(self) -> None:
        if self.outer is not None:
            self.angles.append(" ".join(word.written for word in self._joined()))
            self.words, self.outer = self.outer, None
            self._own = len(self.words)
        self.glued = False

    @property
    def named_again(self) -> bool:
        """True if words follow the address: they are the name of the next one, without a comma."""
        return bool(self.angles) and len(self.words) > self._own

    def split(self, found: list[Address], unsure: list[Address]) -> _Mailbox:
        """Settles this mailbox with the words in front of its address, and returns one with the others."""
        following = _Mailbox()
        following.fresh = False
        following.words = self.words[self._own :]
        del self.words[self._own :]
        self.settle(found, unsure)
        return following

    @property
    def is_address(self) -> bool:
        """True if the text so far is an address, and not the name of a group."""
        return bool(self.angles) or any(word.has_at for word in self.words)

    @property
    def may_go_on(self) -> bool:
        """True if the text so far is a name, which may go on behind a comma."""
        return self.outer is None and bool(self.words) and not self.is_address

    def hold(self) -> None:
        """Keeps the name so far for the mailbox behind the comma."""
        self.held.append(_plain(" ".join(word.meant for word in self.words)))
        self.words.clear()
        self.comments.clear()
        self.glued = False

    def forget(self) -> None:
        """Ends the name of a group: the text so far is the name."""
        self.held.clear()
        self.words.clear()
        self.comments.clear()
        self.fresh = True
        self.glued = False

    def settle(self, found: list[Address], unsure: list[Address]) -> None:
        self.close()
        addresses, words = self.angles, self.words
        if not addresses and any(word.has_at for word in words):
            # `Name local@domain`: a word with an @ outside of quotes is an address.
            joined = self._joined()
            addresses = [word.written for word in joined if word.has_at]
            words = [word for word in joined if not word.has_at]
        name = _plain(" ".join(word.meant for word in words))
        if name and self.angles:
            name = ", ".join((*self.held, name))
        else:
            found += (Address(one, "") for one in self.held if one)
        if addresses:
            name = name or _plain(" ".join(self.comments))
        for written in addresses or ("",):
            route = _ROUTE.match(written)
            if route is not None:
                unsure.append(Address(name, written))
            address = written[route.end() :] if route else written
            if address or name:
                found.append(Address(name, address))
        unsure += (Address(name, address) for address in self.shorter)

    def _joined(self) -> list[_Word]:
        """The words, with those of one address joined: blanks and comments may stand around its @ and
        around its dots (RFC 5322 section 4.4); outside of angle brackets a dot in front of the @ may end an
        initial. If they stand at a dot behind the @, other readers end the address there: `shorter` keeps
        that address."""
        if len(self.words) < 2:
            return self.words
        joined = self.words[:1]
        for word in self.words[1:]:
            last = joined[-1]
            if word.first.startswith("@") or last.last.endswith("@"):
                last.join(word)
            elif (last.has_at or self.outer is not None) and (
                word.first.startswith(".") or last.last.endswith(".")
            ):
                if last.has_at and not last.cut:
                    self.shorter.append(last.written)
                last.cut = last.has_at
                last.join(word)
            else:
                joined.append(word)
        return joined


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
