"""The arguments that several commands share."""

from pathlib import Path
from typing import Any, Final

CONFIG: Final[dict[str, Any]] = {
    "type": Path,
    "metavar": "CONFIG",
    "help": "the configuration; else ./smtp-relay.jsonc, .json, .yaml or .yml, else a debug server on "
    "localhost:10025 that stores into ./received_emails/",
}
