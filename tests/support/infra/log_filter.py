"""The part of Cloud Logging's query language that the deployment's filters use, run on entries.

A comparison is `PATH = VALUE`, `PATH : VALUE` (contains) or `PATH =~ "REGEXP"`, with a value in quotes, a
number, `true`, or several in parentheses; `log_id("ID")` compares the log's name. Cases differ in regular
expressions only. OR binds tighter than AND (Logging query language, "Boolean operators").
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

Entry = Mapping[str, Any]
"""A LogEntry as the API's JSON has it."""

_TOKEN: Final = re.compile(r'\s*("(?:[^"\\]|\\.)*"|=~|>=|<=|[()=:<>.]|[\w-]+)')


def matches(text: str, entry: Entry) -> bool:
    """True if a filter has an entry. Raises ValueError for what it does not understand."""
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if found is None:
            raise ValueError(f"not understood: {text[at:]}")
        tokens.append(found[1])
        at = found.end()
    parser = _Parser(tokens, entry)
    result = parser.all_of()
    if parser.tokens:
        raise ValueError(f"not understood: {' '.join(parser.tokens)}")
    return result


class _Parser:
    """Takes tokens from the front."""

    def __init__(self, tokens: list[str], entry: Entry) -> None:
        self.tokens = tokens
        self._entry = entry

    def all_of(self) -> bool:
        results = [self._one_of()]
        while self._taken("AND"):
            results.append(self._one_of())
        return all(results)

    def _one_of(self) -> bool:
        results = [self._term()]
        while self._taken("OR"):
            results.append(self._term())
        return any(results)

    def _term(self) -> bool:
        if self._taken("("):
            inner = self.all_of()
            self._expect(")")
            return inner
        path = [self._name()]
        if path == ["log_id"] and self._taken("("):
            wanted = self._name()
            self._expect(")")
            return str(self._entry["logName"]).endswith(f"/logs/{wanted}")
        while self._taken("."):
            path.append(self._name())
        operator = self.tokens.pop(0)
        value: Any = self._entry
        for step in path:
            value = value.get(step) if isinstance(value, Mapping) else None
        compare = _OPERATORS.get(operator)
        if compare is None:
            raise ValueError(f"not understood: {operator}")
        return any(value is not None and compare(value, wanted) for wanted in self._values())

    def _values(self) -> list[str]:
        if not self._taken("("):
            return [self._name()]
        found = [self._name()]
        while self._taken("OR"):
            found.append(self._name())
        self._expect(")")
        return found

    def _name(self) -> str:
        token = self.tokens.pop(0)
        return str(json.loads(token)) if token.startswith('"') else token

    def _taken(self, token: str) -> bool:
        if self.tokens[:1] != [token]:
            return False
        del self.tokens[0]
        return True

    def _expect(self, token: str) -> None:
        if not self._taken(token):
            raise ValueError(f"no {token} before {' '.join(self.tokens)}")


def _text(value: Any) -> str:
    return str(value).lower()


_OPERATORS: Final[dict[str, Callable[[Any, str], bool]]] = {
    "=": lambda value, wanted: _text(value) == wanted.lower(),
    ":": lambda value, wanted: wanted.lower() in _text(value),
    "=~": lambda value, wanted: re.search(wanted, str(value)) is not None,
    ">": lambda value, wanted: float(value) > float(wanted),
    "<": lambda value, wanted: float(value) < float(wanted),
}


def of_machine(container: str, line: str) -> Entry:
    """The entry that a machine of Container-Optimized OS makes of a container's line in JSON."""
    payload = {**json.loads(line), "cos.googleapis.com/container_name": container}
    return {
        "logName": "projects/p/logs/cos_containers",
        "resource": {"type": "gce_instance", "labels": {"instance_id": "1", "zone": "europe-west1-b"}},
        "jsonPayload": payload,
    }


def of_service(service: str, line: str) -> Entry:
    """The entry that Cloud Run makes of a service's line in JSON: it takes out what it knows itself."""
    payload = json.loads(line)
    severity = payload.pop("severity", "DEFAULT")
    trace = payload.pop("logging.googleapis.com/trace", "")
    return {
        "logName": "projects/p/logs/run.googleapis.com%2Fstdout",
        "resource": {"type": "cloud_run_revision", "labels": {"service_name": service}},
        "severity": severity,
        "trace": trace,
        "jsonPayload": payload,
    }
