"""A mail that came, and the conditions that one may meet."""

from __future__ import annotations

import re
from email.utils import parseaddr
from functools import cached_property
from typing import Any, NamedTuple

from smtp_relay_testing.server import API, Server

Part = str | re.Pattern[str]
"""Text that is found in any case and with any white space between its words, or a pattern."""

MOST_TEXT = 2_000
"""Characters of a mail in a message."""


class Mail:
    """`to`, `cc`, `bcc` and `sender` are addresses; `bcc` has the recipients that the header does not name
    too."""

    def __init__(self, server: Server, summary: dict[str, Any]) -> None:
        self._server = server
        self._path = f"{API}/message/{summary['ID']}"
        self.id: str = summary["ID"]
        self.subject: str = summary["Subject"]
        self.sender: str = summary["From"]["Address"]
        lists = ([str(one["Address"]) for one in summary[name]] for name in ("To", "Cc", "Bcc"))
        self.to, self.cc, self.bcc = lists

    def __repr__(self) -> str:
        return f"<mail from {self.sender} to {', '.join(self.recipients)}: {self.subject!r}>"

    @property
    def recipients(self) -> list[str]:
        """`to`, `cc` and `bcc`."""
        return [*self.to, *self.cc, *self.bcc]

    @property
    def return_path(self) -> str:
        """The reverse-path of the envelope."""
        return str(self._whole["ReturnPath"])

    @property
    def text(self) -> str:
        """The plain text; "" without one."""
        return str(self._whole["Text"])

    @property
    def html(self) -> str:
        """The HTML; "" without any."""
        return str(self._whole["HTML"])

    @property
    def attachments(self) -> list[str]:
        """The file names of the attachments."""
        return [str(one["FileName"]) for one in self._whole["Attachments"]]

    @cached_property
    def headers(self) -> dict[str, list[str]]:
        """The values of each field of the header."""
        found: dict[str, list[str]] = self._server.get(f"{self._path}/headers")
        return found

    @cached_property
    def links(self) -> list[str]:
        """The addresses that the mail links to, each once."""
        found: list[str] = self._server.get(f"{self._path}/links")
        return found

    @property
    def code(self) -> str:
        """The first number of four to eight digits that stands alone. Raises AssertionError without one."""
        codes: list[str] = self._server.get(f"{self._path}/codes")
        if not codes:
            raise AssertionError(f"{self!r} has no code of four to eight digits:\n{self.shown()}")
        return codes[0]

    def shown(self) -> str:
        """The start of the text, else of the HTML."""
        return (self.text or self.html)[:MOST_TEXT]

    @cached_property
    def _whole(self) -> dict[str, Any]:
        found: dict[str, Any] = self._server.get(self._path)
        return found


class Search(NamedTuple):
    """Conditions that a mail must meet, all of them: whole addresses, and parts of subject and text."""

    to: tuple[str, ...]
    sender: str | None
    subject: Part | None
    text: Part | None

    def __str__(self) -> str:
        given = [("from", self.sender), ("with subject", self.subject), ("with text", self.text)]
        words = [f"to {one}" for one in self.to]
        words += [f"{word} {_shown(value)}" for word, value in given if value is not None]
        return " ".join(["mail", *words])

    def missed(self, mail: Mail) -> list[str]:
        """What a mail misses, in words; empty if it is the one."""
        missed = []
        here = {_key(one) for one in mail.recipients}
        for one in self.to:
            if _key(one) not in here:
                missed.append(f"to is {', '.join(mail.recipients) or 'empty'}, not {one}")
        if self.sender is not None and _key(self.sender) not in (_key(mail.sender), _key(mail.return_path)):
            missed.append(f"sender is {mail.sender}, not {self.sender}")
        if self.subject is not None and not _has(mail.subject, self.subject):
            missed.append(f"subject {mail.subject!r} does not have {_shown(self.subject)}")
        if self.text is not None and not (_has(mail.text, self.text) or _has(mail.html, self.text)):
            missed.append(f"the text does not have {_shown(self.text)}")
        return missed


def _key(address: str) -> str:
    return (parseaddr(address)[1] or address).strip(" <>").casefold()


def _has(text: str, part: Part) -> bool:
    if isinstance(part, str):
        return _folded(part) in _folded(text)
    return part.search(text) is not None


def _folded(text: str) -> str:
    return " ".join(text.casefold().split())


def _shown(part: Part) -> str:
    return repr(part if isinstance(part, str) else part.pattern)
