"""The shared parts of the models of the configuration file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from functions.message.text import UNFIT_FOR_FIELD

CAMEL: Final = ConfigDict(alias_generator=to_camel)
"""The setting for a model whose keys in the file are the camelCase forms of its fields."""


class OptionsModel(BaseModel):
    """A frozen part of the configuration; unknown keys are errors, keys are camelCase."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel)


_AMOUNT: Final = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_WITH_UNIT: Final = re.compile(rf"({_AMOUNT})([A-Za-z]+)")
_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]+(?:\.0*)?\s*")


class InUnits:
    """Annotates a whole number that the file may also write as a text with a unit. `units` are the sizes
    of the units; `name` is the unit of a plain number, `forms` a few valid texts. The number is 0 to
    `most`, unless its field has bounds of its own: those stand before this annotation, as pydantic puts
    the field's, and go before these."""

    def __init__(self, name: str, forms: str, units: Mapping[str, int], most: int | None = None) -> None:
        self._name = name
        self._forms = forms
        self._units = units
        self._bounds = {"ge": 0} if most is None else {"ge": 0, "le": most}

    def read(self, value: Any) -> Any:
        """A text with a unit as a number; other values unchanged. Raises ValueError."""
        if not isinstance(value, str) or _NUMBER.fullmatch(value):
            return value
        found = _WITH_UNIT.fullmatch(value)
        if found is None or found[2] not in self._units:
            raise ValueError(
                f"{value!r} is neither a number of {self._name} nor a text such as {self._forms}"
            )
        # Whole numbers, because a binary fraction of 0.1 is not 0.1.
        whole, _, part = found[1].partition(".")
        number, rest = divmod(int(whole + part) * self._units[found[2]], 10 ** len(part))
        if rest:
            raise ValueError(f"{value!r} is not a whole number of {self._name}, such as {self._forms}")
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        number: Any = {**self._bounds, **handler(source)}
        return core_schema.no_info_before_validator_function(self.read, number)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        units = "|".join(self._units)
        return {"anyOf": [handler(schema), {"type": "string", "pattern": f"^{_AMOUNT}(?:{units})$"}]}


DURATION: Final = InUnits(
    "milliseconds",
    "500ms, 30s, 5m, 2h or 7d",
    {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000},
    most=31_536_000_000,
)

Milliseconds = Annotated[int, DURATION]
"""A duration, at most a year: a number of milliseconds, or a text with a unit."""

ByteCount = Annotated[
    int,
    InUnits(
        "bytes",
        "500KB, 10MB or 10MiB",
        {"B": 1}
        | {"kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
        | {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40},
    ),
]
"""A number of bytes, or a text with a unit: `10MB` is 10,000,000 bytes, `10MiB` 10,485,760."""

Port = Annotated[int, Field(ge=0, le=65_535)]
"""A TCP port; 0 lets the system choose a free one (tests)."""

_FIELD_NAME: Final = re.compile(r"[!-9;-~]+")  # RFC 5322 section 2.2: printable US-ASCII except the colon


def check_field_name(name: str) -> str:
    """A header field's name, unchanged. Raises ValueError if RFC 5322 section 2.2 forbids it."""
    if not _FIELD_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a header field")
    return name


def check_field_value(value: str) -> str:
    """A header field's value, unchanged. Raises ValueError for CR, LF and control characters."""
    if UNFIT_FOR_FIELD.search(value):
        raise ValueError("a header field's value cannot hold line breaks or control characters")
    return value


def check_template(text: str) -> str:
    """A template, unchanged. Raises ValueError for an unknown variable (docs/concepts.md)."""
    from functions.message.template import Template

    Template.parse(text)
    return text


def check_no_variable(text: str) -> str:
    """A text, unchanged. Raises ValueError when it holds a template variable, which is not possible
    here."""
    if "${" in text:
        raise ValueError(
            "takes no template variables: its name has to be known beforehand (write it out; variables "
            "belong into filename of file, and path of storage)"
        )
    return text


def check_label(text: str) -> str:
    """A name for logs and metrics, unchanged. Raises ValueError for control characters."""
    if not text.isprintable():
        raise ValueError(f"{text!r} cannot be a name: it holds control characters")
    return text


Label = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(check_label)]
"""The name of a flow or listener, which appears in logs, metrics and dead records."""

TemplateText = Annotated[str, AfterValidator(check_template)]
"""A text with template variables; the processor parses it."""

PlainText = Annotated[str, Field(min_length=1), AfterValidator(check_no_variable)]
"""The name of a bucket, queue or topic: no template variables."""

FieldName = Annotated[str, AfterValidator(check_field_name)]
FieldValue = Annotated[str, AfterValidator(check_field_value)]


class Breaking(str):
    """A difference from loopingz/smtp-relay that refuses or changes what worked there."""

    __slots__ = ()


DEFERRED: Final = "deferred"
"""The key of a deferred field's model in the metadata of a core schema."""


class Deferred:
    """Annotates a field whose type is `model`, a model with `defer_build`; make the field's default with
    `model_construct`, which builds nothing."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # The generator of the JSON Schema reads the model from here, because building it at import is
        # what this class avoids.
        return core_schema.no_info_plain_validator_function(self._read, metadata={DEFERRED: self._model})

    def _read(self, value: object) -> BaseModel:
        if isinstance(value, self._model):
            return value
        return self._model.model_validate(value, by_alias=True, by_name=False)
