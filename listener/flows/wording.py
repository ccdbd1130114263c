"""Replies to a client when the flows refuse or defer (RFC 5321 section 4.3.2, docs/concepts.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final, Literal

from functions.message.text import one_line
from listener.api.decision import Exact, Phase, Reply

Kind = Literal["refuse", "defer"]

_MAX_TEXT: Final = 480  # RFC 5321 section 4.5.3.1.5: a reply line is 512 bytes with codes and CRLF

_ENHANCED: Final = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")  # RFC 3463 section 2

_STANDARD: Final[Mapping[tuple[Phase, Kind], Reply]] = {
    (Phase.CONNECT, "refuse"): Reply(554, "5.7.1", "No mail is accepted from this client"),
    (Phase.CONNECT, "defer"): Reply(421, "4.7.0", "Service not available now, try again later"),
    (Phase.AUTH, "refuse"): Reply(535, "5.7.8", "Authentication credentials invalid"),
    (Phase.AUTH, "defer"): Reply(454, "4.7.0", "Temporary authentication failure"),
    (Phase.MAIL, "refuse"): Reply(550, "5.7.1", "No mail is accepted from this sender"),
    (Phase.MAIL, "defer"): Reply(451, "4.7.1", "This cannot be decided now, try again later"),
    (Phase.RCPT, "refuse"): Reply(550, "5.7.1", "No mail is accepted for this recipient"),
    (Phase.RCPT, "defer"): Reply(451, "4.7.1", "This cannot be decided now, try again later"),
    (Phase.DATA, "refuse"): Reply(550, "5.7.1", "This mail is not accepted"),
    (Phase.DATA, "defer"): Reply(451, "4.7.1", "This cannot be decided now, try again later"),
}

# The permitted codes of a filter's own reply. RFC 5321 section 4.3.2 lists those of each command;
# RFC 7504 adds 521 and 556. A greeting is 220, 554 or 421, whatever the filter answers.
_CODES: Final[Mapping[tuple[Phase, Kind], frozenset[int]]] = {
    (Phase.CONNECT, "refuse"): frozenset({521, 554}),
    (Phase.CONNECT, "defer"): frozenset({421}),
    (Phase.AUTH, "refuse"): frozenset({535}),
    (Phase.AUTH, "defer"): frozenset({454}),
    (Phase.MAIL, "refuse"): frozenset({550, 551, 552, 553, 555, 556}),
    (Phase.MAIL, "defer"): frozenset({450, 451, 452}),
    (Phase.RCPT, "refuse"): frozenset({550, 551, 552, 553, 555, 556}),
    (Phase.RCPT, "defer"): frozenset({450, 451, 452}),
    (Phase.DATA, "refuse"): frozenset({550, 551, 552, 553, 554, 556}),
    (Phase.DATA, "defer"): frozenset({450, 451, 452}),
}


def worded(phase: Phase, kind: Kind, own: Reply | None) -> Reply:
    """The reply to send at `phase`: the filter's own, adapted to it, else the standard one.

    A filter's code stays if the command permits it; its enhanced code (RFC 3463) stays if it is of
    the same class. `reply_text` makes its text harmless. An `Exact` one stays as it is.
    """
    standard = _STANDARD[phase, kind]
    if own is None:
        return standard
    if isinstance(own, Exact):
        return own
    code = own.code if own.code in _CODES[phase, kind] else standard.code
    fits = _ENHANCED.fullmatch(own.enhanced) is not None and own.enhanced[0] == str(code // 100)
    return Reply(code, own.enhanced if fits else standard.enhanced, reply_text(own.text) or standard.text)


def reply_text(text: str) -> str:
    """Text fit for one reply line: printable ASCII (RFC 5321 section 4.2), at most 480 bytes."""
    return one_line(text[:_MAX_TEXT]).encode("ascii", "replace").decode()


def authentication_required(message: str | None) -> Reply:
    """530 (RFC 4954 section 6), with the operator's own words if configured."""
    return Reply(530, "5.7.0", reply_text(message or "") or "Authentication required")
