"""What several commands share: arguments, kinds of values, and the file that a command makes."""

from __future__ import annotations

import os
import re
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any, Final

from functions.errors import ConfigError
from listener.config.overrides import MAX_PORT

CONFIG: Final[dict[str, Any]] = {
    "type": Path,
    "metavar": "CONFIG",
    "help": "the configuration; else ./smtp-relay.jsonc, .json, .yaml or .yml, else a debug server on "
    "localhost:10025 that stores into ./received_emails/",
}

_DIGITS: Final = re.compile("[0-9]{1,5}")
_LONGEST: Final = 86_400.0


def port(text: str) -> int:
    """A port to connect to. Raises ArgumentTypeError."""
    if not _DIGITS.fullmatch(text) or not 0 < int(text) <= MAX_PORT:
        raise ArgumentTypeError(f"{text!r} is not a port (1 to 65535)")
    return int(text)


def seconds(text: str) -> float:
    """A time limit. Raises ArgumentTypeError."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found <= _LONGEST:
        raise ArgumentTypeError(f"{text!r} is not a number of seconds (up to {_LONGEST:.0f})")
    return found


def write_new(path: Path, text: str, mode: int = 0o666) -> None:
    """Write a file that does not exist yet. Raises ConfigError; an existing file stays."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    except FileExistsError as error:
        raise ConfigError(str(path), "exists", "remove it first, or choose another name") from error
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            out.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigError(str(path), f"cannot be written: {error.strerror}") from error
