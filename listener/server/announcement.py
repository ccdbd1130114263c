"""The lines that a server logs once it serves: its addresses, the places of its mails, and for a person
how to send one and how to stop it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions import __version__
from listener.logs.console import STARTING
from listener.logs.setup import to_a_person
from listener.server.sockets import Sockets

if TYPE_CHECKING:
    from listener.config.listeners import Listener
    from listener.config.relay import RelayConfig

log = logging.getLogger(STARTING)

_MOST: Final = 10
"""Addresses, folders or outputs that one line names; its fields have all."""

_DEFAULT_PORT: Final = 10_025  # of `send`
_COMMAND: Final = "smtp-relay"


def announce(config: RelayConfig, sockets: Sequence[tuple[Listener, Sockets]]) -> None:
    """Log that the server serves. The lines about sending and stopping are for a person who tries the
    server, so they come only if a console shows them and every mail stays on this machine."""
    _tell_addresses(config, sockets)
    _tell_outputs(config)
    outputs = [output for flow in config.flows.values() for output in flow.outputs]
    if to_a_person() and all(output.local for output in outputs):
        command = f"{_program()} send you@example.com{_flags(sockets[0][0], sockets[0][1])}"
        log.info("send one from another terminal: %s", command, extra={"command": command})
        log.info("stop with Ctrl-C", extra={"signals": ["SIGINT", "SIGTERM"]})


def _tell_addresses(config: RelayConfig, sockets: Sequence[tuple[Listener, Sockets]]) -> None:
    addresses: list[str] = []
    protocols: list[str] = []
    listeners: list[str] = []
    for listener, bound in sockets:
        kind = "lmtp" if listener.options.lmtp else "smtps" if listener.options.secure else "smtp"
        for sock in bound:
            with contextlib.suppress(OSError):
                addresses.append(written_address(*sock.getsockname()[:2]))
                protocols.append(kind)
                listeners.append(listener.name)
    shown = [
        at if kind == "smtp" else f"{at} ({kind})" for at, kind in zip(addresses, protocols, strict=True)
    ]
    fields = {
        "addresses": addresses,
        "protocols": protocols,
        "listeners": listeners,
        "version": __version__,
        "config": config.source,
    }
    about = f"smtp-relay {__version__}, {config.source}"
    log.info("listening on %s (%s)", _some(shown), about, extra=fields)


def _tell_outputs(config: RelayConfig) -> None:
    labelled = [pair for flow in config.flows.values() for pair in flow.labelled()]
    folders = list(dict.fromkeys(str(one.file_folder) for _, one in labelled if one.file_folder is not None))
    others = list(dict.fromkeys(label for label, one in labelled if one.file_folder is None))
    fields = {"folders": folders, "outputs": [label for label, _ in labelled], "spool": config.spool.url}
    stored = _some([f"{each.removeprefix('./').rstrip('/')}/" for each in folders])
    if folders and not others:
        log.info("mails are stored in %s", stored, extra=fields)
    elif all(one.local for _, one in labelled):
        log.info("mails go to %s", " and ".join(filter(None, [stored, _some(others)])), extra=fields)
    else:
        by = "the cloud function delivers them to" if config.mode == "events" else "they go to"
        places = " and ".join(filter(None, [stored, _some(others)]))
        spool = config.spool.url.removeprefix("file://").removeprefix("./")
        log.info("mails wait in %s; %s %s", spool, by, places, extra=fields)


def _some(names: Sequence[str]) -> str:
    left = len(names) - _MOST
    return ", ".join(names[:_MOST]) + (f" and {left} more" if left > 0 else "")


def written_address(host: str, port: int) -> str:
    """An address and a port as people write them, `[::1]:25`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _program() -> str:
    """The command that runs this program, as typed in the working folder."""
    started = Path(sys.argv[0])
    if shutil.which(_COMMAND) is not None or started.name != _COMMAND:
        return _COMMAND
    with contextlib.suppress(ValueError):
        return str(started.absolute().relative_to(Path.cwd()))
    return str(started)


def _flags(listener: Listener, bound: Sockets) -> str:
    """What `send` must be told to reach this listener."""
    options, flags = listener.options, ""
    host, port = bound[0].getsockname()[:2]
    address = ipaddress.ip_address(host.partition("%")[0])
    if address.is_loopback or address.is_unspecified:
        host = "localhost"
    if (host, port) != ("localhost", _DEFAULT_PORT):
        flags += f" --server {written_address(host, port)}"
    if options.lmtp:
        flags += " --lmtp"
    if options.secure:
        flags += " --tls-on-connect --insecure"
    if options.must_authenticate:
        flags += " --auth USER:PASSWORD"
        if not (options.clear_text_auth or options.secure):
            flags += " --tls --insecure"
    return flags
