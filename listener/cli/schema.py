"""The JSON Schema of the configuration file, or of events, made from their models.

Descriptions are the docstrings under the fields. Only this module reads them, from the source,
because reading them when the models are defined would cost every start some 50 ms.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import json
import textwrap
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from functions.options.types import DEFERRED
from functions.processors.base import OutputOptions
from listener.api.filter import FilterOptions
from listener.cli.parser import give_examples
from listener.config.relay import RelayConfig

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which schema."""
    parser.add_argument("--event", action="store_true", help="the schema of the CloudEvent of a mail")
    give_examples(parser, "smtp-relay schema > config.schema.json", "smtp-relay schema --event")


def run(arguments: argparse.Namespace) -> int:
    """Print the schema."""
    print(text(event_schema() if arguments.event else schema()), end="")
    return 0


def schema() -> dict[str, Any]:
    """The configuration's schema as plain values."""
    made = RelayConfig.model_json_schema(by_alias=True, schema_generator=_Documented, mode="validation")
    return {"$schema": DIALECT, "title": "smtp-relay configuration", **made}


def event_schema() -> dict[str, Any]:
    """The schema of events as plain values."""
    from functions.message.event.models import SCHEMA_ID, MailEvent

    made = MailEvent.model_json_schema(by_alias=True, schema_generator=_Documented, mode="validation")
    return {"$schema": DIALECT, "$id": SCHEMA_ID, "title": "The CloudEvent of a mail", **made}


def text(made: Mapping[str, Any]) -> str:
    """A schema in its committed form."""
    return json.dumps(made, indent=2, ensure_ascii=False) + "\n"


class _Documented(GenerateJsonSchema):
    """Adds the fields' docstrings, and omits titles that only repeat the key."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        model: type[BaseModel] = schema["cls"]
        made.pop("title", None)
        made["description"] = _paragraph(inspect.getdoc(model) or "")
        docs = field_docs(model)
        properties: dict[str, Any] = made.get("properties", {})
        for name, field in model.model_fields.items():
            key = field.alias or name
            if key not in properties:
                continue
            # Defaults that are objects only repeat the defaults of their fields.
            if isinstance(properties[key].get("default"), dict | None):
                properties[key].pop("default", None)
            if text := docs.get(name):
                properties[key]["description"] = text
        if issubclass(model, OutputOptions | FilterOptions):
            # The type chooses the model, so it is always present, whatever default the model has.
            properties["type"].pop("default", None)
            made["required"] = ["type", *(key for key in made.get("required", ()) if key != "type")]
        return made

    def function_plain_schema(self, schema: core_schema.PlainValidatorFunctionSchema) -> JsonSchemaValue:
        model: type[BaseModel] | None = schema.get("metadata", {}).get(DEFERRED)
        if model is None:
            return super().function_plain_schema(schema)
        model.model_rebuild()
        return self.generate_inner(model.__pydantic_core_schema__)

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


@cache
def field_docs(model: type[BaseModel]) -> dict[str, str]:
    """Field name to its docstring, inherited ones included, each as one paragraph."""
    docs: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            docs.update(_own_docs(base))
    return docs


@cache
def _own_docs(model: type[BaseModel]) -> dict[str, str]:
    (tree,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(tree, ast.ClassDef)
    docs: dict[str, str] = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        ):
            docs[field.target.id] = _paragraph(after.value.value)
    return docs


def _paragraph(text: str) -> str:
    return " ".join(text.split())
