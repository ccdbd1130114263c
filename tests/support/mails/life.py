"""One mail's life as its id finds it in logs."""

from __future__ import annotations

import json
from typing import Any


def lines_of(log: str, mail_id: str) -> list[dict[str, Any]]:
    """The JSON lines of a log that carry the id as their own, oldest first."""
    found = []
    for line in log.splitlines():
        if line.startswith("{") and mail_id in line:
            entry = json.loads(line)
            if entry.get("id") == mail_id:
                found.append(entry)
    return found


def told(log: str, mail_id: str) -> list[str]:
    """The messages of those lines."""
    return [str(entry["message"]) for entry in lines_of(log, mail_id)]
