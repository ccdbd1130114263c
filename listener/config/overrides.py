"""Overrides of single settings, by flags of the command line or by the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple

from functions.errors import ConfigError
from functions.options.environment import variable

PORT: Final = "SMTP_RELAY_PORT"
BIND: Final = "SMTP_RELAY_BIND"

MAX_PORT: Final = 65_535
_DIGITS: Final = re.compile("[0-9]{1,5}")


class Given(NamedTuple):
    """A setting's text, and the name of the flag or variable that gives it."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Overrides:
    """Settings that stand over the file. `port` and `bind` are for the only listener, `folder` for the
    only `file` output, and `level` for the loggers of type CONSOLE. `inbox` switches an inbox on."""

    port: Given | None = None
    bind: Given | None = None
    folder: Given | None = None
    level: Literal["DEBUG", "WARN"] | None = None
    inbox: bool = False

    def over(self, environ: Mapping[str, str]) -> Overrides:
        """These overrides; where one is missing, the environment's."""
        return replace(
            self,
            port=self.port or _variable(environ, PORT),
            bind=self.bind or _variable(environ, BIND),
        )

    def applied(self, value: dict[str, Any]) -> dict[str, Any]:
        """The configuration's object with the overrides. Raises ConfigError, which names the flag or
        variable; a mistake of the object itself stays for its validation."""
        if self.port is not None:
            value = _of_listener(value, "port", _port(self.port), self.port.name)
        if self.bind is not None:
            value = _of_listener(value, "bind", _address(self.bind), self.bind.name)
        if self.folder is not None:
            value = _of_output(value, self.folder)
        if self.level is not None:
            value = _of_loggers(value, self.level)
        if self.inbox and value.get("inbox") is None:
            value = {**value, "inbox": {}}
        return value


def _variable(environ: Mapping[str, str], name: str) -> Given | None:
    text = variable(environ, name)
    return Given(name, text.strip()) if text else None


def _port(given: Given) -> int:
    text = given.text
    # A longer text is refused unread, because int() has a bound of its own.
    if not _DIGITS.fullmatch(text) or int(text) > MAX_PORT:
        raise ConfigError(given.name, f"{text!r} is not a port", "1 to 65535, or 0 for any free port")
    return int(text)


def _address(given: Given) -> str:
    if not given.text or not given.text.isprintable() or " " in given.text:
        cure = "127.0.0.1 for this machine, 0.0.0.0 for all its addresses"
        raise ConfigError(given.name, f"{given.text!r} is not an address", cure)
    return given.text


def _of_listener(value: dict[str, Any], key: str, setting: object, name: str) -> dict[str, Any]:
    listeners = value.get("listeners")
    if not listeners or not isinstance(listeners, list):
        return {**value, key: setting}
    if len(listeners) > 1:
        what = f"the configuration has {len(listeners)} listeners, and {name} is for one"
        raise ConfigError(name, what, f"leave it out, and set {key!r} in the entries of listeners")
    only = listeners[0]
    return {**value, "listeners": [{**only, key: setting} if isinstance(only, dict) else only]}


def _of_output(value: dict[str, Any], folder: Given) -> dict[str, Any]:
    if not folder.text:
        raise ConfigError(folder.name, "is empty", "name a folder")
    found = list(_file_outputs(value.get("flows")))
    if len(found) != 1:
        places = f"{len(found)} outputs of type file" if found else "no output of type file"
        listed = ", ".join(f"flows.{flow}.outputs[{index}]" for flow, index in found)
        cure = f"set 'path' in {listed}" if found else """add { "type": "file" } to the outputs of a flow"""
        raise ConfigError(folder.name, f"the configuration has {places}, and {folder.name} is for one", cure)
    ((flow, index),) = found
    outputs = list(value["flows"][flow]["outputs"])
    outputs[index] = {**outputs[index], "path": folder.text}
    flows = {**value["flows"], flow: {**value["flows"][flow], "outputs": outputs}}
    return {**value, "flows": flows}


def _file_outputs(flows: object) -> Iterator[tuple[str, int]]:
    """The flow and index of each output of type file."""
    for name, flow in flows.items() if isinstance(flows, dict) else ():
        outputs = flow.get("outputs") if isinstance(flow, dict) else None
        for index, output in enumerate(outputs if isinstance(outputs, list) else ()):
            if isinstance(output, dict) and output.get("type") == "file":
                yield name, index


def _of_loggers(value: dict[str, Any], level: str) -> dict[str, Any]:
    options = value.get("options")
    if "loggers" not in value and isinstance(options, dict) and options.get("loggers") is not None:
        return {**value, "options": _of_loggers(options, level)}
    loggers = value.get("loggers")
    if loggers is None:
        return {**value, "loggers": [{"type": "CONSOLE", "level": level}]}
    if not isinstance(loggers, list):
        return value
    console = [isinstance(one, dict) and one.get("type") == "CONSOLE" for one in loggers]
    made = [{**one, "level": level} if yes else one for one, yes in zip(loggers, console, strict=True)]
    if level == "DEBUG" and not any(console):
        # A configuration that prints nothing stays quiet with -q; the user of -v wants to see something.
        made.append({"type": "CONSOLE", "level": level})
    return {**value, "loggers": made}
