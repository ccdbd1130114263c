"""The rules of `respond`: the command that a rule is about, and the answer to it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from functions.options.types import Milliseconds, OptionsModel
from listener.api.decision import Exact
from listener.filters.pattern import Values, as_tuple
from listener.filters.whitelist import Paths

PhaseName = Literal["connect", "auth", "mail", "rcpt", "data"]

MAX_RULES: Final = 100
"""Most rules of one filter, and of the server at run time."""

MAX_DELAY: Final = 60_000
"""Milliseconds."""

TEXT: Final = "This answer is scripted"
_LINE: Final = re.compile(r"([0-9]{3})(?:[ -]([0-9]\.[0-9]{1,3}\.[0-9]{1,3}))?(?:[ -](.*))?")
_ENHANCED: Final = re.compile(r"[45]\.(?:0|[1-9][0-9]{0,2})\.(?:0|[1-9][0-9]{0,2})")  # RFC 3463 section 2
_PRINTABLE: Final = re.compile(r"[ -~]+")  # RFC 5321 section 4.2

_USUAL: Final = {
    421: "4.3.2", 450: "4.2.0", 451: "4.3.0", 452: "4.3.1", 454: "4.7.0", 455: "4.5.4",
    500: "5.5.2", 501: "5.5.4", 502: "5.5.1", 503: "5.5.1", 504: "5.5.4", 521: "5.3.2", 530: "5.7.0",
    534: "5.7.9", 535: "5.7.8", 538: "5.7.11", 550: "5.7.1", 551: "5.1.6", 552: "5.2.2", 553: "5.1.3",
    554: "5.7.0", 555: "5.5.4", 556: "5.1.10",
}  # fmt: skip
"""The enhanced code of a reply that names none (RFC 5321 section 4.2.3, RFC 3463 section 3, RFC 7504)."""


def enhanced_for(code: int) -> str:
    """The enhanced code of a reply that names none."""
    return _USUAL.get(code, f"{code // 100}.0.0")


def _from_line(value: Any) -> Any:
    """A reply that is written as its line: `451 4.7.1 text`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    found = _LINE.fullmatch(value)
    if found is None:
        raise ValueError(f"{value!r} is no reply such as '451 4.7.1 Try again later'")
    read = {"code": int(found[1]), "enhancedCode": found[2], "text": found[3]}
    return {key: one for key, one in read.items() if one}


class ScriptedReply(OptionsModel):
    """A reply, which is sent as it stands."""

    code: int = Field(ge=400, le=599)
    """4yz or 5yz. After 421 the connection is closed."""

    enhanced_code: str = ""
    """Of the same class. Default: the usual one of the code."""

    text: str = Field(default=TEXT, min_length=1, max_length=480)
    """Printable ASCII."""

    @model_validator(mode="after")
    def _consistent(self) -> ScriptedReply:
        said = self.enhanced_code
        if said and (_ENHANCED.fullmatch(said) is None or said[0] != str(self.code)[0]):
            raise ValueError(
                f"enhancedCode: {said!r} does not fit {self.code} (write {enhanced_for(self.code)})"
            )
        if not _PRINTABLE.fullmatch(self.text):
            raise ValueError(f"text: {self.text[:60]!r} is not printable ASCII (use one line of it)")
        return self

    @property
    def reply(self) -> Exact:
        """The reply."""
        return Exact(self.code, self.enhanced_code or enhanced_for(self.code), self.text)


def user_values(names: tuple[str, ...]) -> Values:
    """The comparison with user names, case included."""
    return Values(names, canonical=str, glob=str)


def _checked_user(name: str) -> str:
    user_values((name,))
    return name


def _numbers(value: Any) -> Any:
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


Users = Annotated[
    tuple[Annotated[str, Field(min_length=1), AfterValidator(_checked_user)], ...],
    BeforeValidator(as_tuple, json_schema_input_type=str | list[str]),
    Field(min_length=1),
]
Recipients = Annotated[Paths, Field(min_length=1)]
Numbers = Annotated[
    tuple[Annotated[int, Field(ge=1, le=1_000_000, strict=True)], ...],
    BeforeValidator(_numbers, json_schema_input_type=int | list[int]),
    Field(min_length=1, max_length=MAX_RULES),
]
Line = Annotated[ScriptedReply, BeforeValidator(_from_line, json_schema_input_type=ScriptedReply | str)]


class RespondRule(OptionsModel):
    """One rule. All its conditions must hold; the first rule that applies gives the answer."""

    phase: PhaseName = "rcpt"
    """The question: a new connection, AUTH, MAIL, RCPT, or the whole mail."""

    to: Recipients | None = None
    """Recipients, as in `whitelist`; at `data` one of the mail's."""

    user: Users | None = None
    """Users; at `auth` the name that the client gives."""

    nth: Numbers | None = None
    """Only these of the commands that meet `phase`, `to` and `user`, counted from 1."""

    rate: int | None = Field(default=None, ge=1, le=1_000_000)
    """Only what is more than so many a minute."""

    probability: float | None = Field(default=None, gt=0, le=1)
    """Only by chance."""

    seed: int | None = None
    """The same chances at each start."""

    reply: Line | None = None
    """The reply, also as text: `451 4.7.1 Try again later`."""

    delay: Milliseconds = Field(default=0, le=MAX_DELAY)
    """Wait so long before the answer."""

    drop: bool = False
    """Close the connection instead of a reply."""

    @model_validator(mode="after")
    def _consistent(self) -> RespondRule:
        if self.reply is not None and self.drop:
            raise ValueError("has reply and drop (remove one of them)")
        if self.reply is None and not self.drop and not self.delay:
            raise ValueError("does nothing (give reply, delay or drop)")
        if self.to is not None and self.phase not in ("rcpt", "data"):
            raise ValueError(f"to: no recipient is known at {self.phase} (use phase rcpt or data)")
        if self.user is not None and self.phase == "connect":
            raise ValueError("user: no user is known at connect (use a later phase)")
        if self.seed is not None and self.probability is None:
            raise ValueError("seed: there is no chance without probability (give it, or remove seed)")
        return self

    def as_json(self) -> dict[str, Any]:
        """The rule as JSON, without what is not given."""
        found = self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
        return {"phase": self.phase, **found}


class RuntimeRule(RespondRule):
    """A rule of `PUT /api/v1/respond`."""

    flow: str | None = None
    """The flow that it is about. Default: all."""
