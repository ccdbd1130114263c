"""Reads the locks of locks/: versions and hashes of all packages of a function.

`make lock` writes a lock: a requirement, its hashes, and under `# via` the packages that need it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from functions.errors import ConfigError

_PIN: Final = re.compile(r"([a-z0-9-]+)(\[[a-z0-9,-]+\])?==(\S+)(?: ; (.+?))? \\")
_HASH: Final = re.compile(r"    --hash=(sha256:[0-9a-f]{64})(?: \\)?")
_VIA: Final = re.compile(r"    #   ([a-z0-9-]+)( \(pyproject\.toml\))?")


@dataclass(frozen=True, slots=True)
class Pinned:
    """One package of a lock. `needed_by` names its dependents; `marker` is its condition (PEP 508)."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    needed_by: frozenset[str]

    @property
    def requirement(self) -> str:
        """The version and the hashes, as pip reads them behind the name."""
        where = f" ; {self.marker}" if self.marker else ""
        return f"=={self.version}{where} " + " ".join(f"--hash={digest}" for digest in self.hashes)


def read_lock(file: Path) -> dict[str, Pinned]:
    """All packages of a lock, by name. Raises ConfigError for a line that does not belong in a lock."""
    found: dict[str, tuple[re.Match[str], list[str], set[str]]] = {}
    current: tuple[re.Match[str], list[str], set[str]] | None = None
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("#") or line == "    # via":
            continue
        if pin := _PIN.fullmatch(line):
            current = found[pin[1]] = (pin, [], set())
        elif current is not None and (digest := _HASH.fullmatch(line)):
            current[1].append(digest[1])
        elif current is not None and (via := _VIA.fullmatch(line)):
            current[2].add(via[1])
        else:
            raise ConfigError(f"{file.name}, line {number}", "is not a line of a lock", "make lock")
    return {
        name: Pinned(name, pin[3], pin[4] or "", tuple(hashes), frozenset(needed_by))
        for name, (pin, hashes, needed_by) in found.items()
    }


def with_dependencies(lock: Mapping[str, Pinned], names: Iterable[str]) -> dict[str, str]:
    """The requirement of each of these packages, in their order because pip names the first one that is
    missing, and then of all packages that they need. Raises ConfigError for a package that the lock lacks."""
    first = list(names)
    taken = set(first)
    missing = sorted(taken - set(lock))
    if missing:
        raise ConfigError("locks", f"hold no {', '.join(missing)}", "make lock")
    while more := {name for name, one in lock.items() if name not in taken and one.needed_by & taken}:
        taken |= more
    return {name: lock[name].requirement for name in [*first, *sorted(taken.difference(first))]}
