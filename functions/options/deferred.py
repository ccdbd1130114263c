"""Parts of a configuration whose models are built only where a file uses them.

Building the schema of a model costs about half a millisecond for each field. The options of an output
have many parts that most files leave out, and a function's cold start pays for every one.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

DEFERRED: Final = "deferred"
"""The key of a core schema's metadata under which a deferred field's model is."""


class Deferred:
    """Annotates a field whose type is `model`, a model with `defer_build`; the field's default has to
    be made by `model_construct`, which builds nothing."""

    def __init__(self, model: type[BaseModel]) -> None:
        self._model = model

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        # Who describes the configuration finds the model here: building it now is what is put off.
        return core_schema.no_info_plain_validator_function(self._read, metadata={DEFERRED: self._model})

    def _read(self, value: object) -> BaseModel:
        if isinstance(value, self._model):
            return value
        return self._model.model_validate(value, by_alias=True, by_name=False)
