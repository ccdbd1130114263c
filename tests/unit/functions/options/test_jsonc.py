import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.options.jsonc import NotJson, parse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_comments_and_trailing_commas():
    text = """
    // a relay
    {
      "url": "http://x//y", /* not a // comment, "nor this" */
      "list": [1, 2, /* three */ ], // end
      "text": "a,]", "slash": "\\\\", "quote": "\\"//",
      "empty": {}, /* over
      lines */ , "never": 1
    }
    """
    with pytest.raises(NotJson, match="line 8"):
        parse(text)
    assert parse(text.replace(', "never": 1', "")) == {
        "url": "http://x//y",
        "list": [1, 2],
        "text": "a,]",
        "slash": "\\",
        "quote": '"//',
        "empty": {},
    }


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ('{\n  // why\n  "a": }', 3, 8),
        ('{"a": 1,, "b": 2}', 1, 9),
        ('{"a": "open', 1, 7),
        ('{"a": 1 /* open', 1, 9),
        ("", 1, 1),
        ('{"a": 1} x', 1, 10),
        ('{"a": 1,\n "b": {"c": {"a": 1}, "d": 1,\n   "c": 2}}', 3, 4),
        ('{"a": ["a", "a"], "x": {"a": 1},\n"\\u0061": 2}', 2, 1),
    ],
)
def test_errors_name_line_and_column(text: str, line: int, column: int):
    with pytest.raises(NotJson) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_key_that_stands_twice_is_named():
    with pytest.raises(NotJson, match="'port' stands twice"):
        parse('{"port": 1, "port": 2}')


@pytest.mark.parametrize("text", ["NaN", '{"a": -Infinity}', "1" * 5000])
def test_numbers_that_are_none(text: str):
    with pytest.raises(NotJson):
        parse(text)


def test_deep_nesting_is_an_error_not_a_crash():
    with pytest.raises(NotJson):
        parse("[" * 100_000 + "]" * 100_000)


@given(VALUES)
def test_json_reads_as_json(value: object):
    assert parse(json.dumps(value, indent=1)) == value
    assert parse("\ufeff" + json.dumps(value, ensure_ascii=False)) == value


@given(VALUES, st.text(alphabet="ab\"'{}[],:*\n", max_size=20))
def test_comments_change_nothing(value: object, words: str):
    line = words.replace("\n", " ")
    text = json.dumps(value, indent=1).replace("\n", f" // {line}\n /* {words} */ ".replace("*/ */", "*/"))
    assert parse(text) == value


@given(st.text(alphabet='{}[]",:/*\\ \n1a', max_size=60))
def test_any_text_is_read_or_refused_with_a_place(text: str):
    line = 1
    try:
        parse(text)
    except NotJson as error:
        line = error.line
    assert 1 <= line <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "reason", "cure"),
    [
        ("port = 1", "is not JSON", "begins with {"),
        ('{"a": 1 /* why', "a comment has no end", "*/"),
        ('{"a": 0x1f}', "'0x1f' is no number", "decimal digits"),
        ('{"a": 10MB}', "'10MB' is no number", "double quotes"),
        ('{"a": 1,,}', "a comma stands alone", "remove it"),
        ("[1,,]", "a comma stands alone", "remove it"),
        ("[[1,2}", "} closes no bracket", "each [ with ]"),
        ("{\u201ca\u201d: 1}", "\u201c is no double quote", "in double quotes"),
        ('{"a": 1,\u00a0"b": 2}', "an odd space", "plain one"),
    ],
)
def test_mistakes_of_users_have_a_reason_and_a_cure(text: str, reason: str, cure: str):
    with pytest.raises(NotJson) as caught:
        parse(text)
    assert reason in caught.value.reason
    assert cure in caught.value.cure
