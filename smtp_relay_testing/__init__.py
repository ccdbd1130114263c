"""A plugin of pytest: the fixture `mailbox`, the mails that the code under test sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from smtp_relay_testing.mail import Mail
    from smtp_relay_testing.mailbox import Mailbox

__all__ = ["Mail", "Mailbox"]


def __getattr__(name: str) -> object:
    """For annotations in tests. pytest imports this package in every run, so nothing is imported before."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{name.lower()}"), name)
