"""The mails that the inbox hands to the server: composed from JSON, or taken from a stored file."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid
from pathlib import Path
from typing import Any, Final

from functions.local.view.stored import MOST, envelope_of, open_regular
from functions.message.headers import HeaderEdits, split_head

_NOT_SENT: Final = HeaderEdits({"-Bcc": "", "-Resent-Bcc": "", "-Return-Path": ""})
_KEYS: Final = {
    *("From", "To", "Cc", "Bcc", "ReplyTo", "Subject", "Text", "HTML", "Headers", "Tags", "Attachments"),
}
_SET: Final = {"from", "to", "cc", "bcc", "reply-to", "subject", "mime-version", "content-type"}
"""Fields that have keys of their own, or that the parts decide about."""

_WORD: Final = 256
"""Characters of a name, an address or a file's name: the time to encode one grows with its square."""

_FIELD: Final = 8_192
"""Characters of a field."""


def released(path: Path) -> tuple[str | None, bytes]:
    """The reverse-path of a stored mail, None if the file does not have it, and the mail as it is sent on:
    without the fields that this server wrote on top, without Bcc, the body byte for byte. Raises OSError."""
    with closing(os.fdopen(open_regular(path), "rb")) as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(0, f"the file is larger than {MOST} bytes")
    envelope = envelope_of(data)
    head, body = split_head(data[envelope.size :] if envelope else data)
    return (envelope.reverse_path if envelope else None), _NOT_SENT.kept(head) + body


def composed(value: Mapping[str, Any]) -> tuple[str, list[str], bytes]:
    """The reverse-path, recipients and bytes of a mail that Mailpit's `POST /api/v1/send` describes. Raises
    ValueError that says what is wrong."""
    if unknown := sorted(value.keys() - _KEYS):
        raise ValueError(f"unknown key {unknown[0][:100]!r}")
    sender = _mailbox(value.get("From"), "From")
    lists = {key: [_mailbox(one, key) for one in _list(value, key)] for key in ("To", "Cc", "ReplyTo")}
    hidden = [_mailbox({"Email": one}, "Bcc") for one in _list(value, "Bcc")]
    recipients = [one.addr_spec for one in (*lists["To"], *lists["Cc"], *hidden)]
    if not recipients:
        raise ValueError("No To, Cc or Bcc addresses specified")
    made = EmailMessage(SMTP.clone(max_line_length=900, utf8=not all(map(str.isascii, recipients))))
    made["From"] = sender
    for key, field in (("To", "To"), ("Cc", "Cc"), ("ReplyTo", "Reply-To")):
        if lists[key]:
            made[field] = lists[key]
    made["Subject"] = _line(value.get("Subject", ""), "Subject", _FIELD)
    headers = value.get("Headers") or {}
    if not isinstance(headers, dict):
        raise ValueError("Headers is not an object")
    for name, text in headers.items():
        if name.lower() in _SET or not name.isascii() or not name.replace("-", "").isalnum():
            raise ValueError(f"Headers: {name[:100]!r} cannot be given there")
        line = _line(text, f"Headers.{name}", _FIELD)
        try:
            made[name] = line
        except Exception as error:  # the parsers of fields raise many: IndexError, RecursionError …
            raise ValueError(f"Headers.{name}: {line[:200]!r} is no value of that field") from error
    for name, default in (("Date", formatdate()), ("Message-ID", make_msgid(domain=sender.domain or None))):
        if name not in made:
            made[name] = default
    text, markup = _text(value, "Text"), _text(value, "HTML")
    made.set_content(text)
    if markup:
        made.add_alternative(markup, subtype="html")
    _attach(made, _list(value, "Attachments"), has_markup=bool(markup))
    return sender.addr_spec, list(dict.fromkeys(recipients)), made.as_bytes()


def tags_of(value: Mapping[str, Any]) -> list[str]:
    """The tags that the mail is to have. Raises ValueError."""
    found = _list(value, "Tags")
    if not all(isinstance(one, str) for one in found):
        raise ValueError("Tags: is not a list of texts")
    return found


def _attach(made: EmailMessage, attachments: Sequence[Any], *, has_markup: bool) -> None:
    for index, one in enumerate(attachments):
        where = f"Attachments[{index}]"
        if not isinstance(one, dict):
            raise ValueError(f"{where} is not an object")
        try:
            content = base64.b64decode(str(one.get("Content", "")), validate=True)
        except binascii.Error:
            raise ValueError(f"{where}.Content is not base64") from None
        kind = _line(one.get("ContentType") or "application/octet-stream", where).partition(";")[0]
        main, slash, sub = kind.strip().partition("/")
        if not (slash and main.isascii() and sub.isascii()) or main.lower() in ("multipart", "message"):
            raise ValueError(f"{where}.ContentType {kind[:100]!r} is not a type of a file")
        name = _line(one.get("Filename", ""), where) or None
        cid = _line(one.get("ContentID", ""), where)
        shown = cid and has_markup
        target = _markup_of(made) if shown else made
        add: Any = target.add_related if shown else target.add_attachment
        how = "inline" if shown else "attachment"
        add(content, main, sub, disposition=how, filename=name, cid=f"<{cid}>" if cid else None)


def _markup_of(made: EmailMessage) -> EmailMessage:
    found = made.get_body(("html",))
    assert found is not None  # there is HTML
    return found  # type: ignore[return-value]  # typeshed names the base class; parts are of the mail's


def _mailbox(value: Any, key: str) -> Address:
    if not isinstance(value, dict) or not isinstance(value.get("Email"), str) or not value["Email"]:
        raise ValueError(f"{key}: an address has Email, and may have Name")
    name, address = _line(value.get("Name") or "", key), _line(value["Email"], key)
    try:
        return Address(name, addr_spec=address)
    except Exception as error:  # the parser of addresses raises many: IndexError, RecursionError …
        raise ValueError(f"{key}: {address[:200]!r} is not an address") from error


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key) or []
    if not isinstance(found, list):
        raise ValueError(f"{key} is not a list")
    return found


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key) or ""
    if not isinstance(found, str):
        raise ValueError(f"{key} is not text")
    return found


def _line(value: Any, where: str, most: int = _WORD) -> str:
    if not isinstance(value, str) or "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(f"{where} is not one line of text")
    if len(value) > most:
        raise ValueError(f"{where} is longer than {most} characters")
    return value
