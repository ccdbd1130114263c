"""Authentication-Results (RFC 8601) and Received-SPF (RFC 7208 section 9.1): well-formed whatever a
stranger chose."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.mailauth import authres
from listener.mailauth.results import (
    ArcResult,
    BimiResult,
    DmarcResult,
    Report,
    SignatureResult,
    SpfResult,
)

US: Final = "mx.receiver.example"

SPF: Final = SpfResult(
    "pass",
    domain="example.com",
    sender="ann@example.com",
    helo="mx.example.com",
    ip="192.0.2.1",
    mechanism="ip4:192.0.2.0/24",
)
SIGNATURE: Final = SignatureResult(
    "pass",
    domain="example.com",
    selector="sel",
    identity="@example.com",
    algorithm="rsa-sha256",
    signature="aB+/cd==",
    key_bits=2048,
)
EMPTY: Final = Report(spf=SPF, dkim=(), signatures=0, arc=None, dmarc=(), bimi=None, received=())

# RFC 8601 section 2.2, with RFC 5322's CFWS and quoted strings.
_CFWS: Final = r"(?:[ \t]|\r\n[ \t]|\((?:[^()\\\r\n]|\\.)*\))"
_TOKEN: Final = r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+"
_QUOTED: Final = r'"(?:[^"\\\r\n]|\\.)*"'
_LOCAL: Final = rf"(?:[!#$%&'*+./=?0-9A-Z^_`a-z{{|}}~-]+|{_QUOTED})"
_PVALUE: Final = rf"(?:(?:{_LOCAL})?@[a-z0-9._-]+|{_TOKEN}|{_QUOTED})"
_RESULT: Final = rf"[a-z]+=[a-z]+(?:{_CFWS}+[a-z]+\.[a-z-]+={_PVALUE}|{_CFWS})*"
WELL_FORMED: Final = re.compile(rf"(?:{_TOKEN}|{_QUOTED});(?:{_CFWS}*{_RESULT};?)+")
SPF_WELL_FORMED: Final = re.compile(
    rf"[a-z]+{_CFWS}*(?:[a-z-]+=(?:{_LOCAL}|{_QUOTED})(?:;{_CFWS}*)?)+", re.DOTALL
)


def unfolded(value: str) -> str:
    return value.replace("\r\n\t", " ")


def sound(value: str) -> bool:
    """No line end but folds, every line within bounds, printable ASCII throughout."""
    lines = value.split("\r\n")
    return (
        all(line.startswith("\t") for line in lines[1:])
        and all(len(line) <= 900 for line in lines)
        and all(line.lstrip("\t").isascii() and line.lstrip("\t").isprintable() for line in lines)
        and all(line.strip() for line in lines)
    )


def test_everything_at_once() -> None:
    report = Report(
        spf=SPF,
        dkim=(SIGNATURE, SignatureResult("neutral", "malformed tag list")),
        signatures=2,
        arc=ArcResult("pass", instances=2, oldest_pass=0, domain="list.example", selector="arc"),
        dmarc=(DmarcResult("pass", "example.com", policy="reject", dkim="strict"),),
        bimi=BimiResult("pass", domain="example.com", selector="default", location="https://x/y.svg"),
        received=(),
    )
    value = authres.authentication_results(report, US)
    assert unfolded(value) == (
        "mx.receiver.example; "
        "spf=pass (example.com designates 192.0.2.1 as permitted sender) smtp.mailfrom=ann@example.com; "
        "dkim=pass (2048-bit key) header.d=example.com header.i=@example.com header.s=sel "
        'header.a=rsa-sha256 header.b="aB+/cd=="; '
        "dkim=neutral (malformed tag list); "
        "arc=pass (i=2, sealed by list.example) header.oldest-pass=0; "
        "dmarc=pass (p=reject) header.from=example.com policy.dmarc=reject; "
        "bimi=pass header.d=example.com header.selector=default policy.authority=none"
    )
    assert sound(value)
    assert WELL_FORMED.fullmatch(value)
    assert max(map(len, value.split("\r\n"))) <= 78


def test_nothing_found() -> None:
    nothing = replace(
        EMPTY, spf=SpfResult("none", identity="helo", helo="[192.0.2.1]", reason="no domain to check")
    )
    value = unfolded(authres.authentication_results(nothing, US))
    assert value == f'{US}; spf=none (no domain to check) smtp.helo="[192.0.2.1]"; dkim=none'


def test_received_spf() -> None:
    assert unfolded(authres.received_spf(SPF, US)) == (
        "pass (mx.receiver.example: example.com designates 192.0.2.1 as permitted sender) "
        'client-ip=192.0.2.1; envelope-from="ann@example.com"; helo=mx.example.com; '
        'receiver=mx.receiver.example; identity=mailfrom; mechanism="ip4:192.0.2.0/24"'
    )
    broken = replace(SPF, verdict="permerror", reason="term too long", identity="helo", mechanism="")
    assert unfolded(authres.received_spf(broken, US)) == (
        "permerror (mx.receiver.example: term too long) client-ip=192.0.2.1; helo=mx.example.com; "
        'receiver=mx.receiver.example; identity=helo; problem="term too long"'
    )


@pytest.mark.parametrize(
    ("sender", "written"),
    [
        ("ann@example.com", "ann@example.com"),
        ('"ann smith"@example.com', '"\\"ann smith\\""@example.com'),
        ("a(b)@example.com", '"a(b)"@example.com'),
        ("a;spf=pass@example.com", '"a;spf=pass"@example.com'),
        ("jörg@example.com", "example.com"),
        ("ann@bücher.example", "ann@xn--bcher-kva.example"),
        ("a\r\nX: y@example.com", "example.com"),
        ("ann", "ann"),
        ("a b", '"a b"'),
    ],
)
def test_addresses(sender: str, written: str) -> None:
    value = unfolded(authres.authentication_results(replace(EMPTY, spf=replace(SPF, sender=sender)), US))
    assert f"smtp.mailfrom={written};" in value


ANY: Final = st.text(max_size=40)
HOSTILE: Final = st.one_of(
    ANY,
    st.sampled_from(["\r\nBcc: x", "a; dmarc=pass", '"', "\\", "(", ")", "a)b", "\x00", "é", "x" * 600, ""]),
)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_strangers_cannot_break_out(a: str, b: str, c: str, d: str, e: str, f: str) -> None:
    spf = SpfResult("permerror", a, sender=b, helo=c, ip="192.0.2.1", mechanism=d, reason=e, explanation=f)
    report = Report(
        spf=spf,
        dkim=(SignatureResult("fail", a, b, c, f"{d}@{e}", f, a),),
        signatures=1,
        arc=ArcResult("fail", b),
        dmarc=(DmarcResult("temperror", c, reason=d),),
        bimi=BimiResult("fail", e, f, a),
        received=(),
    )
    value = authres.authentication_results(report, US)
    assert sound(value), value
    assert WELL_FORMED.fullmatch(value), value
    # Apart from comments and quoted strings, there is one result for each method, and it is the
    # relay's.
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', value)
    bare = re.sub(r"\((?:[^()\\]|\\.)*\)", "", bare)
    assert re.findall(r"(spf|dkim|arc|dmarc|bimi)=(\w+)", bare) == [
        ("spf", "permerror"), ("dkim", "fail"), ("arc", "fail"), ("dmarc", "temperror"), ("bimi", "fail"),
    ]  # fmt: skip
    written = authres.received_spf(spf, US)
    assert sound(written), written
    assert SPF_WELL_FORMED.fullmatch(written), written


@given(st.text(max_size=300))
def test_quoting(text: str) -> None:
    written = authres.quoted(text)
    assert re.fullmatch(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"', written)
    assert authres.value(text) in (text, written)
