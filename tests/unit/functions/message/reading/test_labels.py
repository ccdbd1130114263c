"""Names of charsets."""

from __future__ import annotations

import codecs

import pytest
from webencodings.labels import LABELS

from functions.message.reading.labels import codec_of


def test_every_label_of_the_standard_has_a_codec() -> None:
    """Except for those that only tell browsers to refuse a page."""
    refused = {"iso-2022-cn", "iso-2022-cn-ext", "replacement", "x-user-defined"}
    for label in LABELS.keys() - refused:
        codec = codec_of(label)
        assert codec is not None, label
        codecs.lookup(codec)


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        ("CP-1252", "cp1252"),
        ("x-win-1250", "cp1250"),
        ("cp28605", "iso8859_15"),
        ("ISO_8859-15", "iso8859_15"),
        ("iso-2022-jp-3", "iso2022_jp"),
        ("IBM00858", "cp858"),
        ("mac-roman", "mac_roman"),
        ("hz-gb-2312", "hz"),
        ("x-ms-cp932", "cp932"),
        ("MS-CYRL", "cp1251"),
        ("punycode", None),
        ("unknown-8bit", None),
        ("", None),
    ],
)
def test_names_of_mail(label: str, codec: str | None) -> None:
    assert codec_of(label) == codec
