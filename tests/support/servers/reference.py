"""The examples that the documentation of loopingz/smtp-relay prints, and relays that run them
unchanged: only the port comes from the environment, and the spool, if it would be outside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from functions.options import jsonc
from tests.support.net import HOST
from tests.support.servers.relay import ROOT, Relay

EXAMPLES: Final = ROOT / "tests" / "e2e" / "reference"


def example(name: str) -> dict[str, Any]:
    """One printed example; comments stand in some of them."""
    read = jsonc.parse((EXAMPLES / f"{name}.json").read_text())
    assert isinstance(read, dict)
    return read


class Printed(Relay):
    """Runs `smtp-relay FILE` in a working folder that holds `configs/` and the printed examples,
    without `serve` before it, as in the reference's commands."""

    def __init__(self, folder: Path, file: str, **environ: str) -> None:
        super().__init__(folder)
        self.file = file
        self.received = folder / "received_emails"
        shutil.copytree(ROOT / "configs", folder / "configs", dirs_exist_ok=True)
        shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
        listeners = json.dumps([{"port": self.port, "bind": HOST}])
        spool = f"file://{folder}/spool"
        self._env = {
            "SMTP_RELAY_LISTENERS": listeners,
            "SMTP_RELAY_SPOOL": spool,
            "NO_PROXY": "*",
            **environ,
        }

    @property
    def path(self) -> Path:
        return self.folder / self.file

    def write(self, config: Mapping[str, Any]) -> None:
        """Make `file` hold this."""
        self.path.write_text(json.dumps(config))

    def command(self) -> list[str]:
        command = self.command_for()
        return [*command[: command.index("serve")], self.file]
