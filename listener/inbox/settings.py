"""What the process of the inbox is told by the server that starts it."""

from __future__ import annotations

import os
from pathlib import Path

from functions.errors import ConfigError
from functions.local.view.folders import Folder
from functions.options.types import OptionsModel
from listener.config.inbox import InboxOptions
from listener.config.listeners import address_of, is_loopback
from listener.config.relay import RelayConfig
from listener.inbox.places import InboxFolder, places_of

FOLDER = "inbox"
"""The folder of the index in that of the spool."""


class InboxSettings(OptionsModel):
    """All that the process needs, as JSON. `places` are flows and their folders."""

    options: InboxOptions
    places: tuple[tuple[str, str], ...]
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
    options = config.inbox
    if options is None:
        return None
    if config.spool.in_bucket:
        raise ConfigError("inbox", "needs a folder as spool", "name a file:// spool, or remove inbox")
    leaving = sorted({one.type for _, one in config.outputs() if not one.local})
    if options.open and leaving:
        raise ConfigError(
            "inbox.open", f"shows everybody the mails that {leaving[0]} sends on", "name users instead"
        )
    if not (options.users or options.open or is_loopback(address_of(options.bind))):
        raise ConfigError(
            "inbox.bind",
            f"{options.bind} is reached by other computers, and nobody has to log in",
            'name users, or say "open": true',
        )
    places = [(place.flow, os.fspath(place.folder.path)) for place in places_of(config, folder)]
    names = {flow for flow, _ in places}
    for name, user in options.users.items():
        unknown = sorted(set(user.inboxes or ()) - names) if options.by == "flow" else []
        if unknown:
            raise ConfigError(
                f"inbox.users.{name}.inboxes",
                f"there is no inbox {unknown[0]!r}; there are {', '.join(sorted(names))}",
            )
    spool = os.fspath(config.spool.folder(folder))
    return InboxSettings(options=options, places=tuple(places), spool=spool)
