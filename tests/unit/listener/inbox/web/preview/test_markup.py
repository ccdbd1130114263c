"""What of a mail's HTML a preview keeps, and that a parser's work has bounds."""

from __future__ import annotations

import re
import time

import pytest

from listener.inbox.web.preview.markup import MOST_IMAGES, SECONDS, TooComplex, cleaned
from listener.inbox.web.preview.view import data_url
from listener.inbox.web.single import safe_name
from tests.support.inbox.hostile import HTML

IMAGE = "data:image/png;base64,AAAA"


def clean(markup: str, *, new_tab: bool = False) -> str:
    return cleaned(markup, {"a@x": IMAGE}, new_tab=new_tab)


@pytest.mark.parametrize("name", HTML)
def test_nothing_that_reaches_out_is_kept(name: str) -> None:
    made = clean(HTML[name]).partition("<body")[2]
    assert re.search(r"<(?:link|meta|base|script|iframe|object|embed|form|svg|math|video)\b", made) is None
    assert re.search(r"<[^>]*\s(?:on\w+|ping|srcdoc|poster|formaction|referrerpolicy)=", made) is None
    assert re.search(r"href=\"(?:javascript|data|/)", made) is None


@pytest.mark.parametrize(
    ("markup", "kept"),
    [
        ("<img src=cid:a@x>", f'<img src="{IMAGE}">'),
        ("<img src=' CID:a%40x'>", f'<img src="{IMAGE}">'),
        ("<img srcset='cid:a@x 1x, cid:a@x 2x'>", f'<img srcset="{IMAGE} 1x, {IMAGE} 2x">'),
        ("<table background=cid:a@x></table>", f'<table background="{IMAGE}"></table>'),
        ("<p style='background:url(cid:a@x)'>", f'<p style="background:url(&quot;{IMAGE}&quot;)">'),
        ("<style>p{background:url('cid:a@x')}</style>", f'<style>p{{background:url("{IMAGE}")}}</style>'),
        ("<p>cid:a@x &lt;style>url(cid:a@x)</p>", "<p>cid:a@x &lt;style&gt;url(cid:a@x)</p>"),
        ("<img src=cid:other>", '<img src="cid:other">'),
    ],
)
def test_images_of_the_mail_come_in_place_of_their_ids(markup: str, kept: str) -> None:
    assert kept in clean(markup)


def test_a_document_keeps_its_type_its_direction_and_what_its_body_says() -> None:
    made = clean(
        "<!DOCTYPE html><html dir=rtl><head><title>x</title></head><body bgcolor=red onload=x>y</body>"
    )
    assert made.startswith("<!DOCTYPE html><html>")
    assert '<body bgcolor="red" dir="rtl">y</body>' in made


def test_links_open_a_tab_of_their_own_where_that_is_asked_for() -> None:
    rel = 'rel="noopener noreferrer"'
    assert f'<a href="https://x.example" {rel}>x</a>' in clean("<a href=https://x.example target=_top>x</a>")
    assert f'target="_blank" {rel}>' in clean("<a href=https://x.example>x</a>", new_tab=True)


@pytest.mark.parametrize(
    "markup",
    ["<div>" * 100_000, "&" * 20_000_000, "<b>" * 6_600_000, "<" * 20_000_000],
    ids=["nested", "references", "open", "signs"],
)
def test_what_takes_a_parser_too_long_or_too_much_is_refused(markup: str) -> None:
    began = time.monotonic()
    with pytest.raises(TooComplex):
        clean(markup)
    assert time.monotonic() - began < 3 * SECONDS


def test_twenty_megabytes_and_thousands_of_references_are_shown() -> None:
    assert len(clean("<p>hello world</p>" * 1_100_000)) > 19_000_000
    image = f"data:image/png;base64,{'A' * 100_000}"
    made = cleaned("<img src=cid:a>" * 5_000, {"a": image}, new_tab=False)
    assert MOST_IMAGES - 200_000 < len(made) < MOST_IMAGES + 200_000


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("paper.pdf", "paper.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\windows\\a.exe", "a.exe"),
        ("a\r\nSet-Cookie: x.txt", "a__Set-Cookie_ x.txt"),
        ("invoice\u202efdp.exe", "invoice_fdp.exe"),
        ("Grüße.txt", "Grüße.txt"),
        (".bashrc", "bashrc"),
        ("..", "attachment"),
        ("x" * 5_000 + ".pdf", "attachment"),
    ],
)
def test_a_file_name_has_no_folder_and_no_tricks(name: str, safe: str) -> None:
    if len(name) > 1_000:
        assert len(safe_name(name)) <= 100
    else:
        assert safe_name(name) == safe


def test_only_raster_images_of_at_most_five_megabytes_become_urls() -> None:
    png = b"\x89PNG\r\n\x1a\n"
    assert data_url(png).startswith("data:image/png;base64,")
    assert data_url(b"RIFF1234WEBP").startswith("data:image/webp;")
    assert data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>") == ""
    assert data_url(png + bytes(5_242_880)) == ""
