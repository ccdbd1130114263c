"""Terraform files as data: blocks, and the references in their expressions (python-hcl2)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import hcl2
import pytest

_QUOTED: Final = re.compile(r'"(?:[^"\\$]|\\.|\$(?!\{)|\$\{[^{}]*\})*"')
_INSIDE: Final = re.compile(r"\$\{([^{}]*)\}")
_PATH: Final = re.compile(
    r"(?<![\w.\]\"-])([a-z_][\w-]*)((?:\[[^\[\]]*\])*(?:\.[a-z_*][\w-]*(?:\[[^\[\]]*\])*)+)"
)
_STEP: Final = re.compile(r"\.([a-z_][\w-]*)")
_META: Final = frozenset(
    {"count", "for_each", "depends_on", "provider", "lifecycle", "provisioner", "connection", "timeouts"}
)
"""Arguments that every resource may have, whatever its provider."""
_OWN: Final = frozenset({"each", "count", "path", "self", "terraform"})


def terraform_program() -> str:
    """Terraform's path. Skips the test where it is not installed."""
    found = shutil.which("terraform")
    if found is None:
        pytest.skip("terraform provider and program are missing: no package registry carries Terraform")
    return found


@dataclass(frozen=True)
class Reference:
    """`var.x`, `local.x`, `module.m.o`, `data.t.n` or `t.n`, by its parts; `where` for people."""

    parts: tuple[str, ...]
    where: str


@dataclass
class Module:
    """One folder's declarations by kind, and the references between them."""

    folder: Path
    variables: dict[str, dict[str, Any]] = field(default_factory=dict)
    locals: set[str] = field(default_factory=set)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    data: set[tuple[str, str]] = field(default_factory=set)
    references: list[Reference] = field(default_factory=list)


def read_module(folder: Path) -> Module:
    """All .tf files of a folder as one module."""
    module = Module(folder)
    for path in sorted(folder.glob("*.tf")):
        with path.open() as stream:
            content = hcl2.load(stream)
        for block in content.get("variable", ()):
            module.variables |= _plain(block)
        for block in content.get("output", ()):
            module.outputs |= _plain(block)
        for block in content.get("module", ()):
            module.modules |= _plain(block)
        for block in content.get("locals", ()):
            module.locals |= {_unquoted(name) for name in block}
        for block in content.get("resource", ()):
            for kind, named in _plain(block).items():
                module.resources |= {(kind, name): body for name, body in _plain(named).items()}
        for block in content.get("data", ()):
            module.data |= {(kind, name) for kind, named in _plain(block).items() for name in _plain(named)}
        # What was moved is no longer there.
        there = [{"to": one["to"]} for one in content.get("moved", ())]
        module.references += _references(content | {"moved": there}, path.name, frozenset())
    return module


Schema = dict[str, Any]
"""Names of arguments and blocks, each with `required`, and `block`: the Schema of a block, else None."""


def schema_faults(path: Path, types: Mapping[str, Schema]) -> list[str]:
    """Arguments of a file's resources that their types do not know, or that are required and missing."""
    with path.open() as stream:
        resources = hcl2.load(stream).get("resource", ())
    found: list[str] = []
    for block in resources:
        for kind, named in _plain(block).items():
            for name, body in _plain(named).items():
                where = f"{path.name}: {kind}.{name}"
                if kind not in types:
                    found.append(f"{where}: unknown resource type")
                else:
                    own = {key: value for key, value in _plain(body).items() if key not in _META}
                    found += _block_faults(where, own, types[kind])
    return found


def _block_faults(where: str, body: Mapping[str, Any], schema: Schema) -> Iterator[str]:
    held: list[tuple[str, Any]] = [(name, value) for name, value in body.items() if name != "dynamic"]
    for dynamic in body.get("dynamic", ()):
        held += [(name, block.get("content", [{}])) for name, block in _plain(dynamic).items()]
    for name, value in held:
        if name not in schema:
            yield f'{where}: unknown "{name}"'
        elif schema[name]["block"] is not None:
            for block in value if isinstance(value, list) else [value]:
                if isinstance(block, dict):
                    yield from _block_faults(f"{where}.{name}", _plain(block), schema[name]["block"])
    present = {name for name, _ in held}
    yield from (
        f'{where}: missing "{n}"' for n, one in schema.items() if one["required"] and n not in present
    )


def _references(value: Any, where: str, bound: frozenset[str]) -> Iterator[Reference]:
    if isinstance(value, dict):
        for name, item in value.items():
            inner = bound | {_unquoted(name)} if _is_dynamic(item) else bound
            yield from _references(item, f"{where}:{_unquoted(name)}", inner)
            if not isinstance(item, dict | list):
                yield from _of_text(name, where, bound)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item, where, bound)
    elif isinstance(value, str):
        yield from _of_text(value, where, bound)


def _is_dynamic(item: Any) -> bool:
    return isinstance(item, dict) and "for_each" in item and "content" in item


def _of_text(text: str, where: str, bound: frozenset[str]) -> Iterator[Reference]:
    # Names that the expression itself binds: `for k, v in …`.
    own = bound | {name for found in _FOR.findall(text) for name in found if name}
    for expression in _expressions(text):
        for root, rest in _PATH.findall(_QUOTED.sub('""', expression)):
            if root not in own and root not in _OWN:
                yield Reference((root, *_STEP.findall(rest)), where)


_FOR: Final = re.compile(r"\bfor\s+(\w+)\s*(?:,\s*(\w+))?\s+in\b")


def _expressions(text: str) -> Iterator[str]:
    """The content of `${…}`, nested braces included; bare expressions come in that form too."""
    at = 0
    while (start := text.find("${", at)) >= 0:
        depth, end = 1, start + 2
        while end < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            end += 1
        inner = text[start + 2 : end - 1]
        yield inner
        yield from (found for quoted in _QUOTED.findall(inner) for found in _INSIDE.findall(quoted))
        at = end


def _plain(block: dict[str, Any]) -> dict[str, Any]:
    return {_unquoted(name): body for name, body in block.items() if not name.startswith("__")}


def _unquoted(name: str) -> str:
    return name.strip('"')
