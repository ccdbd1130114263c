"""Environment variables override the file, so infrastructure never edits it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from functions.config import with_spool_url
from functions.errors import ConfigError
from functions.options.environment import variable
from functions.options.jsonc import NotJson, parse

SPOOL: Final = "SMTP_RELAY_SPOOL"
LISTENERS: Final = "SMTP_RELAY_LISTENERS"
TRUSTED_PROXIES: Final = "SMTP_RELAY_TRUSTED_PROXIES"
HEALTH_PORT: Final = "SMTP_RELAY_HEALTH_PORT"
DEFAULT_BIND: Final = "SMTP_RELAY_DEFAULT_BIND"


def sources(environ: Mapping[str, str]) -> dict[str, str]:
    """The path of a key to the variable that overrides it."""
    overridden = {"spool": SPOOL, "listeners": LISTENERS, "options.useProxy": TRUSTED_PROXIES}
    return {key: name for key, name in overridden.items() if variable(environ, name)}


def overlay(value: dict[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The file's object after the environment's variables override it (and the default address fills
    in). An empty variable does not count. Raises ConfigError."""
    value = dict(value)
    if spool := variable(environ, SPOOL):
        value["spool"] = with_spool_url(value.get("spool"), spool)
    if text := variable(environ, LISTENERS):
        value["listeners"] = _list(LISTENERS, text)
        value.pop("port", None)
        value.pop("bind", None)
    if text := variable(environ, TRUSTED_PROXIES):
        _trust(value, text)
    if text := variable(environ, HEALTH_PORT):
        health = value.get("health")
        value["health"] = {**(health if isinstance(health, dict) else {}), "portNumber": _port(text)}
    if bind := variable(environ, DEFAULT_BIND):
        _bind(value, bind)
    return value


def _list(name: str, text: str) -> list[Any]:
    try:
        found = parse(text)
    except NotJson as error:
        raise ConfigError(f"{name}:{error.line}:{error.column}", error.reason, error.cure) from error
    if not isinstance(found, list):
        raise ConfigError(name, "is not a JSON list", "put it in brackets: […]")
    return found


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(HEALTH_PORT, f"{text!r} is not a port", "set a number, such as 9090")
    return int(text)


def _trust(value: dict[str, Any], text: str) -> None:
    """The proxies' addresses override `useProxy`, except for listeners that turn it off."""
    trusted: Any
    if text.lstrip().startswith("["):
        trusted = _list(TRUSTED_PROXIES, text)
    else:
        trusted = [part.strip() for part in text.split(",") if part.strip()]
    options = value.get("options")
    value["options"] = {**(options if isinstance(options, dict) else {}), "useProxy": trusted}
    if isinstance(listeners := value.get("listeners"), list):
        value["listeners"] = [
            {**one, "useProxy": trusted} if isinstance(one, dict) and one.get("useProxy") else one
            for one in listeners
        ]


def _bind(value: dict[str, Any], bind: str) -> None:
    if isinstance(listeners := value.get("listeners"), list):
        value["listeners"] = [{"bind": bind, **one} if isinstance(one, dict) else one for one in listeners]
    else:
        value.setdefault("bind", bind)
    for key in ("health", "prometheus"):
        if isinstance(served := value.get(key), dict):
            value[key] = {"bind": bind, **served}
    # Without a rule for others, an inbox is this machine's alone: elsewhere it would be refused.
    if isinstance(inbox := value.get("inbox"), dict) and (inbox.get("users") or inbox.get("open")):
        value["inbox"] = {"bind": bind, **inbox}
