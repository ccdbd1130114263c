"""One mail as Mailpit's API shows it: its texts, parts and header."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, timedelta, timezone
from html import unescape
from typing import Any, Final

from functions.local.view.stored import MOST, StoredFile, open_regular, read_stored
from functions.message.charset import decode
from functions.message.fields import iter_fields
from functions.message.headers import head_size
from functions.message.html_text import text_of_html
from functions.message.mime import Parts
from functions.message.reading.structure import Leaf
from listener.inbox.entry import is_attachment, is_inline, people_of, return_path_of, subject_of, unfolded
from listener.inbox.index import address_json
from listener.inbox.mailbox import Row, go_time

_HEAD: Final = 1_048_576
_OFFSET: Final = re.compile(r" ([+-])([01][0-9])([0-5][0-9])(?:\s|\Z)")
_LINK: Final = re.compile(r"<([^<>]*)>")
_COMMENT: Final = re.compile(r"\([^()]*\)")
_CODE: Final = re.compile(
    r"(?<![\w.,:/@#$€£+-])(?<!© )(?<!\([cC]\) )(?<!opyright )(\d{3}[ -]\d{3}|\d{4,8})(?![\w/@-]|[.,:]\d)"
)
_PHONE: Final = re.compile(r"\+\d[\d ().-]{6,20}")
_URL: Final = re.compile(r"https?://[^\s<>\"'\[\]]{1,8192}", re.IGNORECASE)
# Each run has a bound, because a mail may hold millions of beginnings that never end.
_HREF: Final = re.compile(
    r"<a\s[^<>]{0,2000}?(?<![\w-])href\s{0,20}=\s{0,20}"
    r"(?:\"([^\"]{1,8192})\"|'([^']{1,8192})'|([^\s\"'>]{1,8192}))",
    re.IGNORECASE,
)
_MOST_LINKS: Final = 1_000
_MOST_CODES: Final = 100


class ShownMail:
    """One stored mail, read as a whole. Raises FileNotFoundError if its file is gone."""

    def __init__(self, row: Row) -> None:
        self.row = row
        self.mail: StoredFile = read_stored(row.path, trusted=True, most=MOST)
        if self.mail.parts is None:
            raise FileNotFoundError(row.path)
        self.parts: Parts = self.mail.parts

    def as_json(self, tags: list[str]) -> dict[str, Any]:
        """Mailpit's Message."""
        parts = self.parts
        people = people_of(self.mail, parts)
        return {
            "ID": self.row.id,
            "MessageID": (parts.message_id or "").strip("<>"),
            "From": address_json(people.sender),
            "To": [address_json(one) for one in people.to],
            "Cc": [address_json(one) for one in people.cc],
            "Bcc": [address_json(one) for one in people.bcc],
            "ReplyTo": [address_json(one) for one in people.reply_to],
            "ReturnPath": return_path_of(self.mail, parts),
            "Subject": subject_of(parts),
            "ListUnsubscribe": list_unsubscribe(dict(reversed([(n.lower(), v) for n, v in parts.fields]))),
            "Date": _date(parts) or go_time(self.row.created),
            "Tags": tags,
            "Username": self.mail.envelope.user if self.mail.envelope else "",
            "Text": parts.text or "",
            "HTML": parts.html or "",
            "Size": self.mail.size,
            "Inline": [_attachment(one) for one in parts.leaves if is_inline(one)],
            "Attachments": [
                _attachment(one)
                for one in parts.leaves
                if is_attachment(one) and (one.filename or one.content_id)
            ],
        }

    def part(self, part_id: str) -> Leaf | None:
        """The part with that id."""
        shown = (one for one in self.parts.leaves if is_inline(one) or is_attachment(one))
        return next((one for one in shown if part_id_of(one) == part_id), None)

    def links(self) -> list[str]:
        """The addresses of the web that the mail links to, each once: those of its HTML, then those of its
        text."""
        markup = self.parts.html or ""
        found = [next(filter(None, each.groups())) for each in _HREF.finditer(markup)]
        named = [unescape(one).strip() for one in found]
        plain = [_without_end(each[0]) for each in _URL.finditer(self.parts.text or "")]
        urls = [one for one in [*named, *plain] if one.lower().startswith(("http://", "https://"))]
        return list(dict.fromkeys(urls))[:_MOST_LINKS]

    def codes(self) -> list[str]:
        """The numbers of four to eight digits that stand alone, as codes to log in do."""
        text = self.parts.text or (text_of_html(self.parts.html) if self.parts.html else "")
        whole = f"{self.parts.subject or ''}\n{_PHONE.sub(' ', _URL.sub(' ', text))}"
        codes = (re.sub(r"[ -]", "", found[1]) for found in _CODE.finditer(whole))
        return list(dict.fromkeys(codes))[:_MOST_CODES]


def _without_end(url: str) -> str:
    """The URL without what ends the sentence that it stands in."""
    url = url.rstrip(".,;:!?'")
    return url.rstrip(").,;:!?'") if url.endswith(")") and "(" not in url else url


def headers_of(row: Row) -> dict[str, list[str]]:
    """The header of the stored file by names as Go writes them, in their order. Raises OSError."""
    with closing(os.fdopen(open_regular(row.path), "rb")) as file:
        data = file.read(_HEAD)
    if b"\r\n" not in data[:4_096]:
        data = data.replace(b"\n", b"\r\n")
    found: dict[str, list[str]] = {}
    for name, value in iter_fields(unfolded(data[: head_size(data)])):
        words = decode(name).strip().split("-")
        found.setdefault("-".join(word.capitalize() for word in words), []).append(decode(value).strip())
    return dict(sorted(found.items()))


def part_id_of(leaf: Leaf) -> str:
    """Mailpit's id of a part: `0` for the only one, `2`, or `1.2` for a part of a part."""
    return ".".join(str(number) for number in leaf.place) or "0"


def list_unsubscribe(fields: Mapping[str, str]) -> dict[str, Any]:
    """Mailpit's ListUnsubscribe of a header, by names in lower case."""
    header = fields.get("list-unsubscribe", "").strip()
    links, mistakes = _unsubscribe_links(header) if header else ([], [])
    return {
        "Header": header,
        "Links": links,
        "Errors": ", ".join(mistakes),
        "HeaderPost": fields.get("list-unsubscribe-post", "") if header else "",
    }


def _unsubscribe_links(header: str) -> tuple[list[str], list[str]]:
    """The links of a List-Unsubscribe field (RFC 2369 section 3.2), and what is wrong with it."""
    text = _COMMENT.sub("", header[:8_192]).strip()
    found = _LINK.findall(text)
    if not found:
        return [], [f'"{text}" no valid unsubscribe links found']
    if not (text.startswith("<") and text.endswith(">")):
        return [], [f'"{text}" should be enclosed in <>']
    if len(found) > 2:
        return [], [f'"{text}" should include a maximum of one email and one HTTP link']
    if any(">" in piece and piece.partition(">")[2].strip() != "," for piece in text.split("<")[:-1]):
        return [], [f'"{text}" <> should be split with a comma and optional spaces']
    links: list[str] = []
    mistakes: list[str] = []
    kinds: set[str] = set()
    for link in found:
        lower = link.lower()
        kind = "mailto:" if link.startswith("mailto:") else "HTTP link"
        if re.search(r"\s", link):
            mistakes.append(f'"{link}" should not contain spaces')
        elif not (link.startswith("mailto:") or lower.startswith(("http://", "https://"))):
            mistakes.append(f'"{link}" should start with either http(s):// or mailto:')
        elif kind in kinds:
            mistakes.append(f'"{link}" should only contain one {kind}')
        else:
            kinds.add(kind)
            links.append(link)
    return links, mistakes


def _attachment(leaf: Leaf) -> dict[str, Any]:
    content = leaf.payload()
    return {
        "PartID": part_id_of(leaf),
        "FileName": leaf.filename or leaf.content_id,
        "ContentType": leaf.content_type,
        "ContentID": leaf.content_id,
        "Size": len(content),
        "Checksums": {
            "MD5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "SHA1": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
            "SHA256": hashlib.sha256(content).hexdigest(),
        },
    }


def _date(parts: Parts) -> str:
    """The Date field as Go writes it: `Z` for UTC, else the field's own offset; "" without one."""
    date = parts.date
    if date is None:
        return ""
    stated = next((value for name, value in parts.fields if name.lower() == "date"), "")
    found = _OFFSET.search(stated)
    minutes = (int(found[2]) * 60 + int(found[3])) * (-1 if found[1] == "-" else 1) if found else 0
    if minutes:
        return date.astimezone(timezone(timedelta(minutes=minutes))).isoformat(timespec="seconds")
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
