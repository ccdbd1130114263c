"""The JSON Schema: as committed, complete, and consistent with the models."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.options.jsonc import parse
from functions.processors.registry import KINDS as OUTPUTS
from listener.cli import schema
from listener.config.errors import keys_of
from listener.config.relay import RelayConfig
from listener.config.smtp import SmtpOptions
from listener.filters.registry import KINDS as FILTERS
from tests.support.servers.relay import ROOT


def properties(part: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of the schema, with its place."""
    if isinstance(part, dict):
        for key, value in part.get("properties", {}).items():
            yield f"{path}.{key}", value
        for key, value in part.items():
            yield from properties(value, f"{path}/{key}")
    elif isinstance(part, list):
        for item in part:
            yield from properties(item, path)


def test_the_committed_schema_is_this_one():
    committed = (ROOT / "config.schema.json").read_text(encoding="utf-8")
    assert committed == schema.text(schema.schema()), "run `smtp-relay schema > config.schema.json`"


def test_every_key_is_described():
    assert [path for path, value in properties(schema.schema()) if not value.get("description")] == []


def test_it_has_the_files_keys():
    made = schema.schema()
    assert set(made["properties"]) == set(keys_of(RelayConfig))
    assert set(made["$defs"]["SmtpOptions"]["properties"]) == set(keys_of(SmtpOptions))
    assert made["required"] == ["flows"]


def types_of(part: dict[str, Any], definitions: dict[str, Any]) -> set[str]:
    """The values of `type` that one filter's or output's schema takes."""
    part = definitions[part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    assert part["required"][0] == "type"
    kind = part["properties"]["type"]
    return set(kind.get("enum", [kind.get("const")]))


@pytest.mark.parametrize(("key", "kinds"), [("filters", FILTERS), ("outputs", OUTPUTS)])
def test_it_has_every_type(key: str, kinds: dict[str, Any]):
    made = schema.schema()
    choices = made["$defs"]["FlowConfig"]["properties"][key]["items"]["oneOf"]
    assert set.union(*(types_of(one, made["$defs"]) for one in choices)) == set(kinds)


def test_definitions_have_readable_names():
    names = set(schema.schema()["$defs"])
    assert not [name for name in names if "__" in name]
    assert {
        "SmtpOptions",
        "AwsOutputOptions",
        "GcpOutputOptions",
        "MailerOutputOptions",
        "SpoolOptions",
    } <= names


def test_secrets_are_marked_and_have_no_default():
    made = schema.schema()
    key = made["$defs"]["SmtpOptions"]["properties"]["key"]
    assert {"type": "string", "minLength": 1, "writeOnly": True} in key["anyOf"]
    assert "default" not in key


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.jsonc")), ids=lambda path: path.name)
def test_the_examples_point_at_it(path: Path):
    assert parse(path.read_text())["$schema"] == "../config.schema.json"


def test_docstrings_of_fields_are_read_with_their_parents():
    docs = schema.field_docs(SmtpOptions)
    assert docs["secure"].startswith("TLS from the first byte")
    assert docs["key"].startswith("The certificate's private key")
    assert "\n" not in json.dumps(docs)
