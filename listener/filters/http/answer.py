"""The JSON answer of an http-filter endpoint, and its meaning.

It comes from a program that may be wrong, so no part of it reaches an SMTP client or a header
unchecked. A part that cannot be understood, or could break a mail, makes the whole answer unusable
(the mail is deferred); a code or text that merely does not fit is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.header import Header
from typing import Any, Final, Literal

from functions.message.addresses import address_key
from functions.options.types import check_field_name, check_field_value
from listener.api.decision import ACCEPT, DEFER, REFUSE, Decision, Reply
from listener.filters.http.client import Unanswered

MAX_TEXT: Final = 400
"""RFC 5321 section 4.5.3.1.5 allows reply lines of 512 bytes, code and CRLF included."""

MAX_FIELDS: Final = 100

MAX_FIELD: Final = 998  # RFC 5322 section 2.1.1

_FORBIDDEN_FIELDS: Final = frozenset({"x-smtp-relay-envelope"})

_ENHANCED: Final = re.compile(r"([45]\.\d{1,3}\.\d{1,3})(?:\s+|$)")  # RFC 3463 section 2
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")  # RFC 5321 section 4.2: textstring

# 421 and 521 announce that the connection ends, which a filter cannot decide; 530 to 538 are about
# authentication (RFC 4954 section 6), and clients act on them.
_CODE: Final = re.compile(r"4[0-5]\d|5[0-5]\d")
_KEPT_BACK: Final = frozenset({421, 521, *range(530, 540)})


def decide(
    answer: Mapping[str, Any], status: Literal["accept", "refuse"], recipients: tuple[str, ...]
) -> Decision:
    """The decision of a JSON answer. `status` is the meaning of its HTTP status: the answer can add
    words to a refusal or make it a deferral, but never an acceptance. Raises Unanswered."""
    action = answer.get("action", status)
    if action not in ("accept", "refuse", "defer"):
        raise Unanswered("the answer's action is not accept, refuse or defer")
    if action == "accept":
        return _accept(answer, recipients) if status == "accept" else REFUSE
    reply = _reply(answer, action)
    plain = REFUSE if action == "refuse" else DEFER
    return Decision(action, reply) if reply is not None else plain


def _accept(answer: Mapping[str, Any], recipients: tuple[str, ...]) -> Decision:
    headers = _headers(answer.get("headers"))
    kept = _recipients(answer.get("recipients"), recipients)
    if kept is not None and not kept:
        return REFUSE
    if not headers and kept is None:
        return ACCEPT
    return Decision("accept", headers=headers, recipients=kept)


def _reply(answer: Mapping[str, Any], action: Literal["refuse", "defer"]) -> Reply | None:
    """The reply for the client; None if the answer has no words."""
    code, message = answer.get("code"), answer.get("message")
    if code is None and message is None:
        return None
    first, usual = ("5", 550) if action == "refuse" else ("4", 451)
    text = _UNPRINTABLE.sub(" ", message).strip() if isinstance(message, str) else ""
    enhanced = f"{first}.7.1"  # RFC 3463 section 3.8: delivery not authorized, message refused
    if said := _ENHANCED.match(text):
        text = text[said.end() :]
        enhanced = said[1] if said[1][0] == first else enhanced
    worded = text[:MAX_TEXT].rstrip() or ("Message refused" if action == "refuse" else "Try again later")
    return Reply(_code(code, first, usual), enhanced, worded)


def _code(code: object, first: str, usual: int) -> int:
    if isinstance(code, bool) or not isinstance(code, int | str):
        return usual
    text = str(code)
    if not _CODE.fullmatch(text) or text[0] != first or int(text) in _KEPT_BACK:
        return usual
    return int(text)


def _headers(given: object) -> tuple[tuple[str, str], ...]:
    """Fields to prepend: an object of names to one text or a list of them."""
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        raise Unanswered("the answer's headers are not an object")
    fields: list[tuple[str, str]] = []
    for name, value in given.items():
        for text in value if isinstance(value, list) else [value]:
            fields.append((name, _value(name, text)))
            if len(fields) > MAX_FIELDS:
                raise Unanswered(f"the answer has more than {MAX_FIELDS} headers")
    return tuple(fields)


def _value(name: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise Unanswered(f"the value of header {name!r} is not text")
    try:
        check_field_name(name)
        text = check_field_value(str(value)).strip()
        if not text.isascii():
            # RFC 2047; folded by blanks alone, because a field is one line here
            text = Header(text, "utf-8").encode(linesep="")
    except ValueError:
        raise Unanswered(f"header {name!r} cannot be put into a mail") from None
    if name.lower() in _FORBIDDEN_FIELDS or len(name) + 2 + len(text) > MAX_FIELD:
        raise Unanswered(f"header {name!r} cannot be put into a mail")
    return text


def _recipients(given: object, recipients: tuple[str, ...]) -> frozenset[str] | None:
    """The flow's recipients that stay; None for all. `address_key` compares addresses. Other addresses
    are ignored, because a filter cannot add recipients."""
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(address, str) for address in given):
        raise Unanswered("the answer's recipients are not a list of addresses")
    wanted = set(map(address_key, given))
    return frozenset(address for address in recipients if address_key(address) in wanted)
