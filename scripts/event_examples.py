"""Write what consumers of events build on, from the models of an event and the code that makes events.

python scripts/event_examples.py          write docs/examples/events/cloudevent.d.ts and its events
python scripts/event_examples.py --check  exit 1 when a committed file differs

Each event is that of the mail beside it: `reply.json` is the event of `reply.eml`.
"""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from functions.message.envelope import Client, Envelope, FlowNotes, Recipient, Tls  # noqa: E402 - the path
from functions.message.event.cloudevent import build  # noqa: E402
from functions.message.event.objects import StoredMail, StoredObject, digest_of_stream  # noqa: E402
from functions.message.mail import BytesContent, Mail  # noqa: E402
from functions.message.mime import Parts, read_parts  # noqa: E402

FOLDER: Final = ROOT / "docs" / "examples" / "events"
TYPES: Final = FOLDER / "cloudevent.d.ts"

RECEIVED: Final = 1_767_600_000_123
MAX_BYTES: Final = 1_048_576

AUTH: Final = {
    "spf": {"result": "pass", "domain": "lists.example.org", "identity": "mailfrom", "lookups": 2},
    "dkim": {
        "result": "pass",
        "signatures": [
            {
                "result": "pass",
                "domain": "example.org",
                "selector": "s1",
                "algorithm": "rsa-sha256",
                "canonicalization": "relaxed/relaxed",
                "keyBits": 2048,
            }
        ],
    },
    "dmarc": {
        "result": "pass",
        "domain": "example.org",
        "policy": "reject",
        "policyDomain": "example.org",
        "organizationalDomain": "example.org",
        "alignment": {"spf": "none", "dkim": "strict"},
    },
    "arc": {"result": "none"},
}

SAMPLES: Final[Mapping[str, Mapping[str, Any]]] = {
    "plain": {
        "envelope": {"parameters": ("BODY=8BITMIME", "SIZE=400"), "user": "ann", "transmission": "ESMTPSA"},
        "stores": "raw",
    },
    "attachments": {"stores": "parts"},
    "reply": {"stores": "raw"},
    "list": {
        "envelope": {
            "reverse_path": "bounces@lists.example.org",
            "notes": {"inbound": FlowNotes(results=AUTH)},
        }
    },
    "bounce": {
        "envelope": {"reverse_path": "", "tls": None, "transmission": "ESMTP"},
        "truncate": 120,
    },
}


def envelope(name: str, content: bytes) -> Envelope:
    facts: dict[str, Any] = {
        "id": f"019b8d2b-8c7b-7000-8000-{sorted(SAMPLES).index(name):012d}",
        "session": "019b8d2b-8c00-7000-8000-000000000000",
        "received": RECEIVED,
        "reverse_path": "ann@example.org",
        "recipients": (Recipient(address="bob@example.com", flows=("inbound",)),),
        "helo": "client.example.org",
        "client": Client(ip="192.0.2.7", port=4242, name="mail.example.org"),
        "server": "198.51.100.2:25",
        "tls": Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384"),
        "transmission": "ESMTPS",
        "size": len(content),
    }
    return Envelope(**{**facts, **SAMPLES[name].get("envelope", {})})


def stored(kind: str, folder: str, content: bytes, parts: Parts) -> StoredMail:
    """The objects that an output would have stored under the prefix `folder`."""

    def one(key: str, data: bytes) -> StoredObject:
        return StoredObject(
            f"s3://inbound-mail/{key}", "inbound-mail", key, digest_of_stream(io.BytesIO(data))
        )

    if kind == "raw":
        return StoredMail({"raw": one(f"{folder}.eml", content)})
    found = StoredMail({"raw": one(f"{folder}/raw.eml", content)})
    for number, attachment in enumerate(parts.attachments):
        key = f"{folder}/attachments/{attachment.filename}"
        found.attachments[number] = one(key, attachment.payload())
    found.named["manifest"] = one(f"{folder}/manifest.json", b"")
    return found


def event(name: str) -> dict[str, Any]:
    """The event of one sample."""
    content = (FOLDER / f"{name}.eml").read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    about = envelope(name, content)
    parts = read_parts(Mail(about, BytesContent(content)), "inbound")
    kind = SAMPLES[name].get("stores")
    made = build(
        about,
        parts,
        flow="inbound",
        stored=stored(kind, about.id, content, parts) if kind else None,
        text_limit=SAMPLES[name].get("truncate", 8192),
        max_bytes=MAX_BYTES,
    )
    found: dict[str, Any] = json.loads(made)
    return found


def typescript(schema: Mapping[str, Any]) -> str:
    """The schema as interfaces of TypeScript."""
    lines = ["// Made by scripts/event_examples.py from cloudevent.schema.json: do not edit.", ""]
    whole = {name: part for name, part in schema.items() if name not in ("$schema", "$id", "$defs", "title")}
    for name, part in {"MailEvent": whole, **schema["$defs"]}.items():
        lines += [f"/** {part['description']} */", f"export interface {name} {{"]
        for key, about in part["properties"].items():
            mark = "" if key in part.get("required", ()) else "?"
            lines += [f"  /** {about['description']} */", f"  {key}{mark}: {_type(about)};"]
        lines += ["}", ""]
    return "\n".join(lines)


def _type(about: Mapping[str, Any]) -> str:
    if "$ref" in about:
        return str(about["$ref"].rpartition("/")[2])
    if "const" in about or "enum" in about:
        return " | ".join(json.dumps(value) for value in about.get("enum", [about.get("const")]))
    if about["type"] == "array":
        return f"{_type(about['items'])}[]"
    return {"integer": "number"}.get(about["type"], str(about["type"]))


def files() -> Iterator[tuple[Path, str]]:
    """Every file that this script writes, with its content."""
    from listener.cli.schema import event_schema

    yield TYPES, typescript(event_schema())
    for name in SAMPLES:
        yield FOLDER / f"{name}.json", json.dumps(event(name), indent=2, ensure_ascii=False) + "\n"


def main() -> int:
    stale = [(path, text) for path, text in files() if not path.exists() or path.read_text("utf-8") != text]
    if "--check" in sys.argv:
        for path, _ in stale:
            print(f"{path.relative_to(ROOT)} is not up to date: run scripts/event_examples.py")
        return 1 if stale else 0
    for path, text in stale:
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
