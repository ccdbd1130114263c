"""The events of a delivery, for the observer that counts (metrics)."""

from __future__ import annotations

from typing import Literal

Status = Literal["delivered", "error"]


class DeliveryEvents:
    """The events of deliveries. This class counts nothing; an observer overrides the methods that it
    counts by. They are called from delivery threads, must be quick and never raise. Durations are in
    seconds."""

    __slots__ = ()

    def spool_stored(self, seconds: float) -> None:
        """A mail, or a batch of mails, became durable. Both spool events may come from another thread
        than the event loop's, if all come from that one."""

    def spool_error(self) -> None:
        """The spool did not take a mail."""

    def output_done(self, flow: str, output: str, status: Status, seconds: float) -> None:
        """One attempt of an output ended; `error` for temporary and permanent faults alike. Any
        thread may call this, and the four that follow."""

    def retry(self, flow: str, output: str) -> None:
        """An output will be retried later."""

    def dead_letter(self, flow: str, output: str) -> None:
        """An output was given up and a dead record written."""

    def no_login(self, flow: str, output: str) -> None:
        """An attempt failed because the output could not log in."""

    def in_doubt(self, flow: str, output: str) -> None:
        """A call that is not safe to repeat got no answer."""

    def backlog(self, oldest: float | None, unfinished: int, dead: int) -> None:
        """The content of the spool: the age in seconds of the oldest unfinished mail (None if there is
        none), the number of unfinished mails, the number of dead records."""
