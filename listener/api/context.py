"""The arguments of a filter's `build()` besides its options."""

from __future__ import annotations

from dataclasses import dataclass

from functions.options.secrets import Runtime


@dataclass(frozen=True, slots=True)
class BuildContext(Runtime):
    """The process's surroundings, and `filter_timeout`, the number of seconds that a filter has to answer."""

    filter_timeout: float = 30.0
