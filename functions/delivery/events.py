"""The events of a delivery, for metrics. The null observer costs next to nothing."""

from __future__ import annotations

from typing import Literal, Protocol

Status = Literal["delivered", "error"]


class Observer(Protocol):
    """Its methods are called from delivery threads; they must be quick and never raise. Durations are
    in seconds."""

    def spool_stored(self, seconds: float) -> None:
        """A batch of mails became durable."""

    def spool_error(self) -> None:
        """The spool did not take a mail."""

    def output_done(self, flow: str, output: str, status: Status, seconds: float) -> None:
        """One attempt of an output ended."""

    def retry(self, flow: str, output: str) -> None:
        """An output will be tried again later."""

    def dead_letter(self, flow: str, output: str) -> None:
        """An output was given up and a dead record written."""

    def in_doubt(self, flow: str, output: str) -> None:
        """A call that is not safe to repeat got no answer."""

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        """The content of the spool: Unix time of the oldest unfinished mail, and the counts."""


class NullObserver:
    """Counts nothing."""

    def spool_stored(self, seconds: float) -> None: ...

    def spool_error(self) -> None: ...

    def output_done(self, flow: str, output: str, status: Status, seconds: float) -> None: ...

    def retry(self, flow: str, output: str) -> None: ...

    def dead_letter(self, flow: str, output: str) -> None: ...

    def in_doubt(self, flow: str, output: str) -> None: ...

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None: ...
