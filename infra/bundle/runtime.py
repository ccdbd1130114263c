"""The platform of a Lambda function: a version of Python, a processor, and the system."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from functions.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Linux:
    """The system under a runtime of Lambda. `glibc`: the minor version of its C library, 2.x."""

    name: str
    glibc: int


_LINUX_2: Final = Linux("Amazon Linux 2", 26)
_LINUX_2023: Final = Linux("Amazon Linux 2023", 34)

RUNTIMES: Final[Mapping[str, Linux]] = {
    "3.11": _LINUX_2,
    "3.12": _LINUX_2023,
    "3.13": _LINUX_2023,
    "3.14": _LINUX_2023,
}
"""Python versions that Lambda runs, and their systems (docs.aws.amazon.com, "Lambda runtimes")."""

DEFAULT_PYTHON: Final = "3.13"
"""The version of a deployment that names none: the same one, whichever machine deploys."""

THIS_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of this Python."""

MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
"""Processors by Lambda's names, with the names in wheels."""

_OLDEST: Final = 5  # manylinux1 is manylinux_2_5 (PEP 600)


@dataclass(frozen=True, slots=True)
class Platform:
    """The function's platform: a version of Python, and `arm64` or `x86_64`."""

    python: str = DEFAULT_PYTHON
    arch: str = "arm64"

    def __post_init__(self) -> None:
        if self.python not in RUNTIMES or self.arch not in MACHINES:
            raise ConfigError(f"platform {self.python} {self.arch}", "is not one of Lambda's")

    def __str__(self) -> str:
        linux = RUNTIMES[self.python]
        return f"python{self.python} on {self.arch} ({linux.name}, glibc 2.{linux.glibc})"

    @property
    def tags(self) -> list[str]:
        """Platform tags (PEP 600) of the wheels whose C library is no newer than the runtime's, best
        first. Wheels for a newer one, or for musl, do not load there."""
        machine, newest = MACHINES[self.arch], RUNTIMES[self.python].glibc
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST - 1, -1)]
        return [*tags, f"manylinux2014_{machine}"]  # pip adds manylinux2010 and manylinux1
