"""What the process of the inbox is told by the server that starts it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import Field

from functions.local.view.folders import Folder
from functions.options.types import OptionsModel
from listener.checks.inbox import checked_folders
from listener.config.inbox import InboxOptions, InboxViewer
from listener.config.inbox_folders import InboxFolder
from listener.config.relay import RelayConfig
from listener.inbox.access.stored import MOST_FAILURES, StoredLogin, stored_logins

FOLDER = "inbox"
"""The folder of the index in that of the spool."""


class InboxSettings(OptionsModel):
    """All that the process needs, as JSON: it goes through a pipe, because `logins` are the stored passwords
    and tokens. `options` has no users; `viewers` are what they see. `places` are flows and their folders,
    `outputs` the labels of their outputs."""

    options: InboxOptions
    viewers: dict[str, InboxViewer] = Field(default_factory=dict)
    logins: dict[str, StoredLogin] = Field(default_factory=dict)
    most_failures: int = MOST_FAILURES
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


def settings_of(
    config: RelayConfig, folder: Path, resolve: Callable[[str], str] | None = None
) -> InboxSettings | None:
    """The settings of a configuration, None if it has no inbox; `folder` is the working folder, `resolve`
    finds the secrets of users (None: there are no logins). Raises ConfigError for an inbox that cannot be,
    or that every client could look into by mistake."""
    options = config.inbox
    if options is None:
        return None
    places = [(place.flow, os.fspath(place.folder.path)) for place in checked_folders(config, folder)]
    rates = [one.options.max_auth_failure_rate for one in config.resolved_listeners()]
    return InboxSettings(
        options=options.model_copy(update={"users": {}}),
        viewers={
            name: InboxViewer(inboxes=user.inboxes, rights=user.rights)
            for name, user in options.users.items()
        },
        logins={} if resolve is None else stored_logins(options.users, resolve),
        most_failures=min((rate for rate in rates if rate is not None), default=MOST_FAILURES),
        places=tuple(places),
        outputs={name: tuple(label for label, _ in flow.labelled()) for name, flow in config.flows.items()},
        spool=os.fspath(config.spool.folder(folder)),
    )
