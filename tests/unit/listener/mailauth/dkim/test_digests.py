"""Canonicalization (RFC 6376 section 3.4): its own examples, any cutting of the body, linear time."""

from __future__ import annotations

import time

import pytest
from dkim.canonicalization import CanonicalizationPolicy
from hypothesis import given
from hypothesis import strategies as st

from functions.message.canon import Algorithm, BodyCanon, is_canonical, relaxed_usual, relaxed_value
from listener.mailauth.dkim.digests import BodyHashes, header_digest, without_signature
from listener.mailauth.dkim.fields import HeaderBlock
from listener.mailauth.dkim.signature import BodyHash, parse_dkim


class Kept(bytearray):
    def update(self, data: bytes, /) -> None:
        self.extend(data)


def canonical(algorithm: Algorithm, body: bytes, *cuts: int) -> bytes:
    kept = Kept()
    canon = BodyCanon(algorithm, kept)
    at = 0
    for cut in sorted(cuts):
        canon.feed(body[at:cut])
        at = cut
    canon.feed(body[at:])
    canon.finish()
    assert canon.size == len(kept)
    return bytes(kept)


@pytest.mark.parametrize(
    ("algorithm", "body", "expected"),
    [
        # Section 3.4.5
        ("relaxed", b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        ("simple", b" C \r\nD \t E\r\n\r\n\r\n", b" C \r\nD \t E\r\n"),
        # Sections 3.4.3 and 3.4.4: empty bodies, missing last line end, empty lines only
        ("simple", b"", b"\r\n"),
        ("relaxed", b"", b""),
        ("simple", b"\r\n\r\n", b"\r\n"),
        ("relaxed", b"\r\n\r\n", b""),
        ("relaxed", b" \t\r\n\t\r\n", b""),
        ("simple", b"a", b"a\r\n"),
        ("relaxed", b"a", b"a\r\n"),
        ("relaxed", b"a \t", b"a\r\n"),
        ("relaxed", b"a\r\n\r\n \r\nb\r\n \r\n", b"a\r\n\r\n\r\nb\r\n"),
        # Lone CR and LF are ordinary bytes.
        ("simple", b"a\r\n\n\r\n", b"a\r\n\n\r\n"),
        ("relaxed", b"a \r", b"a \r\r\n"),
        ("simple", b"a\r\r\n\r\n", b"a\r\r\n"),
    ],
)
def test_bodies(algorithm: Algorithm, body: bytes, expected: bytes) -> None:
    assert canonical(algorithm, body) == expected
    assert canonical(algorithm, body, *range(len(body))) == expected


LINES = st.lists(st.text(alphabet=" \tab", max_size=6).map(str.encode), max_size=12)


@given(LINES, st.lists(st.integers(0, 90), max_size=6))
def test_any_cutting_gives_what_dkimpy_gives_of_the_whole(lines: list[bytes], cuts: list[int]) -> None:
    body = b"".join(line + b"\r\n" for line in lines)
    for algorithm in ("simple", "relaxed"):
        policy = CanonicalizationPolicy.from_c_value(f"{algorithm}/{algorithm}".encode())
        assert canonical(algorithm, body, *cuts) == policy.canonicalize_body(body)  # type: ignore[arg-type]


@given(
    st.binary(max_size=60).map(lambda b: b.translate(bytes(b" \t\r\nab;=b"[i % 9] for i in range(256)))),
    st.data(),
)
def test_any_cutting_of_any_bytes_is_the_same(body: bytes, data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=5))
    for algorithm in ("simple", "relaxed"):
        assert canonical(algorithm, body, *cuts) == canonical(algorithm, body)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "line",
    [b" " * 200_000, b"\t" * 200_000, b" a" * 100_000, b" \t" * 100_000, b"\r\n" * 100_000, b"\r" * 200_000],
)
def test_long_runs_take_linear_time(line: bytes) -> None:
    started = time.process_time()
    canonical("relaxed", line + b"x\r\n" + line, *range(0, 400_000, 65_536))
    canonical("simple", line + b"x\r\n" + line)
    relaxed_value(line + b"x")
    assert time.process_time() - started < 0.3  # dkimpy takes a minute for the first


def test_relaxed_header_value() -> None:
    assert relaxed_value(b"  Y\t\r\n\tZ  ") == b"Y Z"
    assert relaxed_value(b" \r\n ") == b""
    assert relaxed_value(b" a\x0bb\x0c ") == b"a\x0bb\x0c"  # not white space to RFC 5322


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b" a=x; b=abc def; c=y", b" a=x; b=; c=y"),
        (b" a=x; b = abc\r\n\tdef", b" a=x; b ="),
        (b"b=abc;", b"b=;"),
        (b" bh=b=1; b=2", b" bh=b=1; b="),
        (b" xb=1; a=b", b" xb=1; a=b"),
        (b" a=1; \r\n\tb\r\n =\r\n 2 ; d=3", b" a=1; \r\n\tb\r\n =; d=3"),
    ],
)
def test_only_the_tag_b_is_emptied(value: bytes, expected: bytes) -> None:
    assert without_signature(value) == expected


_WANTED = st.lists(
    st.builds(
        BodyHash,
        st.sampled_from(["simple", "relaxed"]),
        st.sampled_from(["sha1", "sha256"]),
        st.sampled_from([None, None, None, 0, 3]),
    ),
    min_size=1,
    max_size=3,
)


@given(
    st.lists(st.sampled_from([b"ab", b" ", b"\t", b"\r\n", b"\r\n", b"\r", b"\n"]), max_size=12).map(
        b"".join
    ),
    _WANTED,
    st.integers(0, 20),
)
def test_a_body_taken_whole_has_the_hashes_of_its_pieces(
    body: bytes, wanted: list[BodyHash], cut: int
) -> None:
    whole, pieces = BodyHashes(wanted), BodyHashes(wanted)
    whole.take(body)
    pieces.feed(body[:cut])
    pieces.feed(body[cut:])
    pieces.finish()
    for one in (*wanted, BodyHash("simple", "sha256", None), BodyHash("relaxed", "sha256", None)):
        if one in wanted:
            assert whole.digest(one) == pieces.digest(one)
        else:
            assert whole.digest(one) in (None, pieces.digest(one))
        if one.length is not None and one in wanted:
            assert whole.size(one.canon) == pieces.size(one.canon)


@given(
    st.lists(st.sampled_from([b"ab", b" ", b"\t", b"\r\n", b"\r\n", b"\r", b"\n"]), max_size=12).map(b"".join)
)
def test_a_canonical_body_is_its_own_canonical_form(body: bytes) -> None:
    for algorithm in ("simple", "relaxed"):
        if is_canonical(body, algorithm):  # type: ignore[arg-type]
            assert canonical(algorithm, body) == body  # type: ignore[arg-type]
    assert is_canonical(b"ab c\r\n\r\nd\r\n", "relaxed")


_TEXT = st.lists(st.sampled_from([b"ab", b"c", b" ", b"  ", b"\t", b"\r\n ", b"\r\n\t"]), max_size=12).map(
    b"".join
)


@given(_TEXT)
def test_the_fast_form_of_a_value_is_the_relaxed_one(value: bytes) -> None:
    assert relaxed_usual(value) == relaxed_value(value)


@given(
    st.lists(st.one_of(_TEXT, st.sampled_from([b"a\v", b"\fb", b" \v \f "])), min_size=4, max_size=4),
    st.sampled_from(["relaxed/relaxed", "simple/simple"]),
    st.sampled_from(
        ["from:to:subject", "from:from:x-none:to:to:dkim-signature", "subject:from:dkim-signature"]
    ),
)
def test_the_digest_of_a_header_is_the_same_whatever_is_known_of_its_line_ends(
    values: list[bytes], canon: str, signed: str
) -> None:
    tags = (
        f" v=1; a=rsa-sha256; c={canon}; d=example.com;\r\n\ts=sel;  h={signed}; bh=YWJj; b=YW\r\n\tJj ; t=1"
    )
    head = b"DKIM-Signature:" + tags.encode() + b"\r\n"
    for name, value in zip((b"From", b"to ", b"SUBJECT", b"From"), values, strict=True):
        head += name + b":" + value + b"\r\n"
    head += b"dkim-signature: v=1\r\n"
    blocks = [HeaderBlock(head, crlf=crlf) for crlf in (False, True)]
    assert blocks[1].usual == (b"\v" not in head and b"\f" not in head)
    assert not blocks[0].usual
    digests = {header_digest(block, parse_dkim(block.named(b"dkim-signature")[0])) for block in blocks}
    assert len(digests) == 1
