"""The parts of a signature that a signer's mails share are read once, and are those of each mail."""

from __future__ import annotations

import time
from typing import Final

import pytest

from listener.mailauth.dkim import signature
from listener.mailauth.dkim.digests import header_digest
from listener.mailauth.dkim.fields import HeaderBlock, HeaderField
from listener.mailauth.dkim.signature import (
    Signature,
    SignatureError,
    parse_arc_message_signature,
    parse_arc_seal,
    parse_dkim,
)

TAGS: Final = {
    "v": "1",
    "a": "rsa-sha256",
    "d": "a.example",
    "s": "s",
    "h": "From:To",
    "b": "AAAA",
    "bh": "BBBB",
}


def field(name: bytes = b"dkim-signature", **tags: str) -> HeaderField:
    value = "; ".join(f"{tag}={text}" for tag, text in (TAGS | tags).items()).encode()
    return HeaderField(name, name + b":" + value, value)


def fault(**tags: str) -> str:
    with pytest.raises(SignatureError) as raised:
        parse_dkim(field(**tags))
    return raised.value.reason


def test_two_mails_of_one_signer_share_their_terms() -> None:
    first, second = parse_dkim(field(t="1")), parse_dkim(field(t="2", b="CCCC", bh="DDDD", l="7"))
    assert first.terms is second.terms
    assert (first.signed_at, first.value, first.covers.length) == (1, b"\0\0\0", None)
    assert (second.signed_at, second.value, second.covers.length) == (2, b"\x08\x20\x82", 7)
    assert second.shown == "CCCC"


@pytest.mark.parametrize(
    ("tag", "value", "attribute"),
    [
        ("a", "ed25519-sha256", "algorithm"),
        ("d", "b.example", "domain"),
        ("s", "t", "selector"),
        ("c", "relaxed/relaxed", "canonicalization"),
        ("h", "From", "signed"),
        ("i", "ann@a.example", "identity"),
    ],
)
def test_another_tag_makes_other_terms(tag: str, value: str, attribute: str) -> None:
    usual = getattr(parse_dkim(field()).terms, attribute)
    assert getattr(parse_dkim(field(**{tag: value})).terms, attribute) != usual
    assert getattr(parse_dkim(field()).terms, attribute) == usual


def test_the_same_words_mean_something_else_in_another_field() -> None:
    tags = {"i": "1", "cv": "none"}
    assert fault(**tags) == "i= is not an address"
    assert parse_arc_message_signature(field(b"arc-message-signature", **tags)).terms.identity == ""
    with pytest.raises(SignatureError, match="in a seal"):
        parse_arc_seal(field(b"arc-seal", **tags))


def test_the_first_fault_is_told_whatever_was_read_before() -> None:
    for _ in range(2):
        assert fault(a="x", b="!") == "unknown algorithm"
        assert fault(d="-", b="!") == "d= or s= is not a domain name"
        assert fault(c="x", b="!") == "b= is not base64"
        assert fault(c="x", l="!") == "l= is not a number"
        assert fault(c="x", t="2", x="1") == "x= is not after t="
        assert fault(c="x", h="to") == "unknown canonicalization"
        assert fault(h="to", q="x") == "From is not signed"
        assert fault(q="x", i="@b.example") == "no known way to fetch the key"
        assert fault(i="@b.example") == "i= is not within d="


def test_terms_of_long_fields_are_not_kept() -> None:
    before = signature._terms.cache_info().currsize
    read = parse_dkim(field(h="from:" + ":".join(["x" * 60] * 60)))
    assert isinstance(read, Signature)
    assert signature._terms.cache_info().currsize == before
    assert signature._terms.cache_info().maxsize == 1_024


def test_many_names_of_many_fields_take_little_time() -> None:
    head = b"".join(b"DKIM-Signature: v=%d\r\n" % number for number in range(1_900)) + b"X: y\r\n"
    block = HeaderBlock(head)
    own = block.named(b"dkim-signature")[0]
    names = "from:" + ":".join(["dkim-signature"] * 900)
    read = parse_dkim(field(h=names))
    read.field = own
    started = time.process_time()
    header_digest(block, read)
    assert time.process_time() - started < 0.1
