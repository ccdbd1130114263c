"""Holds values to cloudevent.schema.json, by an independent reader of JSON Schema."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.programs import NODE_MODULES, program, run
from tests.support.servers.relay import ROOT

SCHEMA: Final = ROOT / "cloudevent.schema.json"


def mistakes(values: Sequence[Any], schema: Path = SCHEMA) -> list[str]:
    """The first mistake of each value; "" for one that the schema takes. Skips where ajv is missing."""
    node = program("node", "nodejs")
    if not (NODE_MODULES / "ajv").exists():
        pytest.skip("npm's ajv is missing (`make test` installs it)")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values.json"
        path.write_text(json.dumps(list(values)), encoding="utf-8")
        script = Path(__file__).with_name("schema.cjs")
        done = run([node, script, schema, path], env={"NODE_MODULES": str(NODE_MODULES)})
    found: list[str] = json.loads(done.stdout)
    return found
