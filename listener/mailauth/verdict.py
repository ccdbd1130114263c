"""Turns results into decisions: the only place that does."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache
from typing import Final, Literal

from listener.api.decision import ACCEPT, Decision, Reply
from listener.mailauth.results import DmarcResult, Policy, Report

Refusal = Literal["dmarc-reject", "dmarc-quarantine", "spf-fail", "dkim-fail"]
"""Reasons to refuse mail."""

_MAX_EXPLANATION: Final = 200

_REFUSED_POLICIES: Final[dict[Refusal, frozenset[Policy]]] = {
    "dmarc-reject": frozenset({"reject"}),
    # `dmarc-quarantine` implies `dmarc-reject`.
    "dmarc-quarantine": frozenset({"reject", "quarantine"}),
}

_BY_DMARC: Final = frozenset(_REFUSED_POLICIES)


def decide(report: Report, refuse: Collection[Refusal]) -> Decision:
    """Accept, refuse or defer a mail. ARC and BIMI do not count.

    A certain reason to refuse precedes a reason to wait. A missing DNS answer is a reason to wait only
    if the answer could change the decision (RFC 9989 section 5.3.6).
    """
    if _BY_DMARC.issuperset(refuse):
        for result in report.dmarc:
            if result.verdict != "pass":
                break
        else:
            return ACCEPT
    policies = _policies(frozenset(refuse))
    refusal = _dmarc_refusal(report, policies) or _other_refusal(report, refuse)
    if refusal is not None:
        return Decision("refuse", refusal)
    deferral = _deferral(report, policies, refuse)
    return ACCEPT if deferral is None else Decision("defer", deferral)


@lru_cache(maxsize=16)
def _policies(refuse: frozenset[Refusal]) -> frozenset[Policy]:
    return frozenset[Policy]().union(*(_REFUSED_POLICIES.get(reason, ()) for reason in refuse))


def _dmarc_refusal(report: Report, policies: frozenset[Policy]) -> Reply | None:
    for result in report.dmarc:
        if result.verdict in ("fail", "permerror") and result.worst in policies:
            return Reply(550, "5.7.1", _dmarc_text(result))
    return None


def _dmarc_text(result: DmarcResult) -> str:
    if result.verdict == "permerror":
        return f"Email rejected: {result.reason}"
    if result.enforced:
        return f"Email rejected per local DMARC policy (p={result.worst}) for {result.domain}"
    owner = "" if result.policy_domain == result.domain else f" of {result.policy_domain}"
    return f"Email rejected per DMARC policy (p={result.worst}){owner} for {result.domain}"


def _other_refusal(report: Report, refuse: Collection[Refusal]) -> Reply | None:
    """The enhanced codes are those of RFC 7372."""
    spf = report.spf
    if "spf-fail" in refuse and spf.verdict == "fail":
        text = f"SPF validation failed for {spf.domain}"
        if spf.explanation:
            # RFC 7208 section 8.4: mark a stranger's text as the stranger's.
            text += f". The domain explains: {spf.explanation[:_MAX_EXPLANATION]}"
        return Reply(550, "5.7.23", text)
    if "dkim-fail" in refuse and report.dkim_verdict not in ("none", "pass", "temperror"):
        # RFC 6376 section 3.6.1: a failure with a test key counts as no signature.
        domains = [result.domain for result in report.dkim if not result.testing]
        if domains:
            of = f" from {domains[0]}" if domains[0] else ""
            return Reply(550, "5.7.20", f"No passing DKIM signature{of}")
    return None


def _deferral(report: Report, policies: frozenset[Policy], refuse: Collection[Refusal]) -> Reply | None:
    for result in report.dmarc:
        if result.verdict == "temperror" and result.worst in policies:
            domain = f" of {result.domain}" if result.domain else ""
            return Reply(451, "4.7.0", f"DMARC{domain} cannot be evaluated now, try again later")
    if "spf-fail" in refuse and report.spf.verdict == "temperror":
        return Reply(451, "4.7.24", f"SPF of {report.spf.domain} cannot be checked now, try again later")
    if "dkim-fail" in refuse and report.dkim_verdict == "temperror":
        return Reply(451, "4.7.0", "DKIM signatures cannot be checked now, try again later")
    return None
