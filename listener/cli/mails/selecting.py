"""The mail that a word on the command line means: `latest`, the start of an id, or a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from functions.errors import ConfigError

LATEST: Final = "latest"

NAMES: Final = "`latest`, an id, the first characters of an id, or the path of a stored file"


def one_word(action: str, words: Sequence[str]) -> str:
    """The only word of an action, `latest` without one. Raises ConfigError for several."""
    if len(words) > 1:
        raise ConfigError(action, f"takes one mail, not {len(words)}", f"give {NAMES}")
    return words[0] if words else LATEST


def chosen_id(word: str, mails: Iterable[tuple[str, float]]) -> str | None:
    """The id that `word` means among mails (id, time); None if there is no such mail. Raises ConfigError
    if the word is the start of several ids."""
    found: dict[str, float] = {}
    for mail_id, when in mails:
        if word == LATEST or mail_id.startswith(word.lower()):
            if mail_id == word.lower():
                return mail_id
            found[mail_id] = when
    if word != LATEST and len(found) > 1:
        raise ambiguous(word, found)
    return max(found, key=lambda each: (found[each], each)) if found else None


def ambiguous(word: str, ids: Iterable[str]) -> ConfigError:
    """The message about a word that is the start of several ids."""
    some = sorted(set(ids))
    shown = ", ".join(some[:3]) + (" …" if len(some) > 3 else "")
    return ConfigError(word, f"is the start of {len(some)} ids: {shown}", "give more characters")


def is_path(word: str) -> bool:
    """True if a word names a file."""
    return "/" in word or os.path.isfile(word)  # noqa: PTH113 - a name may be too long for pathlib


def clock(ms: float, *, day: bool = True) -> str:
    """Unix milliseconds as this machine's time."""
    try:
        when = datetime.fromtimestamp(ms / 1000)
    except (ValueError, OverflowError, OSError):
        return "at an unknown time"
    return f"{when:%Y-%m-%d %H:%M:%S}" if day else f"{when:%H:%M:%S}"


def path_list(sender: str, recipients: Sequence[str]) -> str:
    """`from → to`, with at most three recipients."""
    more = f" (+{len(recipients) - 3})" if len(recipients) > 3 else ""
    return f"{sender or '<>'} → {', '.join(recipients[:3]) or '?'}{more}"
