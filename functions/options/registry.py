"""Kinds of filters or outputs: type names to the places of their options model and build().

The registry imports a kind's module only when a configuration names the kind, so a start pays only
for what it uses. Third parties add kinds through entry points, which name a module, class or other
object with an `Options` model and a `build(options, name, context)`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from functions.errors import ConfigError
from functions.options import plugins
from functions.options.packages import NotAvailable, not_installed

Base = TypeVar("Base", bound=BaseModel)

_REMOVE: Final = "update the plugin, or remove this entry"
_CORRECT: Final = "correct this entry, and what it names in the environment"


@dataclass(frozen=True, slots=True)
class Kind:
    """The place of a kind: `options` and `build` as `module:attribute`. `extra` is the distribution's
    extra with the imports of its build()."""

    options: str
    build: str
    extra: str = ""


def kind(module: str, options: str) -> Kind:
    """A kind that keeps its options model, named `options`, and its build() in one module."""
    return Kind(f"{module}:{options}", f"{module}:build")


class Registry(Generic[Base]):
    """The kinds of one noun (`filter`, `output`), all of whose options derive from `base`."""

    def __init__(
        self,
        noun: str,
        base: type[Base],
        group: str,
        kinds: Mapping[str, Kind],
        synonyms: Mapping[str, str] | None = None,
    ) -> None:
        self.noun = noun
        self.synonyms: Final = synonyms or {}
        """Words that users write to the type that they mean."""
        self.base = base
        self.group: Final = group
        self.kinds = kinds

    def names(self) -> tuple[str, ...]:
        """All known types, third parties' last."""
        return (*self.kinds, *(name for name in plugins.installed(self.group) if name not in self.kinds))

    def options(self, type_: str) -> type[Base] | None:
        """The options model of a type, None if unknown. Raises BrokenPlugin."""
        if type_ in self.kinds:
            found: type[Base] = _load(self.kinds[type_].options)
            return found
        plugin = plugins.load(self.group, type_, self.base)
        return None if plugin is None else cast("type[Base]", plugin.options)

    def builder(self, type_: str) -> Callable[..., Any]:
        """The type's build(). Raises NotAvailable if it cannot be imported."""
        known = self.kinds.get(type_)
        if known is None:
            return self._plugin_builder(type_)
        try:
            return _load(known.build)  # type: ignore[no-any-return]
        except ImportError as error:
            raise not_installed(f"{self.noun} {type_}", f"type {type_!r}", error, known.extra) from error

    def build(self, options: Base, label: str, context: Any) -> Any:
        """What the type's build() makes; `label` is the entry's. Raises ConfigError: NotAvailable if a
        package is not installed, and with the error's name if a build() fails otherwise."""
        type_: str = getattr(options, "type")  # noqa: B009 - every base has it, and BaseModel has not
        known = self.kinds.get(type_)
        where = f"{self.noun} {label}"
        try:
            return self.builder(type_)(options, label, context)
        except ImportError as error:
            raise not_installed(where, f"type {type_!r}", error, known.extra if known else "") from error
        except NotAvailable as error:
            if error.where != f"{self.noun} {type_}":
                raise
            raise NotAvailable(where, error.what, error.cure) from error
        except ConfigError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            if known is not None:
                raise ConfigError(where, f"cannot be built: {said}", _CORRECT) from error
            raise ConfigError(where, f"plugin {type_!r} failed: {said}", _REMOVE) from error

    def parse(self, value: object) -> Base:
        """The options for a value of the configuration file. Raises pydantic's ValidationError, or
        PydanticCustomError, which pydantic converts to one."""
        if isinstance(value, self.base):
            return value
        if not isinstance(value, Mapping):
            raise PydanticCustomError("not_an_object", f"expected an object with a type: one {self.noun}")
        type_ = value.get("type")
        try:
            model = self.options(type_) if isinstance(type_, str) else None
        except plugins.BrokenPlugin as error:
            raise PydanticCustomError("broken_plugin", "{text}", {"text": str(error)}) from error
        if model is None:
            raise PydanticCustomError("unknown_type", "{text}", {"text": self._unknown(type_)})
        return model.model_validate(value, by_alias=True, by_name=False)

    def _plugin_builder(self, type_: str) -> Callable[..., Any]:
        try:
            plugin = plugins.load(self.group, type_, self.base)
        except plugins.BrokenPlugin as error:
            raise NotAvailable(f"{self.noun} {type_}", str(error), _REMOVE) from error
        if plugin is None:
            raise NotAvailable(f"{self.noun} {type_}", "is not installed", f"install the plugin of {type_!r}")
        return plugin.build

    def _unknown(self, type_: object) -> str:
        names = self.names()
        if type_ is None:
            return f"the {self.noun} has no type; it is one of {', '.join(names)}"
        meant = self.synonyms.get(str(type_).casefold())
        cure = f"did you mean {meant!r}?" if meant else nearest(str(type_), names)
        return f"unknown {self.noun} type {type_!r}, {cure}"


class Chosen:
    """Annotates a field so that the registry's model for its `type` reads its value."""

    def __init__(self, registry: Registry[Any]) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.registry.parse)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        models = [self.registry.options(name) for name in self.registry.kinds]
        each = list(dict.fromkeys(model for model in models if model is not None))
        return {"oneOf": [handler(model.__pydantic_core_schema__) for model in each]}


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` if a known name is close, else the known names."""
    by_folded = {name.casefold(): name for name in known}
    import difflib

    begun = [name for folded, name in by_folded.items() if folded.startswith(word.casefold())]
    if len(begun) == 1 and len(word) > 2:
        return f"did you mean {begun[0]!r}?"
    close = difflib.get_close_matches(word.casefold(), by_folded, n=1, cutoff=0.6)
    if close:
        return f"did you mean {by_folded[close[0]]!r}?"
    return f"known are {', '.join(by_folded.values())}" if by_folded else "none is known here"


def _load(place: str) -> Any:
    module, _, attribute = place.partition(":")
    return getattr(importlib.import_module(module), attribute)
