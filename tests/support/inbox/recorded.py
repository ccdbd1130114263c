"""The recorded facts about Mailpit's API, and the mails with what it shows of them (tests/data/inbox)."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.inbox.mails import block, store

DATA: Final = Path(__file__).resolve().parents[2] / "data" / "inbox"
MAILS: Final = sorted(path.stem for path in (DATA / "mails").glob("*.eml"))
API: Final[dict[str, Any]] = json.loads((DATA / "api.json").read_text())
_MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?(Z|[+-]\d\d:\d\d)")


@dataclass(frozen=True)
class Recorded:
    """A fixed mail and what the API has to show of it."""

    name: str
    content: bytes
    expected: dict[str, Any]

    def place(self, folder: Path) -> Path:
        """Store it as the output does, received at `MOMENT`."""
        told = self.expected["envelope"]
        top = block(*told["to"], sender=told["from"], user=told["user"])
        return store(folder, f"{self.name}.eml", self.content, top)

    def message(self, mail_id: str, size: int) -> dict[str, Any]:
        """Mailpit's Message."""
        found = dict(self.expected["message"])
        for name in ("Inline", "Attachments"):
            found[name] = [_attachment(one) for one in found[name]]
        return {"ID": mail_id, "Size": size, **found}

    def summary(self, mail_id: str, size: int) -> dict[str, Any]:
        """Mailpit's MessageSummary, before the mail is read."""
        shared = ("MessageID", "From", "To", "Cc", "Bcc", "ReplyTo", "Subject", "Tags", "Username")
        return {
            "ID": mail_id,
            "Size": size,
            "Read": False,
            "Created": "2026-01-01T00:00:00Z",
            **{name: self.expected["message"][name] for name in shared},
            **self.expected["summary"],
        }

    def contents(self) -> dict[str, bytes]:
        """The content of each listed part, by its id."""
        parts = (*self.expected["message"]["Inline"], *self.expected["message"]["Attachments"])
        return {one["PartID"]: _content(one) for one in parts}


def recorded(name: str) -> Recorded:
    """The fixed mail of that name."""
    path = DATA / "mails" / name
    expected = json.loads(path.with_suffix(".json").read_text())
    return Recorded(name, path.with_suffix(".eml").read_bytes(), expected)


def _content(one: dict[str, Any]) -> bytes:
    return base64.b64decode(one["Base64"]) if "Base64" in one else str(one["Content"]).encode()


def _attachment(one: dict[str, Any]) -> dict[str, Any]:
    content = _content(one)
    return {
        **{name: one[name] for name in ("PartID", "FileName", "ContentType", "ContentID")},
        "Size": len(content),
        "Checksums": {
            "MD5": hashlib.md5(content, usedforsecurity=False).hexdigest(),
            "SHA1": hashlib.sha1(content, usedforsecurity=False).hexdigest(),
            "SHA256": hashlib.sha256(content).hexdigest(),
        },
    }


def mismatches(value: Any, kind: str, where: str = "") -> list[str]:
    """What is wrong with a value of a type of `api.json`: each field that is missing, too much, or of
    another type."""
    types = API["types"]
    if kind.startswith("[]"):
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        return [one for at, each in enumerate(value) for one in mismatches(each, kind[2:], f"{where}[{at}]")]
    if kind.startswith("map[string]"):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        kind = kind.removeprefix("map[string]")
        return [one for name, each in value.items() for one in mismatches(each, kind, f"{where}.{name}")]
    if kind not in types:
        return [] if _is(value, kind) else [f"{where}: {value!r} is no {kind}"]
    if not isinstance(value, dict):
        return [f"{where}: {value!r} is no {kind}"]
    found = [f"{where}.{name}: unknown" for name in value if name not in types[kind]]
    for name, (inner, _) in types[kind].items():
        if name in value:
            found += mismatches(value[name], inner.removesuffix("?"), f"{where}.{name}")
        elif not inner.endswith("?"):
            found.append(f"{where}.{name}: missing")
    return found


def _is(value: Any, kind: str) -> bool:
    if kind == "moment":
        return isinstance(value, str) and _MOMENT.fullmatch(value) is not None
    if kind in ("int", "uint64"):
        return type(value) is int and (kind == "int" or value >= 0)
    return {"string": str, "bool": bool, "null": type(None)}[kind] is type(value)
