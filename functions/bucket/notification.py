"""What the notifications of both clouds have in common."""

from __future__ import annotations


class ForeignMessage(ValueError):
    """The message tells of no mail of this spool; `str()` says why. It is never worth another try."""
