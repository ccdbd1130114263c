"""Mails as npm's mailparser and Python's email package read them, to compare with."""

from __future__ import annotations

import base64
import contextlib
import email
import json
import shutil
from collections.abc import Sequence
from datetime import UTC
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.programs import NODE_MODULES, run

FIELDS: Final = ("from", "to", "cc", "subject", "date", "text", "html", "attachments")


def by_mailparser(mails: Sequence[bytes]) -> list[dict[str, Any]]:
    """The fields of each mail. Skips the test if mailparser is not installed."""
    node = shutil.which("node")
    if node is None or not (NODE_MODULES / "mailparser").exists():
        pytest.skip("npm's mailparser is missing (`make test` installs it)")
    sent = json.dumps([base64.b64encode(mail).decode() for mail in mails]).encode()
    script = Path(__file__).with_name("read.cjs")
    done = run([node, script], stdin=sent, env={"NODE_PATH": str(NODE_MODULES)})
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def by_python(mail: bytes) -> dict[str, Any]:
    """The fields of a mail; what the package cannot read is empty."""
    message = email.message_from_bytes(mail, policy=default)
    assert isinstance(message, EmailMessage)
    found: dict[str, Any] = {"subject": "", "date": None}
    for name in ("from", "to", "cc"):
        found[name] = []
        with contextlib.suppress(Exception):
            found[name] = [
                [box.display_name, box.addr_spec]
                for field in message.get_all(name, [])
                for box in field.addresses
            ]
    with contextlib.suppress(Exception):
        found["subject"] = str(message["subject"] or "")
    with contextlib.suppress(Exception):
        date = parsedate_to_datetime(str(message["date"]))
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        iso = date.astimezone(UTC).isoformat(timespec="milliseconds")
        found["date"] = iso.replace("+00:00", "Z")
    texts: dict[str, list[str]] = {"text/plain": [], "text/html": []}
    names: list[str] = []
    with contextlib.suppress(Exception):
        for part in message.walk():
            kind = part.get_content_type()
            if kind in texts and part.get_content_disposition() != "attachment":
                texts[kind].append(part.get_content())  # type: ignore[attr-defined]
            elif part.get_content_maintype() != "multipart" and part.get_filename():
                names.append(str(part.get_filename()))
    found |= {"text": "\n".join(texts["text/plain"]), "html": "\n".join(texts["text/html"])}
    return found | {"attachments": names}
