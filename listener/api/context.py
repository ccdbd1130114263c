"""What a filter's `build()` is given besides its options."""

from __future__ import annotations

from dataclasses import dataclass

from functions.options.secrets import Runtime


@dataclass(frozen=True, slots=True)
class BuildContext(Runtime):
    """Where the process runs, and `filter_timeout`, how many seconds a filter may take to answer."""

    filter_timeout: float = 30.0
