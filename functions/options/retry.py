"""Waits between attempts, for all outputs and for one."""

from __future__ import annotations

from pydantic import model_validator

from functions.options.types import Milliseconds, OptionsModel


class RetryOptions(OptionsModel):
    """Waits between attempts, doubling with jitter."""

    first: Milliseconds = 30_000
    """Time before the second attempt."""

    max: Milliseconds = 900_000
    """Longest wait."""

    @model_validator(mode="after")
    def _in_order(self) -> RetryOptions:
        if self.first > self.max:
            raise ValueError("first is longer than max (make max at least as long)")
        return self
