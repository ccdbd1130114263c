from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.filters.http.json_path import MISSING, JsonPath

VALUE = {"a": {"b": [10, {"c": "x"}], "0": "zero", "odd.key": 1, "": 2}, "list": [[1, 2]], "n": None}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("$.a.b[0]", 10),
        ("a.b[1].c", "x"),
        ("a.b.1.c", "x"),
        ("$['a']['b'][0]", 10),
        ('$["a"].b[0]', 10),
        ("$.a.0", "zero"),
        ("$.a['odd.key']", 1),
        ("$.a['']", 2),
        ("$.list[0][1]", 2),
        ("$.n", None),
        ("$.list[2]", MISSING),
        ("$.list.x", MISSING),
        ("$.list.-1", MISSING),
        ("$.list.²", MISSING),
        ("$.a[0]", MISSING),
        ("$.n.x", MISSING),
        ("$.a.b[0].x", MISSING),
        ("$.x.y.z", MISSING),
    ],
)
def test_finding(path: str, wanted: Any) -> None:
    assert JsonPath(path).find(VALUE) is wanted or JsonPath(path).find(VALUE) == wanted


NO_PATHS = ["", "$", "$a", "$.", "$..a", "a.", ".", "a..b", "$.a[", "$.a[]", "$.a[-1]", "$.a[*]", "[0]]"]
NO_PATHS += ["$.*[?(@)]", "$.a[0]b", "$.a b", "$.a['b", "$.a[1:2]"]


@pytest.mark.parametrize("path", NO_PATHS)
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(ValueError, match="is not a path"):
        JsonPath(path)


def test_a_star_is_a_name_like_any_other() -> None:
    assert JsonPath("$.*").find({"*": 1}) == 1


def test_putting() -> None:
    target: dict[str, Any] = {}
    JsonPath("$.a.b").put(target, 1)
    JsonPath("$.a.c").put(target, 2)
    JsonPath("d.0").put(target, 3)
    assert target == {"a": {"b": 1, "c": 2}, "d": {"0": 3}}
    for taken in ("$.a.b", "$.a", "$.a.b.c"):
        with pytest.raises(ValueError, match="field"):
            JsonPath(taken).put(target, 4)
    with pytest.raises(ValueError, match="array"):
        JsonPath("$.x[0]").put(target, 4)


@given(st.text(max_size=30))
def test_any_text_is_a_path_or_a_mistake(text: str) -> None:
    try:
        path = JsonPath(text)
    except ValueError:
        return
    assert path.steps
    path.find(VALUE)


@given(
    st.lists(st.text(st.characters(exclude_characters="'"), max_size=8), min_size=1, max_size=5),
    st.integers(),
)
def test_what_is_put_is_found(names: list[str], value: int) -> None:
    path = JsonPath("$" + "".join(f"['{name}']" for name in names))
    target: dict[str, Any] = {}
    path.put(target, value)
    assert path.find(target) == value
    assert JsonPath(path.text.removeprefix("$")).steps == path.steps
