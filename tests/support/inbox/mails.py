"""Stored mails as an output of type `file` writes them."""

from __future__ import annotations

from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path

from functions.ids import uuid7

MOMENT = 1_767_225_600_000
"""2026-01-01T00:00:00Z in Unix milliseconds."""


def block(
    *recipients: str,
    sender: str = "env@h.example",
    user: str = "",
    mail_id: str | None = None,
    ms: int = MOMENT,
) -> bytes:
    """The counted block of `addRawHeaders`."""
    lines = [
        f"Return-Path: <{sender}>",
        f"X-smtp-relay-ID: {mail_id or uuid7(ms)}",
        f"X-smtp-relay-FIELDS: {len(recipients) + 7}",
        *(f"X-smtp-relay-RCPT_TO: {each}" for each in recipients),
        f"X-smtp-relay-MAIL_FROM: {sender}",
        f"X-smtp-relay-USER: {user}",
        "X-smtp-relay-CLIENT_HOSTNAME: [127.0.0.1]",
        "X-smtp-relay-HELO: here",
    ]
    return "".join(f"{line}\r\n" for line in lines).encode()


def mail(subject: str = "Hello", text: str = "How are you?\n", **fields: str) -> EmailMessage:
    """A mail; `fields` are more of its header, with `_` for `-`."""
    made = EmailMessage(policy=SMTP)
    for name, value in {"From": "Ann <ann@h.example>", "To": "Bob <bob@h.example>", **fields}.items():
        made[name.replace("_", "-")] = value
    made["Subject"] = subject
    made.set_content(text)
    return made


def store(folder: Path, name: str, content: bytes | EmailMessage, top: bytes | None = None) -> Path:
    """Place a file as the output does: it appears whole. `top` is its block (default: to bob@h.example)."""
    folder.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else content.as_bytes()
    hidden = folder / f".{name}.tmp"
    hidden.write_bytes((block("bob@h.example") if top is None else top) + data)
    hidden.rename(folder / name)
    return folder / name
