"""From results to decisions: refusals, deferrals, and their words."""

from __future__ import annotations

from typing import Any, Final

import pytest

from listener.mailauth.results import ArcResult, BimiResult, DmarcResult, Report, SignatureResult, SpfResult
from listener.mailauth.verdict import decide

ALL: Final = ("dmarc-reject", "dmarc-quarantine", "spf-fail", "dkim-fail")


def report(
    spf: SpfResult | None = None,
    dkim: tuple[SignatureResult, ...] = (),
    dmarc: tuple[DmarcResult, ...] = (DmarcResult("none"),),
    **more: Any,
) -> Report:
    values: dict[str, Any] = {"arc": None, "bimi": None, "received": (), "signatures": len(dkim)}
    return Report(spf=spf or SpfResult("none"), dkim=dkim, dmarc=dmarc, **(values | more))


def said(found: Report, *refuse: Any) -> str:
    decision = decide(found, refuse or ("dmarc-reject",))
    return f"{decision.verdict} {decision.reply}" if decision.reply else decision.verdict


def dmarc(verdict: Any, worst: Any = "none", **more: Any) -> tuple[DmarcResult, ...]:
    policy = worst if verdict == "fail" else None
    return (DmarcResult(verdict, **({"domain": "example.com", "policy": policy, "worst": worst} | more)),)


def test_dmarc_failures_name_the_policy() -> None:
    own = dmarc("fail", "reject", policy_domain="example.com")
    assert said(report(dmarc=own)) == (
        "refuse 550 5.7.1 Email rejected per DMARC policy (p=reject) for example.com"
    )
    parent = dmarc("fail", "reject", domain="a.example.com", policy_domain="example.com")
    assert said(report(dmarc=parent)) == (
        "refuse 550 5.7.1 Email rejected per DMARC policy (p=reject) of example.com for a.example.com"
    )
    ours = dmarc("fail", "reject", enforced=True)
    assert said(report(dmarc=ours)) == (
        "refuse 550 5.7.1 Email rejected per local DMARC policy (p=reject) for example.com"
    )


@pytest.mark.parametrize(
    ("worst", "refuse", "verdict"),
    [
        ("reject", ("dmarc-reject",), "refuse"),
        ("quarantine", ("dmarc-reject",), "accept"),
        ("none", ("dmarc-reject",), "accept"),
        ("reject", ("dmarc-quarantine",), "refuse"),
        ("quarantine", ("dmarc-quarantine",), "refuse"),
        ("none", ("dmarc-quarantine",), "accept"),
        ("reject", ("spf-fail",), "accept"),
        ("reject", (), "accept"),
    ],
)
def test_which_policies_refuse(worst: str, refuse: tuple[Any, ...], verdict: str) -> None:
    assert decide(report(dmarc=dmarc("fail", worst)), refuse).verdict == verdict
    waiting = {"refuse": "defer"}.get(verdict, verdict)
    assert decide(report(dmarc=dmarc("temperror", worst)), refuse).verdict == waiting


def test_temporary_failures_wait() -> None:
    found = report(dmarc=dmarc("temperror", "reject"))
    assert said(found) == "defer 451 4.7.0 DMARC of example.com cannot be evaluated now, try again later"
    spf = report(SpfResult("temperror", "example.com"))
    assert said(spf) == "accept"
    assert said(spf, "spf-fail") == (
        "defer 451 4.7.24 SPF of example.com cannot be checked now, try again later"
    )
    dkim = report(dkim=(SignatureResult("temperror"), SignatureResult("fail")))
    assert said(dkim) == "accept"
    assert said(dkim, "dkim-fail").startswith("defer 451 4.7.0")


def test_a_certain_refusal_comes_before_waiting() -> None:
    found = report(SpfResult("fail", "example.com"), dmarc=dmarc("temperror", "reject"))
    assert said(found, *ALL) == "refuse 550 5.7.23 SPF validation failed for example.com"
    later = (*dmarc("temperror", "reject"), *dmarc("fail", "reject", policy_domain="example.com"))
    assert said(report(dmarc=later)).startswith("refuse 550 5.7.1")


def test_spf() -> None:
    assert said(report(SpfResult("fail", "example.com"))) == "accept"
    for verdict in ("none", "neutral", "pass", "softfail", "permerror"):
        assert said(report(SpfResult(verdict, "example.com")), *ALL) == "accept"  # type: ignore[arg-type]
    explained = SpfResult("fail", "example.com", explanation="Ask " + "x" * 400)
    text = said(report(explained), "spf-fail")
    assert text.startswith(
        "refuse 550 5.7.23 SPF validation failed for example.com. The domain explains: Ask x"
    )
    assert len(text) < 320


@pytest.mark.parametrize(
    ("verdicts", "verdict"),
    [
        ([], "accept"),
        (["pass"], "accept"),
        (["fail", "pass"], "accept"),
        (["fail"], "refuse"),
        (["policy"], "refuse"),
        (["permerror", "neutral"], "refuse"),
        (["temperror", "fail"], "defer"),
    ],
)
def test_dkim(verdicts: list[Any], verdict: str) -> None:
    found = report(dkim=tuple(SignatureResult(each, domain="example.com") for each in verdicts))
    assert decide(found, ("dkim-fail",)).verdict == verdict
    assert decide(found, ("dmarc-reject",)).verdict == "accept"


def test_a_key_in_test_refuses_nothing() -> None:
    testing = SignatureResult("fail", domain="example.com", testing=True)
    assert said(report(dkim=(testing,)), "dkim-fail") == "accept"
    both = (testing, SignatureResult("fail", domain="example.org"))
    assert (
        said(report(dkim=both), "dkim-fail") == "refuse 550 5.7.20 No passing DKIM signature from example.org"
    )


def test_arc_and_bimi_have_no_say() -> None:
    for verdict in ("pass", "fail", "temperror"):
        found = report(arc=ArcResult(verdict), bimi=BimiResult("temperror"))  # type: ignore[arg-type]
        assert said(found, *ALL) == "accept"
        refused = report(dmarc=dmarc("fail", "reject"), arc=ArcResult("pass", instances=1, oldest_pass=0))
        assert decide(refused, ("dmarc-reject",)).verdict == "refuse"


def test_more_authors_than_are_checked() -> None:
    hidden = (
        DmarcResult("permerror", worst="reject", reason="more author domains or fields than are checked"),
    )
    assert said(report(dmarc=hidden)) == (
        "refuse 550 5.7.1 Email rejected: more author domains or fields than are checked"
    )
