"""Golden recordings: one version's spool and receipts, for later versions to read.

A recording is a folder of `tests/unit/functions/golden`, made by `tests.support.golden.record`. Its
mails are named by their state when the recording version stopped; the next servers answered them by
`answer`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from functions.message.envelope import Envelope, Refused
from tests.support.mails.spooled import envelope_of
from tests.support.servers.relay import ROOT
from tests.support.servers.smarthost import SILENCE, Heard, Script, Smarthost

GOLDEN: Final = ROOT / "tests" / "unit" / "functions" / "golden"

MAILS: Final[Mapping[str, tuple[str, ...]]] = {
    "claimed": ("silent-first@example.org",),
    "receipts": ("silent-second@example.org",),
    "done": ("fine@example.org",),
    "partly": ("fine@example.org", "later-first@example.org"),
    "waiting": ("later-first@example.org",),
    "parked": ("never-first@example.org",),
    "partly-refused": ("fine@example.org", "never-first@example.org"),
    "dropped": ("never-first@example.org", "later-second@example.org"),
    "replayed": ("never-first@example.org",),
    "kept": ("fine@example.org",),
    "fresh": ("fine@example.org",),
}
"""The recipients of each mail; every mail goes to the next servers `first` and then `second`.

`claimed` and `receipts`: a server has the mail and has not answered. `done`: all recipients have
the mail, and the process ended before it wrote more than receipts. `partly`, `waiting`: a recipient
is left for a retry. `parked`, `partly-refused`: a recipient was refused. `dropped`: the operator
dropped its dead record. `replayed`: the operator replayed it, and no run began since. `kept`: it
was finished, and replayed from its copy. `fresh`: no run began.
"""

_SUBJECT: Final = re.compile(rb"^Subject: (.+?)\r?$", re.MULTILINE)


def recordings(name: str) -> list[Path]:
    """The files or folders of that name in all recordings, oldest version first."""
    return sorted(GOLDEN.glob(f"recorded-*/{name}"))


def content_of(name: str) -> bytes:
    """The mail of that name."""
    head = f"From: Ada <ada@example.com>\r\nTo: bob@example.org\r\nSubject: {name}\r\n"
    return f"{head}\r\nI am {name}.\r\n".encode()


def new_envelope(name: str) -> Envelope:
    """Its envelope, received now. A recipient of `parked` was refused after DATA."""
    spam = Refused(address="spam@example.org", reason="refused after DATA: 550 no", code="5.7.1")
    refused = (spam,) if name == "parked" else ()
    return envelope_of(content_of(name), recipients=MAILS[name], refused=refused)


def name_of(content: bytes) -> str:
    """The name of the mail with this content."""
    found = _SUBJECT.search(content)
    assert found is not None, content
    return found[1].decode()


def answer(server: str) -> Script:
    """The answer of the next server of that name while the recording was made."""

    def script(heard: Heard) -> str | None:
        if heard.verb == "RCPT" and heard.address.startswith(f"later-{server}@"):
            return "450 4.2.1 Come again later"
        if heard.verb == "RCPT" and heard.address.startswith(f"never-{server}@"):
            return "550 5.1.1 Nobody of that name"
        if heard.verb == "." and any(f"<silent-{server}@" in line for line in heard.session.rcpts):
            heard.take()
            return SILENCE
        return None

    return script


def copies(server: str, host: Smarthost) -> Counter[tuple[str, ...]]:
    """How often each recipient of each mail got it from a next server, as (server, mail, local part)."""
    return Counter(
        (server, name_of(taken.content), each.partition("@")[0])
        for taken in host.taken
        for each in taken.recipients
    )


def once(*effects: str) -> Counter[tuple[str, ...]]:
    """Each of these effects once; an effect is written as `server mail local-part`."""
    return Counter(tuple(each.split()) for each in effects)


def write_json(path: Path, value: Any) -> None:
    """Write a file of a recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read one."""
    return json.loads(path.read_text())
