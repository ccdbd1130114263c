"""Text from bytes that do not match their charset."""

from __future__ import annotations

import codecs
import encodings
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.charset import decode, decode_words
from functions.message.reading import decoders
from functions.message.reading.labels import codec_of
from functions.message.reading.transfer import decode_base64


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("é".encode(), "", "é"),
        (b"\xe9", "", "é"),
        (b"\xe9", "us-ascii", "é"),
        ("é".encode(), "us-ascii", "é"),
        (b"\xe9\x80", "ISO-8859-1", "é€"),
        (b"\xe9", "no-such-charset", "é"),
        (b"\xc7\xd1", "ks_c_5601-1987", "한"),
        (b"\xd6\xd0", '"gb2312"', "中"),
        (b"\x1b$BF|\x1b(B", "iso-2022-jp", "日"),
        (b"\x1b$BF|\x1b(J\\~\x1b(B\\", "iso-2022-jp", "日¥\u203e\\"),
        (b"abc", "x" * 10_000, "abc"),
        (b"616263", "hex", "616263"),
        (b"abc", "punycode", "abc"),
    ],
)
def test_charsets(data: bytes, charset: str, text: str) -> None:
    assert decode(data, charset) == text


@given(st.text(max_size=80))
def test_no_charset_reaches_the_registry_that_keeps_every_unknown_name(charset: str) -> None:
    before = len(encodings._cache)  # type: ignore[attr-defined]
    codec = codec_of(charset)
    decode(b"\xff", charset)
    if codec is None:
        assert len(encodings._cache) == before  # type: ignore[attr-defined]
    else:
        codecs.lookup(codec)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"plain", "plain"),
        (b"=?utf-8?B?w6k=?= y", "é y"),
        (b"=?utf-8?B?w6k=?= =?utf-8?Q?=C3?= \t=?UTF-8?q?=A9_x?= end", "éé x end"),
        (b"=?utf-8?q?a?= =?iso-8859-1?q?=E9?=", "aé"),
        (b"=?utf-8*en?Q?a?=b", "ab"),
        (b"=?foo?B?w6k?=", "é"),
        (b"=?utf-8?x?y?= =?utf-8?q?y", "=?utf-8?x?y?= =?utf-8?q?y"),
        ("=?utf-8?q?a?= é".encode(), "a é"),
        (b"\xe9", "é"),
    ],
)
def test_encoded_words(value: bytes, text: str) -> None:
    assert decode_words(value) == text


@given(
    st.lists(st.sampled_from([b"=?", b"?=", b"utf-8", b"?q?", b"?B?", b"=", b"a", b" ", b"\xff"])).map(
        b"".join
    )
)
def test_any_value_is_read(value: bytes) -> None:
    assert isinstance(decode_words(value), str)


@given(st.binary())
def test_any_base64_is_read(data: bytes) -> None:
    assert isinstance(decode_base64(data), bytes)


@pytest.mark.parametrize(
    ("data", "decoded"),
    [(b"aGVs\r\nbG8=", b"hello"), (b"aGVsbG8", b"hello"), (b"aGV!sbG8", b"hello"), (b"a", b"")],
)
def test_malformed_base64_is_decoded(data: bytes, decoded: bytes) -> None:
    assert decode_base64(data) == decoded


def test_plain_text_needs_no_tables_of_charsets_so_a_start_is_quick() -> None:
    script = (
        "import sys; from functions.message.charset import decode, decode_words\n"
        "import functions.message.template\n"
        "assert decode(b'plain') == decode_words(b'plain') == 'plain'\n"
        "print([name for name in sys.modules if 'message.reading' in name or 'webencodings' in name])\n"
        "print(ascii(decode_words(b'=?iso-8859-1?q?=E9?=')))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", r"'\xe9'"]


@given(st.binary(max_size=60) | st.text("aé=?\x1b$BF|(", max_size=30).map(str.encode))
def test_the_short_way_of_plain_text_gives_what_the_decoders_give(data: bytes) -> None:
    assert decode(data) == decoders.decode(data)
    assert decode_words(data) == decoders.decode_words(data)
