"""The shared parts of the models of the configuration file."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic_core import CoreSchema, core_schema

from functions.message.text import UNFIT_FOR_FIELD

CAMEL: Final = ConfigDict(alias_generator=to_camel)
"""The setting for a model whose keys in the file are the camelCase forms of its fields."""


class OptionsModel(BaseModel):
    """A frozen part of the configuration; unknown keys are errors, keys are camelCase."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, alias_generator=to_camel)


Milliseconds = Annotated[int, Field(ge=0, le=31_536_000_000)]
"""A duration in milliseconds, at most a year."""

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
        raise ValueError("takes no template variables: its name has to be known beforehand")
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
