"""Write docs/configuration.md: every key of the configuration, from the JSON Schema of its models.

python scripts/configuration_reference.py          write the page
python scripts/configuration_reference.py --check  exit 1 when the committed page differs
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "configuration.md"

Part = dict[str, Any]

INTRODUCTION: Final = """\
# Configuration reference

<!-- Made by scripts/configuration_reference.py from the models: edit their docstrings, then run it. -->

Every key of the configuration file, as [config.schema.json](../config.schema.json) has it. The file is
JSON, JSON with comments and trailing commas, or YAML. With `"$schema": "…/config.schema.json"` editors
complete and check it. "The reference" is the replaced system, loopingz/smtp-relay. Unknown keys are errors,
but keys of the reference without a meaning here cause [one warning line each](#keys-that-are-ignored).

*Secret*: the text itself, or a reference: `env:NAME`, `file://PATH`, `ssm:/NAME`, `secretsmanager:ID`
or `gcp-secret:projects/PROJECT/secrets/NAME` ([how they are read](security.md#secrets)). [Names of
files and objects](concepts.md#names-of-files-and-objects) lists the variables of templates.

A duration is a number of milliseconds, or a text with a unit: `"500ms"`, `"30s"`, `"5m"`, `"2h"`, `"7d"`. A
number of bytes may be such a text too: `"10MB"` is 10,000,000 bytes, `"10MiB"` 10,485,760.

## Environment variables

All but the last three override the file; a line end after a secret is dropped:

| variable | sets |
|---|---|
| `SMTP_RELAY_CONFIG_JSON` | the whole file |
| `SMTP_RELAY_SPOOL` | `spool`, or its `url` |
| `SMTP_RELAY_LISTENERS` | `listeners`, as JSON |
| `SMTP_RELAY_TRUSTED_PROXIES` | `useProxy` of `options`, and of listeners that turn it on |
| `SMTP_RELAY_HEALTH_PORT` | `health.portNumber` |
| `SMTP_RELAY_DEFAULT_BIND` | the address to bind if the file names none; the image sets `0.0.0.0` |
| `LOG_LEVEL` | the level of loggers without one |
| `SMTP_USERNAME`, `SMTP_PASSWORD`, `SMTP_PASSWORD_SALT` | for a `static-auth` without users |

A variable `SMTP_RELAY_…` whose value is `scheme://host:port` is one that Kubernetes sets for a service of
that name: it is ignored, with one line.
"""

_PRACTICALLY_NONE: Final = 10**9
"""The page does not show upper limits from here on, because they only catch mistakes."""

_UNITS: Final = {"ms": '"30s"', "B": '"10MB"'}
"""The first unit of a text with a unit, and an example."""

_PAGES: Final = {
    "filters": {
        "whitelist": "filters/whitelist.md",
        "blacklist": "filters/blacklist.md",
        "static-auth": "filters/static-auth.md",
        "http-auth": "filters/http-auth.md",
        "http-filter": "filters/http-filter.md",
        "mail-auth": "mail-auth.md",
    },
    "outputs": {
        "file": "outputs/file.md",
        "log": "outputs/log.md",
        "aws": "outputs/aws.md",
        "gcp": "outputs/gcp.md",
        "mailer": "outputs/mailer.md",
    },
}


class Reference:
    """The page, part by part. `_owed` are linked definitions that are not written yet."""

    def __init__(self, schema: Part) -> None:
        self._schema = schema
        self._definitions: dict[str, Part] = schema["$defs"]
        self._owed: list[str] = []
        self._written: set[str] = set()

    def text(self) -> str:
        """The whole page."""
        return "\n".join([INTRODUCTION, *self._sections(), *_ignored()]).rstrip() + "\n"

    def _sections(self) -> Iterator[str]:
        yield self._section("Top level", self._schema)
        flow = self._definitions["FlowConfig"]
        yield self._section("`flows.NAME`", flow, "FlowConfig")
        for key in ("filters", "outputs"):
            for choice in flow["properties"][key]["items"]["oneOf"]:
                part = self._resolved(choice)
                kinds = _kinds(part["properties"]["type"])
                title = " or ".join(f"`{kind}`" for kind in kinds)
                page = _PAGES[key][kinds[0]]
                yield self._section(f"{key.capitalize().removesuffix('s')} {title}", part, page=page)
        while self._owed:
            name = self._owed.pop(0)
            if name not in self._written:
                yield self._section(_anchor_title(name), self._definitions[name], name)

    def _section(self, title: str, part: Part, name: str = "", page: str = "") -> str:
        self._written.add(name)
        lines = [f"## {title}", ""]
        text = part.get("description", "") if title != "Top level" else ""
        if name == "ListenerOptions":
            text += " The table lists only differences from [them](#smtp-options)."
        if text or page:
            lines += [f"{text} See [its page]({page})." if page else text, ""]
        lines += ["| key | takes | default | meaning |", "|---|---|---|---|"]
        required = part.get("required", ())
        # The part about listeners describes the options that a listener overrides.
        known = self._definitions["SmtpOptions"]["properties"] if name == "ListenerOptions" else {}
        # The type chooses the table, so it comes first.
        for key, value in sorted(part["properties"].items(), key=lambda item: item[0] != "type"):
            if known.get(key) != value:
                lines.append(self._row(key, value, required=key in required))
        return "\n".join([*lines, ""])

    def _row(self, key: str, value: Part, *, required: bool) -> str:
        default = "required" if required else _default(value)
        meaning = _cell(value.get("description", ""))
        return f"| `{key}` | {self._takes(value)} | {default} | {meaning} |"

    def _takes(self, value: Part) -> str:
        """The possible values, in words."""
        if reference := value.get("$ref"):
            return self._link(reference.rpartition("/")[2])
        for join in ("anyOf", "oneOf"):
            if join in value:
                if all("properties" in self._resolved(each) for each in value[join]):
                    return "those below"
                words = [self._takes(each) for each in value[join] if each.get("type") != "null"]
                return " or ".join(dict.fromkeys(words))
        if "const" in value:
            return f"`{json.dumps(value['const'])}`"
        if "enum" in value:
            return ", ".join(f"`{json.dumps(one)}`" for one in value["enum"])
        kind = value.get("type")
        if value.get("writeOnly"):
            return "*secret*"
        if kind == "array":
            items = self._takes(value.get("items", {}))
            if items == "those below":
                return "list of those below"
            return f"list of ({items})" if " or " in items else f"list of {items}"
        if kind == "object":
            inner = value.get("additionalProperties")
            return f"names to {self._takes(inner)}" if isinstance(inner, dict) else "object"
        if "pattern" in value and (form := _form(value["pattern"])):
            return form
        return _bounded(value, {"integer": "number", "string": "text", "boolean": "true or false"})

    def _link(self, name: str) -> str:
        if name == "FlowConfig":
            return "[flow](#flowsname)"
        self._owed.append(name)
        return f"[{_words(name)}](#{_anchor(name)})"

    def _resolved(self, part: Part) -> Part:
        if reference := part.get("$ref"):
            found: Part = self._definitions[reference.rpartition("/")[2]]
            return found
        return part


def _form(pattern: str) -> str:
    """A text with a unit, by an example; "" for other patterns."""
    return next((f"`{words}`" for unit, words in _UNITS.items() if f"(?:{unit}|" in pattern), "")


def _kinds(value: Part) -> list[str]:
    return list(value.get("enum", [value.get("const")]))


def _words(name: str) -> str:
    """`PutOptions` as `put options`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def _anchor_title(name: str) -> str:
    words = _words(name)
    return words[0].upper() + words[1:]


def _anchor(name: str) -> str:
    return _words(name).replace(" ", "-")


def _default(value: Part) -> str:
    default = value.get("default")
    if default in (None, [], {}, ""):
        return ""
    if isinstance(default, list):
        return ", ".join(f"`{json.dumps(one)}`" for one in default)
    return f"`{json.dumps(default)}`"


def _bounded(value: Part, names: dict[str, str]) -> str:
    """A scalar's type with its limits."""
    kind = value.get("type")
    words = names.get(str(kind), "number" if kind == "number" else "anything")
    low, above, high = (value.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if high is not None and high < _PRACTICALLY_NONE:
        return f"{words}, {low or 0} to {high}"
    if low:
        return f"{words}, at least {low}"
    return f"{words} above {above}" if above is not None else words


def _cell(text: str) -> str:
    """A docstring as one cell of a table."""
    return text.replace("|", "\\|").replace("``", "`")


def _ignored() -> Iterator[str]:
    from listener.config.obsolete import HTTP, OPTIONS, RAW_EMAIL, TRANSPORT

    yield "## Keys that are ignored\n"
    yield "Keys of the replaced system that have no effect here, and cause one warning line each:\n"
    yield "| where | key | instead |\n|---|---|---|"
    for where, table in (
        ("`options`, `listeners[]` and `nodemailer.tls`", OPTIONS),
        ("`http-auth`, `http-filter`", HTTP),
        ("`nodemailer`", TRANSPORT),
        ("`sendRawEmailOptions`", RAW_EMAIL),
    ):
        by_reason: dict[str, list[str]] = {}
        for key, reason in table.items():
            by_reason.setdefault(reason, []).append(f"`{key}`")
        for reason, keys in by_reason.items():
            yield f"| {where} | {', '.join(keys)} | {reason} |"


def page() -> str:
    """The page as it is to be committed."""
    from listener.cli.schema import schema

    return Reference(schema()).text()


def main(arguments: list[str]) -> int:
    made = page()
    if "--check" in arguments:
        current = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
        if current != made:
            print("docs/configuration.md is out of date: run python scripts/configuration_reference.py")
        return int(current != made)
    PAGE.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main(sys.argv[1:]))
