"""The part of the notifications that both clouds share."""

from __future__ import annotations


class ForeignMessage(ValueError):
    """The message names no mail of this spool; `str()` says why. A retry never helps."""
