"""YAML, as strict as the JSON reader: keys are strings, without duplicates."""

from __future__ import annotations

from typing import Any

import yaml


class NotYaml(ValueError):
    """The text cannot be read: `line` and `column` start at 1, `reason` says what is wrong."""

    def __init__(self, reason: str, mark: Any = None) -> None:
        self.line = mark.line + 1 if mark else 1
        self.column = mark.column + 1 if mark else 1
        super().__init__(f"line {self.line}, column {self.column}: {reason}")
        self.reason = reason


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, in C if available."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                continue
            if key.tag != "tag:yaml.org,2002:str":
                raise NotYaml("a key is text here: put it in quotes", key.start_mark)
            if key.value in seen:
                raise NotYaml(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        made: dict[str, Any] = super().construct_mapping(node, deep=deep)
        return made


def parse_yaml(text: str) -> Any:
    """The value of a YAML text. Raises NotYaml."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of the safe loader
    except yaml.MarkedYAMLError as error:
        raise NotYaml(error.problem or "is not YAML", error.problem_mark) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, NotYaml):
            raise
        raise NotYaml(f"is not YAML: {error}".replace("\n", " ")) from None
