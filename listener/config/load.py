"""Loading the configuration: finds the file, reads its text (JSON, JSONC or YAML), applies the
environment and reports every mistake at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from functions.errors import ConfigError
from functions.options.environment import ignored, variable
from functions.options.jsonc import NotJson, parse
from listener.config.environment import overlay, sources
from listener.config.errors import Step, config_errors, path_of
from listener.config.obsolete import without_obsolete
from listener.config.overrides import Overrides
from listener.config.relay import RelayConfig
from listener.logs.options import LoggerOptions

NAMES: Final = ("smtp-relay.jsonc", "smtp-relay.json", "smtp-relay.yaml", "smtp-relay.yml")
"""The files to look for in the working folder when none is named."""

EMBEDDED: Final = Path(__file__).parents[1] / "default.jsonc"
EMBEDDED_SOURCE: Final = "the embedded default"
VARIABLE: Final = "SMTP_RELAY_CONFIG_JSON"

_MAX_SIZE: Final = 8_388_608
_NO_FLAGS: Final = Overrides()


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration as read: `value` is an object, `source` its name in messages."""

    value: dict[str, Any]
    source: str


def load(path: Path | None, environ: Mapping[str, str], flags: Overrides = _NO_FLAGS) -> RelayConfig:
    """Read the configuration: `SMTP_RELAY_CONFIG_JSON`, else the file at `path`, else
    `smtp-relay.jsonc|json|yaml|yml` of the working folder, else the embedded default; the environment's
    other variables override it, and `flags` override both. Raises ConfigError, which may hold several."""
    found = read(path, environ)
    value, warnings = without_obsolete(flags.over(environ).applied(overlay(found.value, environ)))
    try:
        config = RelayConfig.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise config_errors(error, RelayConfig, value, {"": found.source, **sources(environ)}) from None
    config._source = found.source
    config._inbox_by_default = found.source == EMBEDDED_SOURCE and not flags.inbox
    config._warnings = ignored(environ) + warnings
    return config


def loggers_of(path: Path | None, environ: Mapping[str, str]) -> tuple[LoggerOptions, ...]:
    """The loggers of a configuration that has mistakes, which are then logged in their format; none if
    the mistakes are theirs. Raises ConfigError if there is no object."""
    value = read(path, environ).value
    options = value.get("options")
    given = value.get("loggers", options.get("loggers") if isinstance(options, dict) else None)
    try:
        return TypeAdapter(tuple[LoggerOptions, ...]).validate_python(given or (), by_alias=True)
    except ValidationError:
        return ()


def read(path: Path | None, environ: Mapping[str, str]) -> ConfigFile:
    """The configuration that `load` describes. Raises ConfigError with file, line and reason."""
    if text := variable(environ, VARIABLE):
        return _found(VARIABLE, _json(VARIABLE, text))
    if (path := path or default_file()) is None:
        return _found(EMBEDDED_SOURCE, _json(EMBEDDED_SOURCE, EMBEDDED.read_text(encoding="utf-8")))
    source = str(path)
    text = _text(source, path)
    is_yaml = path.suffix.lower() in {".yaml", ".yml"}
    return _found(source, _yaml(source, text) if is_yaml else _json(source, text))


def default_file() -> Path | None:
    """The file of the working folder that is read when none is named."""
    return next((name for name in map(Path, NAMES) if name.is_file()), None)


def _text(source: str, path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_SIZE + 1)
    except FileNotFoundError as error:
        raise ConfigError(source, "the file does not exist", f"looked for {path.absolute()}") from error
    except OSError as error:
        cure = "name a file" if path.is_dir() else "name a file that this user may read"
        raise ConfigError(source, f"cannot be read: {error.strerror}", cure) from error
    if len(data) > _MAX_SIZE:
        raise ConfigError(source, f"is larger than {_MAX_SIZE >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise ConfigError(source, "is UTF-16", "save it as UTF-8") from error
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{source}:{line}", "is not UTF-8 text", "save it as UTF-8") from error


def _json(source: str, text: str) -> Any:
    try:
        return parse(text)
    except NotJson as error:
        raise ConfigError(f"{source}:{error.line}:{error.column}", error.reason, error.cure) from error


def _yaml(source: str, text: str) -> Any:
    from listener.config.yaml import NotYaml, parse_yaml

    try:
        value = parse_yaml(text)
    except NotYaml as error:
        raise ConfigError(f"{source}:{error.line}:{error.column}", error.reason, error.cure) from error

    if value is None:
        raise ConfigError(source, "is empty", "write flows: … into it")
    return value


def _found(source: str, value: Any) -> ConfigFile:
    if not isinstance(value, dict):
        raise ConfigError(source, "is not an object", 'it starts with {"flows": …}')
    if (path := _nul(value)) is not None:
        raise ConfigError(f"{source}: {path}", "holds a NUL character", "remove it")
    return ConfigFile(value, source)


def _nul(value: Any) -> str | None:
    """The path of a text with a NUL character, which ends a text for the operating system; None if there
    is none. An alias of YAML may lead to the same list many times, or back to it."""
    seen: set[int] = set()
    waiting: list[tuple[tuple[Step, ...], Any]] = [((), value)]
    while waiting:
        steps, item = waiting.pop()
        if isinstance(item, str):
            if "\0" in item:
                return path_of(steps)
        elif isinstance(item, dict | list) and id(item) not in seen:
            seen.add(id(item))
            inner = item.items() if isinstance(item, dict) else enumerate(item)
            waiting += [((*steps, key), below) for key, below in inner]
    return None
