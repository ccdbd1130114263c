"""Turns pydantic's errors about a configuration into messages for the user: path, reason, cure."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from functions.errors import ConfigError, ConfigErrors
from functions.message.text import one_line
from functions.options.registry import Chosen, nearest
from functions.options.secrets import secrets_of
from listener.config.smtp import SmtpOptions

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig

Step = str | int

_OBJECT: Final = ("should be an object", 'put it in braces: {"KEY": …}')
_LIST: Final = ("should be a list", "put it in brackets: […]")

_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "model_type": _OBJECT,
    "list_type": _LIST,
    "tuple_type": _LIST,
    "string_type": ("should be a valid string", "put it in quotes"),
    "bool_type": ("should be a valid boolean", "write true or false"),
    "bool_parsing": ("should be a valid boolean", "write true or false"),
    "int_type": ("should be a valid integer", "write a number"),
    "int_parsing": ("should be a valid integer", "write a number"),
    "int_from_float": ("should be a valid integer", "write a number without a fraction"),
    "finite_number": ("should be a finite number", "write a number"),
    "string_unicode": ("holds half of a character", "write the whole one"),
    "string_too_short": ("is empty", "fill it in, or leave the key out"),
}
"""pydantic's kind of error to the reason and the cure."""

_CURES: Final = {
    "not_an_object": 'write {"type": …}',
    "broken_plugin": "update the plugin, or remove this entry",
}

_SHAPES: Final = frozenset({"dict_type", "mapping_type", "model_type"})
_OF_A_FLOW: Final = frozenset({"filters", "outputs", "filtersOperator"})
_REFERENCES: Final = ("env:", "file:", "$")

_PLAIN_NAME: Final = re.compile(r"\['([^'.]+)'\]")

_BOUNDS: Final = ("greater_than", "less_than")


def config_errors(
    error: ValidationError, model: type[BaseModel], value: object, sources: Mapping[str, str]
) -> ConfigError:
    """Every mistake with its source and its path there. `value` is the validated object; `sources` maps
    the path of a key, one or two steps long, to its source, and "" to the source of all others."""
    found: dict[tuple[str, str], list[str]] = {}
    for detail in error.errors(include_url=False):
        steps = _in_file(detail, value)
        outer = (path_of(steps[:2]), path_of(steps[:1]), "")
        source = next(sources[path] for path in outer if path in sources)
        where = f"{source}: {path_of(steps)}" if steps else source
        # Every member of a union reports an error; each unknown key is a separate mistake.
        apart = str(detail["loc"][-1]) if detail["type"] == "extra_forbidden" else ""
        found.setdefault((where, apart), []).append(_reason(detail, steps, model, value))
    problems = [
        ConfigError(where, one_line(", or ".join(dict.fromkeys(reasons))))
        for (where, _), reasons in found.items()
    ]
    return problems[0] if len(problems) == 1 else ConfigErrors(problems)


def path_of(steps: Sequence[Step]) -> str:
    """Steps in the form of messages: `flows.in.outputs[0].storage`."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        elif "." in step or not step or not step.isprintable():
            text += f"[{step!r}]"
        else:
            text += f".{step}" if text else step
    return text


def _in_file(detail: ErrorDetails, value: object) -> tuple[Step, ...]:
    """The error's location without pydantic's steps for unions and functions, and without an unknown
    key, which the message names."""
    steps: list[Step] = []
    location = detail["loc"][:-1] if detail["type"] == "extra_forbidden" else detail["loc"]
    for index, step in enumerate(location):
        absent = detail["type"] == "missing" and index == len(location) - 1
        if absent or _has(value, step):
            steps.append(step)
            value = None if absent else _child(value, step)
    return tuple(steps)


def _has(value: object, step: Step) -> bool:
    if isinstance(value, list):
        return isinstance(step, int) and step < len(value)
    return isinstance(value, Mapping) and step in value


def _child(value: object, step: Step) -> object:
    return typing.cast(Any, value)[step] if _has(value, step) else None


def _reason(detail: ErrorDetails, steps: Sequence[Step], model: type[BaseModel], value: object) -> str:
    kind, message = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        key = str(detail["loc"][-1])
        return f"unknown key {key!r}, {_cure(key, steps, model, value)}"
    if kind == "missing":
        absent = steps[-1] if steps else ""
        return "is required " + ('(add {"flows": …})' if steps == ("flows",) else f'(add "{absent}")')
    if kind in _WORDS:
        reason, cure = _WORDS[kind]
        given = detail["input"]
        if given is None or isinstance(given, bool):
            reason += f", not {'null' if given is None else str(given).lower()}"
        if kind in _SHAPES and len(steps) == 2 and steps[0] == "flows" and steps[1] in _OF_A_FLOW:
            return f'is read as a flow of that name (write {{"NAME": {{"{steps[1]}": …}}}} into flows)'
        if kind in _SHAPES and steps == ("flows",) and isinstance(given, list):
            cure = 'name each flow: {"NAME": {"filters": […], "outputs": […]}}'
        if kind.endswith("_parsing") and isinstance(given, str) and given.startswith(_REFERENCES):
            reason += f", not {given!r}"
            cure += " itself: only secrets may be references"
        if isinstance(given, bool) and kind == "string_type":
            cure += ": to YAML a bare yes, no, on or off is true or false"
        return f"{reason} ({cure})"
    if kind.startswith(_BOUNDS):
        return f"{_lower(message)}, not {detail['input']}"
    if kind == "literal_error":
        return f"{_lower(message)}, not {detail['input']!r}"
    if kind == "string_pattern_mismatch":
        return f"{detail['input']!r} does not have the form {detail['ctx']['pattern']}"
    cure = f" ({_CURES[kind]})" if kind in _CURES else ""
    return _lower(message.partition(", unable to ")[0]) + cure


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:] if message[1:2].islower() else message


def _cure(key: str, steps: Sequence[Step], model: type[BaseModel], value: object) -> str:
    if not steps and key in keys_of(SmtpOptions):
        return "it belongs into options"
    if not steps and key in _OF_A_FLOW:
        return "it belongs into a flow of flows"
    if steps in ((), ("options",)) and key == "tls":
        return "key, cert and the like stand in options themselves"
    if key == "options" and steps[:1] == ("listeners",):
        return "its keys stand in the entry of listeners itself"
    if steps and steps[0] in {"options", "listeners"} and key in keys_of(model):
        return "it belongs to the top of the file"
    found = _models(model, steps, value)
    known = tuple(dict.fromkeys(each for one in found for each in keys_of(one)))
    for part in known:
        if key in {each for one in found for inner in _step(one, part, None) for each in _keys(inner)}:
            return f"it belongs into {part}"
    return nearest(key, known)


def _keys(annotation: Any) -> tuple[str, ...]:
    return keys_of(annotation) if isinstance(annotation, type) and issubclass(annotation, BaseModel) else ()


def keys_of(model: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a model as the file writes them."""
    return tuple(field.alias or name for name, field in model.model_fields.items())


def _models(model: type[BaseModel], steps: Sequence[Step], value: object) -> list[type[BaseModel]]:
    """The models that may read a place of the file."""
    at: list[Any] = [model]
    for step in steps:
        value = _child(value, step)
        at = [found for one in at for found in _step(one, step, value)]
    return [one for one in at if isinstance(one, type) and issubclass(one, BaseModel)]


def _step(annotation: Any, step: Step, value: object) -> Iterator[Any]:
    """The annotations one step below an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            if (field.alias or name) == step:
                yield from _resolved(field.annotation, field.metadata, value)
        return
    arguments = typing.get_args(annotation)
    if arguments:
        inner = arguments[-1] if isinstance(step, str) else arguments[0]
        yield from _resolved(inner, (), value)


def _resolved(annotation: Any, metadata: Sequence[Any], value: object) -> Iterator[Any]:
    """An annotation without `Annotated` and unions; a registry's field is the model that the
    value's type chooses."""
    for item in metadata:
        if isinstance(item, Chosen):
            type_ = value.get("type") if isinstance(value, Mapping) else None
            yield item.registry.options(str(type_))
            return
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        inner, *extra = typing.get_args(annotation)
        yield from _resolved(inner, extra, value)
    elif origin in {typing.Union, types.UnionType}:
        for one in typing.get_args(annotation):
            yield from _resolved(one, (), value)
    else:
        yield annotation


@contextmanager
def locate(config: RelayConfig, path: str, part: BaseModel, label: str = "") -> Iterator[None]:
    """Locates the mistakes in building a part of the configuration, which stands at `path`. Builders know
    only the part's label, as `filter NAME: password`, or the reference of a secret."""
    try:
        yield
    except ConfigErrors:
        raise
    except ConfigError as error:
        where, what = error.where, error.what
        if where.startswith(config.source):
            raise
        places = [
            at for at, one in secrets_of(part, path) if one.scheme != "plain" and one.shown == error.where
        ]
        own, _, inner = where.partition(": ")
        if places:
            where, what = ", ".join(places), f"{where}: {what}"
        elif label and own == label:
            inner = _PLAIN_NAME.sub(r".\1", inner)
            where = f"{path}.{inner}" if inner else path
        elif re.split(r"[.:\[]", where, maxsplit=1)[0] not in keys_of(type(config)):
            where, what = path, f"{where}: {what}"
        raise type(error)(f"{config.source}: {where}", what, error.cure) from error


@contextmanager
def locate_secret_errors(config: RelayConfig) -> Iterator[None]:
    """Locates a secret that is not available: the resolver of a reference does not know its place, so
    this block turns errors about references into errors about the file and the path in it."""
    try:
        yield
    except ConfigError as error:
        places = [
            path
            for path, secret in secrets_of(config)
            if secret.scheme != "plain" and secret.shown == error.where
        ]
        if not places:
            raise
        where = f"{config.source}: {', '.join(places)}"
        raise ConfigError(where, f"{error.where}: {error.what}", error.cure) from error
