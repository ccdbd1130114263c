"""What the process of the inbox is told by the server that starts it."""

from __future__ import annotations

import os
from pathlib import Path

from functions.local.view.folders import Folder
from functions.options.types import OptionsModel
from listener.checks.inbox import checked_folders
from listener.config.inbox import InboxOptions
from listener.config.inbox_folders import InboxFolder
from listener.config.relay import RelayConfig

FOLDER = "inbox"
"""The folder of the index in that of the spool."""


class InboxSettings(OptionsModel):
    """All that the process needs, as JSON. `places` are flows and their folders, `outputs` the labels of
    their outputs."""

    options: InboxOptions
    places: tuple[tuple[str, str], ...]
    outputs: dict[str, tuple[str, ...]]
    spool: str

    def folders(self) -> tuple[InboxFolder, ...]:
        """The folders, whose envelopes are believed."""
        return tuple(InboxFolder(flow, Folder(Path(path), trusted=True)) for flow, path in self.places)

    @property
    def index(self) -> Path:
        """The folder of the index."""
        return Path(self.spool) / FOLDER


def settings_of(config: RelayConfig, folder: Path) -> InboxSettings | None:
    """The settings of a configuration, None if it has no inbox; `folder` is the working folder. Raises
    ConfigError for an inbox that cannot be, or that anybody could look into by mistake."""
    if config.inbox is None:
        return None
    places = [(place.flow, os.fspath(place.folder.path)) for place in checked_folders(config, folder)]
    spool = os.fspath(config.spool.folder(folder))
    outputs = {name: tuple(label for label, _ in flow.labelled()) for name, flow in config.flows.items()}
    return InboxSettings(options=config.inbox, places=tuple(places), outputs=outputs, spool=spool)
