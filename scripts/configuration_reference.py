"""Write docs/configuration.md: every key of the configuration, from the JSON Schema of its models.

python scripts/configuration_reference.py          write the page
python scripts/configuration_reference.py --check  exit 1 when the committed page differs
"""

from __future__ import annotations

import json
import math
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

Every key, as in [config.schema.json](../config.schema.json). The file is JSON, JSON with comments and
trailing commas, or YAML. With `"$schema": "…/config.schema.json"` editors complete and check it. Unknown keys
are errors; keys of the replaced system, loopingz/smtp-relay ("the reference"), without a meaning here cause
[one warning each](#keys-that-are-ignored).

In brackets stand the default, the type or the choices (**bold**: the default); a key without brackets takes
text. A *duration* is a number of milliseconds, or text: `"500ms"`,
`"30s"`, `"5m"`, `"2h"`, `"7d"`. A *size* is a number of bytes, or text: `"10MB"` (10⁶), `"10MiB"` (2²⁰). A
*secret* is the text itself or a [reference](security.md#secrets): `env:NAME`, `file://PATH` …
[Templates](concepts.md#names-of-files-and-objects) have variables.

## Environment variables

All but the last three override the file, and flags override them; a line end after a secret is dropped:

variable | sets
---|---
`SMTP_RELAY_CONFIG_JSON` | the whole file
`SMTP_RELAY_PORT`, `SMTP_RELAY_BIND` | `port` and `bind` of the only listener
`SMTP_RELAY_SPOOL` | `spool`, or its `url`
`SMTP_RELAY_LISTENERS` | `listeners`, as JSON
`SMTP_RELAY_TRUSTED_PROXIES` | `useProxy` of `options`, and of listeners that turn it on
`SMTP_RELAY_HEALTH_PORT` | `health.portNumber`
`SMTP_RELAY_DEFAULT_BIND` | the address to bind if nothing names one; the image sets `0.0.0.0`
`LOG_LEVEL` | the level of loggers without one
`SMTP_USERNAME`, `SMTP_PASSWORD`, `SMTP_PASSWORD_SALT` | for a `static-auth` without users

A `SMTP_RELAY_…` whose value is `scheme://host:port` comes from Kubernetes, and is ignored.

## Filters and outputs

Each has `type` (required) and `name`: its label in metrics, logs and receipts (default `TYPE_INDEX`).

Each output takes `retry` ([keys](#retry-options)) and `giveUpAfter`, in place of those of
[`delivery`](#delivery-options), and `concurrency` (1–1000): most mails that one process gives to it at a
time. A function runs no more instances than the least of these, but two at least.
"""

_PRACTICALLY_NONE: Final = 10**9
"""The page does not show upper limits from here on, because they only catch mistakes."""

_UNITS: Final = {
    "duration": (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)),
    "size": (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("MB", 10**6), ("B", 1)),
}
"""The units of both kinds of quantities, the largest first."""

_ALIKE: Final = {
    "DomainKey": "SigningKey",
    "ListenerOptions": "SmtpOptions",
    "SniCertificate": "SmtpOptions",
    "TopicOptions": "PublishTarget",
    "TransportTls": "SniCertificate",
}
"""Parts that repeat keys of another part: the page describes those there."""

_DESCRIBED: Final = frozenset(
    {"ListenerOptions", "SmtpOptions", "PutOptions", "SendMessageOptions", "RetryOptions", "ClientConfig"}
)
"""Parts whose own description says more than that of the key which leads to them."""

_PAGES: Final = {
    "filters": {
        "whitelist": "filters/whitelist.md",
        "blacklist": "filters/blacklist.md",
        "static-auth": "filters/static-auth.md",
        "http-auth": "filters/http-auth.md",
        "http-filter": "filters/http-filter.md",
        "respond": "filters/respond.md",
        "sending-policy": "filters/sending-policy.md",
        "mail-auth": "mail-auth.md",
    },
    "outputs": {
        "file": "outputs/file.md",
        "log": "outputs/log.md",
        "aws": "outputs/aws.md",
        "gcp": "outputs/gcp.md",
        "mailer": "outputs/mailer.md",
        "webhook": "outputs/webhook.md",
    },
}


_SHARED: Final = frozenset({"type", "name", "retry", "giveUpAfter", "concurrency"})
"""Keys of every filter or output, which the introduction describes."""


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
        seen: dict[str, Part] = {}
        for key in ("filters", "outputs"):
            for choice in flow["properties"][key]["items"]["oneOf"]:
                part = self._resolved(choice)
                kinds = _kinds(part["properties"]["type"])
                names = " or ".join(f"`{kind}`" for kind in kinds)
                title = f"{key.capitalize().removesuffix('s')} [{names}]({_PAGES[key][kinds[0]]})"
                keys = {name: value for name, value in part["properties"].items() if name != "type"}
                if known := next((other for other, each in seen.items() if each == keys), ""):
                    yield f"## {title}\n\nThe keys are those of {known}.\n"
                else:
                    yield self._section(title, part)
                seen[names] = keys
        while self._owed:
            name = self._owed.pop(0)
            if name not in self._written:
                yield self._section(_anchor_title(name), self._definitions[name], name)

    def _section(self, title: str, part: Part, name: str = "") -> str:
        self._written.add(name)
        lines = [f"## {title}", ""]
        text = part.get("description", "") if name in _DESCRIBED else ""
        rows, alike = self._rows(part, name)
        if alike:
            text += f" {', '.join(alike[1])}: as in [{_words(alike[0])}](#{_anchor(alike[0])})."
        if text:
            lines += [text.strip(), ""]
        if rows:
            lines += [*rows, ""]
        return "\n".join(lines)

    def _rows(self, part: Part, name: str) -> tuple[list[str], tuple[str, list[str]] | None]:
        """The lines of the keys, and the keys that are described elsewhere with the name of that part."""
        required = part.get("required", ())
        other = _ALIKE.get(name, "")
        known = self._definitions[other]["properties"] if other else {}
        same: list[str] = []
        by_text: dict[tuple[str, str], list[str]] = {}
        for key, value in part["properties"].items():
            if not name and key in _SHARED:
                continue
            if known.get(key) == value:
                same.append(f"`{key}`")
                continue
            cells = self._value(value, required=key in required), _plain(value.get("description", ""))
            by_text.setdefault(cells, []).append(f"`{key}`")
        rows = [
            # Two blanks at the end break the line.
            f"{', '.join(keys)}{f' ({value})' if value else ''}: {text.rstrip('.')}  "
            for (value, text), keys in by_text.items()
        ]
        if name == "ListenerOptions":
            same = []
        return rows, (other, same) if same else None

    def _value(self, value: Part, *, required: bool) -> str:
        """The middle cell: the default with its limits, or the type."""
        takes, default = self._takes(value), value.get("default")
        if required:
            takes = f"{takes}, required" if takes else "required"
        if default in (None, [], {}, ""):
            return takes
        quantity = _quantity(value)
        several = default if isinstance(default, list) else [default]
        shown = [_in_units(one, quantity) if quantity else f"`{json.dumps(one)}`" for one in several]
        if any(one in takes for one in shown):
            return re.sub("|".join(re.escape(one) for one in shown), r"**\g<0>**", takes)
        also = re.match(r"[≥>]|\d|`\d", takes) or " or " in takes
        return ", ".join([*shown, takes] if also else shown)

    def _takes(self, value: Part) -> str:
        """The possible values, in words."""
        if reference := value.get("$ref"):
            return self._link(reference.rpartition("/")[2])
        if quantity := _quantity(value):
            return _limits(value["anyOf"][0], quantity) or quantity
        for join in ("anyOf", "oneOf"):
            if join in value:
                if all("properties" in self._resolved(each) for each in value[join]):
                    return "those below"
                words = [self._takes(each) or "text" for each in value[join] if each.get("type") != "null"]
                single = [each for each in words if not each.startswith("list of ")]
                if f"list of {' or '.join(single)}" in words or f"list of ({' or '.join(single)})" in words:
                    words = [*single[:-1], f"{single[-1]}, or several"]
                elif single[:1] == ["boolean"] and f"list of {' or '.join(single[1:])}" in words:
                    words = [f"true or {' or '.join(single[1:])}, or several"]
                words = list(dict.fromkeys(words))
                return "" if words == ["text"] else " or ".join(words)
        if "const" in value:
            return f"`{json.dumps(value['const'])}`"
        if "enum" in value:
            return ", ".join(f"`{json.dumps(one)}`" for one in value["enum"])
        kind = value.get("type")
        if value.get("writeOnly"):
            return "*secret*"
        if kind == "array":
            items = self._takes(value.get("items", {})) or "text"
            if items == "those below":
                return "list of those below"
            return f"list of ({items})" if " or " in items else f"list of {items}"
        if kind == "object":
            inner = value.get("additionalProperties")
            return f"names to {self._takes(inner) or 'text'}" if isinstance(inner, dict) else "object"
        return _bounded(value)

    def _link(self, name: str) -> str:
        if name == "FlowConfig":
            return "[flow](#flowsname)"
        self._owed.append(name)
        return f"[keys](#{_anchor(name)})"

    def _resolved(self, part: Part) -> Part:
        if reference := part.get("$ref"):
            found: Part = self._definitions[reference.rpartition("/")[2]]
            return found
        return part


def _kinds(value: Part) -> list[str]:
    return list(value.get("enum", [value.get("const")]))


def _words(name: str) -> str:
    """`ClientConfig` as `client config`, `SmtpOptions` as `smtp options`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()


def _anchor_title(name: str) -> str:
    words = _words(name)
    return words[0].upper() + words[1:]


def _anchor(name: str) -> str:
    return _words(name).replace(" ", "-")


def _quantity(value: Part) -> str:
    """`duration` or `size` if text with a unit is possible, else ""."""
    patterns = [str(each.get("pattern", "")) for each in value.get("anyOf", ())]
    for kind, units in _UNITS.items():
        if any(f"(?:{units[-1][0]}|" in pattern for pattern in patterns):
            return kind
    return ""


def _in_units(number: int, kind: str) -> str:
    """A quantity as short text: 90000 as `"90s"`."""
    unit, size = next((unit, size) for unit, size in _UNITS[kind] if size in (1, math.gcd(number, size)))
    return f'`"{number // size}{unit}"`' if number else "`0`"


def _limits(value: Part, kind: str) -> str:
    low, high = value.get("minimum", 0), value.get("maximum")
    if high is not None and high < _PRACTICALLY_NONE:
        return f"{_in_units(low, kind)}–{_in_units(high, kind)}"
    return f"≥ {_in_units(low, kind)}" if low > 1 else ""


def _bounded(value: Part) -> str:
    """A scalar's limits, else its type; text is not named."""
    kind = str(value.get("type"))
    low, above, high = (value.get(key) for key in ("minimum", "exclusiveMinimum", "maximum"))
    if high is not None and high < _PRACTICALLY_NONE:
        return f"{low or 0}–{high}"
    if low and low > 1:
        return f"≥ {low}"
    if above is not None:
        return f"> {above}"
    if kind in ("integer", "number"):
        return "number"
    return {"string": "", "None": "anything"}.get(kind, kind)


def _plain(text: str) -> str:
    """A docstring as text behind a colon."""
    first = text.partition(" ")[0]
    small = text[:1].lower() + text[1:] if first[1:].islower() or first == "A" else text
    return small.replace("``", "`")


def _ignored() -> Iterator[str]:
    from listener.config.obsolete import HTTP, OPTIONS, RAW_EMAIL, TRANSPORT

    yield "## Keys that are ignored\n"
    yield "Keys of the reference without an effect here."
    for where, table in (
        ("`options`, `listeners[]` and `nodemailer.tls`", OPTIONS),
        ("`http-auth`, `http-filter`", HTTP),
        ("`nodemailer`", TRANSPORT),
        ("`sendRawEmailOptions`", RAW_EMAIL),
    ):
        yield f"\n{where}:\n"
        by_reason: dict[str, list[str]] = {}
        for key, reason in table.items():
            by_reason.setdefault(reason, []).append(f"`{key}`")
        for reason, keys in by_reason.items():
            yield f"{', '.join(keys)}: {reason}  "


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
