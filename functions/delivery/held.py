"""What stands for outputs that another process is to run."""

from __future__ import annotations

from typing import Final

from functions.errors import Temporary
from functions.processors.base import Job, Processor

_LATER: Final = 43_200.0


class Held(Processor):
    """Leaves every mail in the spool: `delivery.mode` is `events`, and whoever wants the outputs run
    starts a server that runs them."""

    def process(self, job: Job) -> None:
        raise Temporary("delivery.mode is events: this process runs no outputs", retry_after=_LATER)
