"""Mailpit's chaos triggers: failures by chance at MAIL, RCPT and AUTH."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final, NamedTuple

from listener.filters.respond.rules import PhaseName, RespondRule, ScriptedReply


class Trigger(NamedTuple):
    """One failure: its reply code, and how likely it is in percent."""

    code: int
    probability: int = 0


_PLACES: Final[Mapping[str, tuple[PhaseName, Trigger]]] = {
    "Sender": ("mail", Trigger(451)),
    "Recipient": ("rcpt", Trigger(451)),
    "Authentication": ("auth", Trigger(535)),
}
"""The names of the triggers there, their phases, and their defaults."""


class Chaos:
    """The three triggers."""

    def __init__(self, triggers: Mapping[str, Trigger]) -> None:
        self._triggers = {name: triggers.get(name, usual) for name, (_, usual) in _PLACES.items()}

    @classmethod
    def of(cls, value: object) -> Chaos:
        """The triggers of a JSON object; those that are missing are off. Names count in any case, and a code
        of 0 is the default, as there. Raises ValueError."""
        given = _fields(value, _PLACES, "the body")
        found: dict[str, Trigger] = {}
        for name, one in given.items():
            numbers = _fields(one, ("ErrorCode", "Probability"), name)
            for key, number in numbers.items():
                if not isinstance(number, int) or isinstance(number, bool):
                    raise ValueError(f"{name}.{key} is not a whole number")
            code = numbers.get("ErrorCode") or _PLACES[name][1].code
            probability = numbers.get("Probability", 0)
            if not 400 <= code <= 599:
                raise ValueError("error code must be between 400 and 599")
            if not 0 <= probability <= 100:
                raise ValueError("probability must be between 0 and 100")
            found[name] = Trigger(code, probability)
        return cls(found)

    def as_json(self) -> dict[str, dict[str, int]]:
        """The triggers in Mailpit's form."""
        return {
            name: {"ErrorCode": one.code, "Probability": one.probability}
            for name, one in self._triggers.items()
        }

    def rules(self, user: str | None = None) -> list[RespondRule]:
        """The rules that the triggers stand for, about one user or all."""
        return [
            RespondRule(
                phase=_PLACES[name][0],
                user=None if user is None else (user,),
                probability=one.probability / 100,
                reply=ScriptedReply(code=one.code, text=f"Chaos {name.lower()} error"),
            )
            for name, one in self._triggers.items()
            if one.probability
        ]


OFF: Final = Chaos({})
"""No failures."""


def _fields(value: object, names: Collection[str], where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} is not an object")
    known = {name.lower(): name for name in names}
    found: dict[str, Any] = {}
    for key, one in value.items():
        name = known.get(str(key).lower())
        if name is None or name in found:
            raise ValueError(f"{where} has the key {str(key)[:60]!r} (there are {', '.join(names)})")
        if one is not None:
            found[name] = one
    return found
