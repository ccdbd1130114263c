"""The inbox: whether it can be, and whether strangers see its mails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from functions.errors import ConfigError
from listener.checks.finding import Finding, Setting, error, warning
from listener.config.listeners import address_of, is_loopback
from listener.config.relay import RelayConfig

if TYPE_CHECKING:
    from listener.config.inbox_folders import InboxFolder


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """What keeps the inbox from being started, and what strangers see of it."""
    if config.inbox is None:
        return
    try:
        checked_folders(config, setting.folder)
    except ConfigError as fault:
        if not config.inbox_by_default:
            yield error(fault.where, f"{fault.what} ({fault.cure})" if fault.cure else fault.what)
    if is_loopback(address_of(config.inbox.bind)):
        return
    if config.inbox.open:
        yield warning("inbox.open", "everybody who reaches the address reads all mails, and deletes them")
    elif config.inbox.users and not config.inbox.trusted_proxies:
        yield warning(
            "inbox.bind",
            "passwords and mails cross the network in clear text"
            " (put a proxy with TLS in front, and name it in trustedProxies)",
        )


def checked_folders(config: RelayConfig, folder: Path) -> tuple[InboxFolder, ...]:
    """The folders of the configuration's inbox; `folder` is the working folder. Raises ConfigError for an
    inbox that cannot be, or that is open to all by mistake."""
    from listener.config.inbox_folders import places_of

    options = config.inbox
    assert options is not None
    if config.spool.in_bucket:
        raise ConfigError("inbox", "needs a folder as spool", "name a file:// spool, or remove inbox")
    if options.open and (leaving := config.leaving):
        raise ConfigError(
            "inbox.open", f"shows everybody the mails that {leaving[0]} sends on", "name users instead"
        )
    if not (options.users or options.open or is_loopback(address_of(options.bind))):
        raise ConfigError(
            "inbox.bind",
            f"{options.bind} is reached by other computers, and nobody has to log in",
            'name users, or say "open": true',
        )
    folders = places_of(config, folder)
    names = {place.flow for place in folders}
    for name, user in options.users.items():
        unknown = sorted(set(user.inboxes or ()) - names) if options.by == "flow" else []
        if unknown:
            raise ConfigError(
                f"inbox.users.{name}.inboxes",
                f"there is no inbox {unknown[0]!r}; there are {', '.join(sorted(names))}",
            )
    return folders
