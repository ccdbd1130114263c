"""One mail to read, and the fields of its event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

TOP: Final = b"From: Cleo <cleo@sender.example>\r\nTo: dan@taker.example\r\nSubject: hello\r\n"
MIME: Final = TOP + b"MIME-Version: 1.0\r\n"


class Case(NamedTuple):
    """`expected` has fields of `seen`. `kind` groups the cases that test one rule."""

    kind: str
    name: str
    mail: bytes
    expected: Mapping[str, Any]


def octets(text: str | bytes) -> bytes:
    """Bytes of a text in UTF-8 with CRLF line ends."""
    data = text.encode() if isinstance(text, str) else text
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def fields(**values: str | bytes) -> bytes:
    """A mail with these fields on top; `reply_to` is Reply-To."""
    head = b"".join(
        name.title().replace("_", "-").encode() + b": " + octets(value) + b"\r\n"
        for name, value in values.items()
    )
    return head + b"\r\ntext\r\n"


def part(content_type: str | bytes, body: str | bytes, *more: str) -> bytes:
    """A part, or the MIME fields and the body of a mail."""
    lines = [b"Content-Type: " + octets(content_type), *map(octets, more)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + octets(body)


def plain(body: str | bytes, *more: str, charset: str = "utf-8") -> bytes:
    return part(f"text/plain; charset={charset}", body, *more)


def markup(body: str | bytes, *more: str, charset: str = "utf-8") -> bytes:
    return part(f"text/html; charset={charset}", body, *more)


def multi(subtype: str, *parts: bytes, boundary: str = "=_part") -> bytes:
    """A multipart, as a part or as the rest of a mail."""
    line = b"--" + boundary.encode()
    body = b"".join(line + b"\r\n" + each + b"\r\n" for each in parts) + line + b"--\r\n"
    return f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode() + body


def named(disposition: str, content: bytes = b"12345") -> bytes:
    """A mail with one attachment whose Content-Disposition is this."""
    return MIME + multi("mixed", plain("look"), part("application/x-thing", content, disposition))


def seen(email: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `data.email` in the form of the cases: addresses and attachments as pairs, texts without
    line ends at their end, and everything that is missing as None."""

    def mailboxes(value: Any) -> list[tuple[str, str]]:
        objects = value if isinstance(value, list) else [value] if value else []
        return [(one["name"], one["address"]) for each in objects for one in each["value"]]

    def text(value: Any) -> str | None:
        return value.rstrip("\n") if isinstance(value, str) else None

    return {
        **{name: mailboxes(email.get(name)) for name in ("from", "to", "cc", "bcc")},
        **{name: email.get(name) for name in ("subject", "date", "replyTo")},
        "text": text(email.get("text")),
        "html": text(email.get("html")),
        "attachments": [(one["filename"], one["size"]) for one in email.get("attachments", [])],
    }
