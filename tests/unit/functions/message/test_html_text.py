"""Text from HTML."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.html_text import text_of_html


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("<p>Hello&nbsp;<b>World</b>!</p><div>a &lt; b<br>c</div>", "Hello World!\n\na < b\nc"),
        ("<html><head><title>T</title><style>p{}</style></head><body>x</body></html>", "x"),
        ("a<!-- <p>no</p> -->b", "ab"),
        ('<img title="a>b" src=x>c', "c"),
        ("<SCRIPT>if (a<b) {}</SCRIPT >end", "end"),
        ("<table><tr><td>1</td><td>2</td></tr></table>", "1 2"),
        ("3 < 4 and 5 > 4", "3 < 4 and 5 > 4"),
        ("&#99999999999999; &eacute; &#x41;", "� é A"),
        ("a \r\n\t b", "a b"),
        ("<!DOCTYPE html><p>x", "x"),
        ("<a href='unclosed>x<b>y</b>", "xy"),
        ("unclosed <b", "unclosed"),
        ("İ<script>i</script>x", "İx"),
        ("", ""),
    ],
)
def test_readable(source: str, text: str) -> None:
    assert text_of_html(source) == text


@given(st.text(alphabet="<>!-/\"' abscriptyle&#;0", max_size=300))
def test_any_source_is_read(source: str) -> None:
    assert "\r" not in text_of_html(source)


@pytest.mark.parametrize(
    "hostile",
    [
        "<",
        "<!--",
        "<!",
        "<![CDATA[",
        '<a "',
        "<script>",
        "</script ",
        "&#",
        "<a",
        " \n",
        "<title>x</",
        "&amp",
    ],
)
def test_hostile_sources_take_linear_time(hostile: str) -> None:
    text_of_html(hostile * 50_000)
    text_of_html("&#" + "1" * 100_000 + ";")


@pytest.mark.parametrize("count", [10, 100_000])
def test_a_text_of_many_pieces_is_whole(count: int) -> None:
    assert text_of_html("<p>ab" * count) == "\n\n".join(["ab"] * count)
    lines = text_of_html("<pre>" + "ab\n<b></b>" * count + "</pre>cd")
    assert lines == "ab\n" * count + "cd"
    label = "<i>ab</i> " * count
    link = text_of_html(f'x<a href="http://a.example/">{label}</a>y')
    assert link == "x" + "ab " * count + "[http://a.example/] y"
