"""From what was found to what is done about it: the one place where results become decisions."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

from listener.api.decision import Decision, Reply
from listener.mailauth.results import DmarcResult, Policy, Report

Refusal = Literal["dmarc-reject", "dmarc-quarantine", "spf-fail", "dkim-fail"]
"""What mail is refused for."""

_MAX_EXPLANATION: Final = 200

_REFUSED_POLICIES: Final[dict[Refusal, frozenset[Policy]]] = {
    "dmarc-reject": frozenset({"reject"}),
    # Who refuses what its domain wants set apart will not take what it wants refused.
    "dmarc-quarantine": frozenset({"reject", "quarantine"}),
}


def decide(report: Report, refuse: Collection[Refusal]) -> Decision:
    """Accept, refuse or defer a mail. ARC and BIMI have no say.

    A certain reason to refuse comes before a reason to wait, and DNS that does not answer is a reason
    to wait only where its answer could change the decision (RFC 9989 section 5.3.6).
    """
    policies = frozenset[Policy]().union(*(_REFUSED_POLICIES.get(reason, ()) for reason in refuse))
    refusal = _dmarc_refusal(report, policies) or _other_refusal(report, refuse)
    if refusal is not None:
        return Decision("refuse", refusal)
    deferral = _deferral(report, policies, refuse)
    return Decision("accept") if deferral is None else Decision("defer", deferral)


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
            # RFC 7208 section 8.4: what a stranger says is marked as the stranger's.
            text += f". The domain explains: {spf.explanation[:_MAX_EXPLANATION]}"
        return Reply(550, "5.7.23", text)
    if "dkim-fail" in refuse and report.dkim_verdict not in ("none", "pass", "temperror"):
        # RFC 6376 section 3.6.1: a failure under a key in test is no worse than no signature.
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
