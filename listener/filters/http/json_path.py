"""A small part of JSONPath: a way down by names and places, no wildcards, filters or slices.

`$.user.name`, `user.name`, `$.answers[0].ok`, `$['odd key'].x`. The leading `$` may be omitted. A
number after a dot is a name in an object and a place in an array (`answers.0.ok`), because existing
configurations write it so.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator

_STEP: Final = re.compile(
    r"""
      \.?(?P<name>[^.\[\]'"\s]+)
    | \[(?P<place>[0-9]{1,9})\]
    | \['(?P<single>[^']*)'\] | \["(?P<double>[^"]*)"\]
    """,
    re.VERBOSE,
)

MISSING: Final = object()
"""The result of `find` if the path leads nowhere."""


class JsonPath:
    """A parsed path; `steps` are names (str) and places (int). Raises ValueError for other text."""

    def __init__(self, text: str) -> None:
        self.text = text
        rest = text.removeprefix("$")
        if not rest or (rest is not text and rest[0] not in ".["):
            raise ValueError(_shape(text))
        self.steps: list[str | int] = []
        at = 0
        while at < len(rest):
            step = _STEP.match(rest, at)
            # Only the first name may come without its dot.
            if step is None or (at and step["name"] is not None and rest[at] != "."):
                raise ValueError(_shape(text))
            if step["place"] is not None:
                self.steps.append(int(step["place"]))
            else:
                self.steps.append(next(n for n in step.group("name", "single", "double") if n is not None))
            at = step.end()

    def find(self, value: Any) -> Any:
        """The value at the path, or MISSING."""
        for step in self.steps:
            if isinstance(value, list):
                place = int(step) if str(step).isascii() and str(step).isdigit() else len(value)
                value = value[place] if place < len(value) else MISSING
            elif isinstance(value, dict):
                value = value.get(step, MISSING)
            else:
                return MISSING
        return value

    def put(self, target: dict[str, Any], value: Any) -> None:
        """Set the value at the path, making objects on the way. Raises ValueError if a value other than
        an object is in the way, or the path holds a place in an array."""
        *way, last = self.names()
        for name in way:
            target = target.setdefault(name, {})
            if not isinstance(target, dict):
                raise ValueError(f"{self.text!r} leads through another field")
        if last in target:
            raise ValueError(f"{self.text!r} stands where another field does")
        target[last] = value

    def names(self) -> list[str]:
        """The steps, if all are names. Raises ValueError otherwise."""
        if any(isinstance(step, int) for step in self.steps):
            raise ValueError(f"{self.text!r} names a place in an array, which cannot be written to")
        return [str(step) for step in self.steps]


def _shape(text: str) -> str:
    return f"{text!r} is not a path such as $.user.name or $.answers[0].ok"


def check_path(text: str) -> str:
    """A path, unchanged. Raises ValueError."""
    JsonPath(text)
    return text


PathText = Annotated[str, AfterValidator(check_path)]
