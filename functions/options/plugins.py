"""Third parties' filters and outputs, found through entry points (docs/plugins.md).

An entry point's name is the `type` in the configuration; it names a module, class or other object with
`Options` (a pydantic model with that type) and `build(options, name, context)`. The module looks up
entry points only when a configuration names a type that is not built in, and imports a plugin only when
a configuration names its type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class BrokenPlugin(Exception):
    """An installed plugin does not have the expected form; `str()` names it and the reason."""


class Plugin(NamedTuple):
    """One installed kind."""

    options: type[BaseModel]
    build: Callable[..., Any]


def entry_points(**wanted: str) -> Any:
    """The entry points of importlib.metadata. The import happens on demand, because it is half of the
    imports for a configuration without plugins."""
    from importlib import metadata

    return metadata.entry_points(**wanted)


def installed(group: str) -> tuple[str, ...]:
    """The types of plugins, sorted, without importing them."""
    return tuple(sorted(entry_points(group=group).names))


def load(group: str, type_: str, base: type[BaseModel]) -> Plugin | None:
    """The plugin of a type, None if none is installed. Its options must derive from `base`.

    Raises BrokenPlugin.
    """
    found = _distinct(entry_points(group=group, name=type_))
    if not found:
        return None
    if len(found) > 1:
        raise BrokenPlugin(
            f"type {type_!r} comes from {' and '.join(sorted(map(_whose, found)))}: remove one"
        )
    entry = found[0]
    try:
        thing = entry.load()
    except Exception as error:  # a third party's module may raise anything during import
        raise BrokenPlugin(f"{_whose(entry)} cannot be loaded: {type(error).__name__}: {error}") from error
    options, build = getattr(thing, "Options", None), getattr(thing, "build", None)
    if not (isinstance(options, type) and issubclass(options, base)):
        raise BrokenPlugin(f"{_whose(entry)} has no Options that derive from {base.__name__}")
    if not callable(build):
        raise BrokenPlugin(f"{_whose(entry)} has no build(options, name, context)")
    return Plugin(options, build)


def _distinct(entries: Any) -> list[EntryPoint]:
    """A distribution at two places of sys.path counts once."""
    return list({(_whose(entry), entry.value): entry for entry in entries}.values())


def _whose(entry: EntryPoint) -> str:
    return f"plugin {entry.dist.name if entry.dist else entry.value}"
