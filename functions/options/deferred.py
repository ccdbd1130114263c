"""Parts of a configuration whose models are built only if a file uses them.

Building the schema of a model costs about half a millisecond for each field. Most files omit most parts
of an output's options, and a function's cold start pays for every model.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

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
