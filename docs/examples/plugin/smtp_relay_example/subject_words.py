"""The filter `subject-words`: refuses mails whose subject holds one of some words."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from functions.message.charset import decode_words
from functions.message.fields import first_value
from listener.api.decision import ACCEPT, Decision, Phase, refuse
from listener.api.filter import BuildContext, Filter, FilterOptions
from listener.api.session import Message, Session, Transaction


class Options(FilterOptions):
    """What stands in the configuration beside `type`."""

    type: Literal["subject-words"]

    refuse: tuple[str, ...] = Field(min_length=1)
    """Words that no subject may hold, in any case."""


class SubjectWords(Filter):
    """Reads the header of each mail; it says nothing before DATA."""

    phases = frozenset({Phase.DATA})

    def __init__(self, name: str, options: Options) -> None:
        super().__init__(name)
        self._words = [word.casefold() for word in options.refuse]

    # A plain function, since it only computes; `async def` is for a filter that waits.
    def on_data(
        self, session: Session, transaction: Transaction, message: Message, recipients: tuple[str, ...]
    ) -> Decision:
        subject = decode_words(first_value(message.head, b"subject") or b"").casefold()
        if any(word in subject for word in self._words):
            return refuse(550, "5.7.1", "We do not take mail about that")
        return ACCEPT


def build(options: Options, name: str, context: BuildContext) -> SubjectWords:
    """Called once for each such filter of the configuration."""
    return SubjectWords(name, options)
