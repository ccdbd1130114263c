"""Log lines: their forms, and that no client's text forges one."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.text import escaped
from listener.logs.format import (
    TRACE,
    JsonFormat,
    TemplateFormat,
    TextFormat,
    _forms,
    clock,
    formatter,
    level_name,
    written,
    written_facts,
    written_pairs,
)


def record(message: str = "mail accepted", level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    made = logging.getLogger("smtp_relay.smtp").makeRecord(
        "smtp_relay.smtp", level, "", 0, message, (), None, extra=extra
    )
    made.created = 1_767_323_045.678
    return made


def test_text() -> None:
    line = TextFormat().format(
        record(
            id="019b", size=5120, ok=True, none=None, to=["a@x", "b@x"], quote='say "hi"', empty="", eq="a=b"
        )
    )
    assert line == (
        "2026-01-02T03:04:05.678Z [ INFO] smtp_relay.smtp: mail accepted id=019b size=5120 ok=True "
        'to=a@x,b@x quote="say \\"hi\\"" empty="" eq="a=b"'
    )


def test_json() -> None:
    line = JsonFormat().format(record(id="019b", size=5120, to=["a@x"], time="mine", when=object))
    assert json.loads(line) == {
        "time": "2026-01-02T03:04:05.678Z",
        "level": "INFO",
        "logger": "smtp_relay.smtp",
        "message": "mail accepted",
        "id": "019b",
        "size": 5120,
        "to": ["a@x"],
        "time_": "mine",
        "when": "<class 'object'>",
    }


@pytest.mark.parametrize(
    ("template", "line"),
    [
        ("%(d)s [%(l)s] %(m)s", "2026-01-02T03:04:05.678Z [ WARN] mail accepted id=019b"),
        ("%(t)d %(m)s 100%%", "1767323045678 mail accepted id=019b 100%"),
        ("%(t)s|%(l)-7s|%(m)s", "1767323045678| WARN  |mail accepted id=019b"),
    ],
)
def test_the_reference_s_templates(template: str, line: str) -> None:
    assert formatter(template).format(record(level=logging.WARNING, id="019b")) == line


@pytest.mark.parametrize("template", ["%(x)s", "%(m)", "%s", "%", "%(d)d", "%(m)q", "%(__class__)s"])
def test_a_template_that_cannot_work_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="%"):
        TemplateFormat(template)


def test_the_levels_have_the_configuration_s_names() -> None:
    names = [level_name(n) for n in (1, TRACE, logging.DEBUG, 15, logging.INFO, 30, 40, 50, 99)]
    assert names == ["TRACE", "TRACE", "DEBUG", "DEBUG", "INFO", "WARN", "ERROR", "ERROR", "ERROR"]


def failure(reason: str) -> logging.LogRecord:
    made = record(id="019b")
    try:
        raise ValueError(reason)
    except ValueError:
        made.exc_info = sys.exc_info()
    return made


def test_a_traceback_cannot_forge_a_line() -> None:
    lines = TextFormat().format(failure("x\n2026-01-02T03:04:05.678Z [ INFO] forged\x1b[2J")).split("\n")
    assert lines[0].endswith("mail accepted id=019b")
    assert all(line.startswith("    ") for line in lines[1:])
    assert not any("\x1b" in line for line in lines)
    assert "forged" in json.loads(JsonFormat().format(failure("forged\n")))["exception"]


@given(st.text(), st.text(), st.text(min_size=1))
def test_no_control_character_leaves_raw(message: str, value: str, key: str) -> None:
    made = record(message.replace("%", "%%"), value=value, listed=[value, value])
    made.__dict__.setdefault(f"k{key}", value)
    for style in (TextFormat(), TemplateFormat("%(d)s [%(l)s] %(m)s")):
        made_line = style.format(made).replace(f"k{key}", "key")
        assert made_line.isprintable()
        made_line.encode()
    line = JsonFormat().format(made)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line)["value"] == value


@given(st.text())
def test_escaping_keeps_what_is_printable(text: str) -> None:
    assert escaped(text).isprintable()
    if text.isprintable():
        assert escaped(text) is text


_values = st.none() | st.integers() | st.text(max_size=9) | st.just("plain") | st.lists(st.text(max_size=3))


@given(st.dictionaries(st.text(min_size=1, max_size=9) | st.sampled_from(["id", "a%s", "100%"]), _values))
def test_however_pairs_are_written_each_is_written_alike(facts: dict[str, Any]) -> None:
    one_by_one = " ".join(f"{key}={written(value)}" for key, value in facts.items() if value is not None)
    assert written_facts(facts) == written_pairs(facts.items())
    if all(key.isidentifier() for key in facts):
        assert written_facts(facts) == one_by_one


def test_forms_of_lines_are_few() -> None:
    for number in range(300):
        assert written_facts({f"key{number}": number}) == f"key{number}={number}"
    assert len(_forms) <= 64


def test_the_clock_is_exact_to_the_millisecond() -> None:
    assert clock(0.0) == "1970-01-01T00:00:00.000Z"
    assert clock(1_767_323_045.9999) == "2026-01-02T03:04:05.999Z"
    assert clock(1_767_323_046.0) == "2026-01-02T03:04:06.000Z"
