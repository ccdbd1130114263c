"""The folders that inboxes are made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from functions.local.view.folders import Folder, folders_of


class InboxFolder(NamedTuple):
    """A folder, and the flow whose mails it holds."""

    flow: str
    folder: Folder


def places_of(config: DeliveryConfig, working_folder: Path) -> tuple[InboxFolder, ...]:
    """The folders of all outputs that write envelopes on top of their files. Raises ConfigError if there is
    none, or if two flows store into one folder, because then it is unknown whose mail a file is."""
    trusted = {folder.path: folder for folder in folders_of(config, working_folder) if folder.trusted}
    flows: dict[Path, str] = {}
    for name, flow in config.flows.items():
        for output in flow.outputs:
            if output.file_folder is None:
                continue
            path = Path(os.path.normpath(working_folder / output.file_folder))
            for other, owner in flows.items():
                related = path.is_relative_to(other) or other.is_relative_to(path)
                if related and owner != name:
                    raise ConfigError(
                        f"flows.{name}",
                        f"stores into the folder of flow {owner} ({path}), and then the inbox cannot tell"
                        " whose mail a file is",
                        "give each flow a folder",
                    )
            if path in trusted:
                flows[path] = name
    if not flows:
        raise ConfigError(
            "inbox",
            "no output of type file writes envelopes, so there is nothing to show",
            'give a file output "addRawHeaders": true',
        )
    return tuple(InboxFolder(flow, trusted[path]) for path, flow in flows.items())
