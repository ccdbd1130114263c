"""Keys of the reference that have no effect here: one warning line each."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any, Final

_NODE: Final = "an option of Node's TLS and sockets that means nothing here"
_LOGGER: Final = "logging is set with loggers"

OPTIONS: Final[Mapping[str, str]] = {
    "logger": _LOGGER,
    **dict.fromkeys(
        (
            "ALPNCallback",
            "ALPNProtocols",
            "SNICallback",
            "allowHalfOpen",
            "allowPartialTrustChain",
            "clientCertEngine",
            "dhparam",
            "ecdhCurve",
            "enableTrace",
            "handshakeTimeout",
            "highWaterMark",
            "keepAlive",
            "keepAliveInitialDelay",
            "noDelay",
            "pauseOnConnect",
            "privateKeyEngine",
            "privateKeyIdentifier",
            "pskCallback",
            "pskIdentityHint",
            "secureContext",
            "secureOptions",
            "sessionIdContext",
            "sessionTimeout",
            "sigalgs",
            "ticketKeys",
        ),
        _NODE,
    ),
    "crl": "revocation lists are not read: client certificates are accepted until they expire",
    "blockList": "addresses are not blocked here: use a firewall, or a whitelist",
    "secureProtocol": "use minVersion and maxVersion",
    "hideREQUIRETLS": "REQUIRETLS is never announced",
    "maxAllowedUnauthenticatedCommands": "commands before AUTH are limited anyway",
    "needsUpgrade": _NODE,
}

HTTP: Final[Mapping[str, str]] = {
    "allowPrivateUrls": "private addresses may be asked here without it",
    "logger": _LOGGER,
}

TRANSPORT: Final[Mapping[str, str]] = {
    "logger": _LOGGER,
    "debug": _LOGGER,
    "transactionLog": _LOGGER,
    **dict.fromkeys(
        (
            "component",
            "disableFileAccess",
            "disableUrlAccess",
            "allowInternalNetworkInterfaces",
            "encoding",
            "normalizeHeaderKey",
        ),
        "an option of Nodemailer's that means nothing here",
    ),
    "opportunisticTLS": "STARTTLS is used wherever it is offered",
}

RAW_EMAIL: Final[Mapping[str, str]] = {"RawMessage": "the message is the mail"}

_PARTS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "http-auth": {"": HTTP},
    "http-filter": {"": HTTP},
    "mailer": {"nodemailer": TRANSPORT, "nodemailer.tls": OPTIONS},
    "nodemailer": {"nodemailer": TRANSPORT, "nodemailer.tls": OPTIONS},
    "aws": {"sendRawEmailOptions": RAW_EMAIL},
}
"""Filter or output type to the keys that have no effect in it and in its parts."""


def without_obsolete(value: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The file's object without those keys, and a line for each: its path and the replacement."""
    value = copy.deepcopy(value)
    lines: list[str] = []
    _drop(value.get("options"), "options", OPTIONS, lines)
    for path, listener in _each(value.get("listeners"), "listeners"):
        _drop(listener, path, OPTIONS, lines)
    flows = value.get("flows")
    for name, flow in flows.items() if isinstance(flows, dict) else ():
        for key in ("filters", "outputs"):
            entries = flow.get(key) if isinstance(flow, dict) else None
            for path, entry in _each(entries, f"flows.{name}.{key}"):
                _drop_parts(entry, path, lines)
    return value, tuple(lines)


def _each(entries: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(entries, list):
        yield from ((f"{path}[{index}]", entry) for index, entry in enumerate(entries))


def _drop_parts(entry: Any, path: str, lines: list[str]) -> None:
    parts = _PARTS.get(str(entry.get("type")), {}) if isinstance(entry, dict) else {}
    for place, keys in parts.items():
        part, at = entry, path
        for step in filter(None, place.split(".")):
            part, at = part.get(step) if isinstance(part, dict) else None, f"{at}.{step}"
        _drop(part, at, keys, lines)


def _drop(part: Any, path: str, keys: Mapping[str, str], lines: list[str]) -> None:
    if not isinstance(part, dict):
        return
    for key in [key for key in part if key in keys]:
        del part[key]
        lines.append(f"{path}.{key}: ignored: {keys[key]} (remove it)")
