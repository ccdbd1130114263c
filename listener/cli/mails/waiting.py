"""Waits for a stored mail that meets conditions, and says what the nearest ones miss."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from functions.local.view.folders import Found
from functions.local.view.stored import StoredFile
from functions.message.addresses import address_key, parse_addresses
from listener.cli.mails.stored import StoredMails

TICK: Final = 0.1
"""Seconds between two looks at the times of the folders."""

NEAREST: Final = 3

_KEPT: Final = 1_000
"""Mails that did not match and are remembered for the message at the end."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """The mail that is waited for. Every condition that is given must be met: `to` and `sender` are
    addresses, `subject` a part of the subject in any case."""

    to: tuple[str, ...] = ()
    sender: str | None = None
    subject: str | None = None

    def missed(self, mail: StoredFile) -> list[str]:
        """What a mail misses, in words; empty if it is the one."""
        missed = []
        if mail.error:
            missed.append(mail.error)
        here = {address_key(each) for each in recipients_of(mail)}
        for address in self.to:
            if address_key(address) not in here:
                missed.append(f"to is {', '.join(mail.recipients) or 'empty'}, not {address}")
        if self.sender is not None and address_key(self.sender) not in senders_of(mail):
            missed.append(f"from is {mail.sender or '<>'}, not {self.sender}")
        if self.subject is not None and _fold(self.subject) not in _fold(mail.subject):
            missed.append(f"subject {mail.subject!r} does not contain {self.subject!r}")
        return missed


def recipients_of(mail: StoredFile) -> set[str]:
    """The addresses that a mail is to: those of the envelope, and those of To, Cc and Bcc."""
    found = set(mail.recipients)
    if mail.parts is not None:
        found |= {one.address for one in (*mail.parts.to, *mail.parts.cc, *mail.parts.bcc)}
    return found


def senders_of(mail: StoredFile) -> set[str]:
    """The addresses that a mail is from, compared as `address_key` does: the reverse-path and From."""
    found = {address_key(mail.sender)}
    if mail.parts is not None:
        found |= {address_key(one.address) for one in mail.parts.from_}
    return found


def plain_address(text: str) -> str:
    """The address in what a person typed: `Ann <ann@example.com>` or `<ann@example.com>` too."""
    found = [one.address for one in parse_addresses(text.encode("utf-8", "replace")) if one.address]
    return found[0] if len(found) == 1 else text.strip()


class Watch:
    """The files that come into the folders, each once. `since` is Unix time: older files are left out."""

    def __init__(self, mails: StoredMails, since: float) -> None:
        self._mails = mails
        self._since = since

    def new(self) -> list[Found]:
        """The files since the last call, the oldest first."""
        found = [one for folder in self._mails.folders for one in folder.scan_new()]
        return sorted((one for one in found if one.came >= self._since), key=lambda one: one.came)

    def follow(self, until: Callable[[], bool]) -> Iterator[StoredFile]:
        """Mails as they come, until `until` is true."""
        while True:
            for one in self.new():
                yield self._mails.read(one)
            if until():
                return
            time.sleep(TICK)


def wait_for(
    mails: StoredMails, conditions: Conditions, since: float, timeout: float
) -> tuple[StoredFile | None, list[tuple[StoredFile, list[str]]]]:
    """The first mail that meets the conditions, among those that came since `since` (Unix time) or come
    within `timeout` seconds; None at the time-out. Then the nearest mails with what each misses."""
    end = time.monotonic() + timeout
    others: list[tuple[StoredFile, list[str]]] = []
    for mail in Watch(mails, since).follow(lambda: time.monotonic() >= end):
        missed = conditions.missed(mail)
        if not missed:
            return mail, []
        others.append((mail.without_content(), missed))
        if len(others) > _KEPT:
            others = _nearest(others, _KEPT // 2)
    return None, _nearest(others, NEAREST)


def _nearest(others: list[tuple[StoredFile, list[str]]], count: int) -> list[tuple[StoredFile, list[str]]]:
    """Those that miss least, the newest first among equals."""
    return sorted(others, key=lambda each: (len(each[1]), -each[0].time))[:count]


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
