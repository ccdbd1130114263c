"""Header fields with the results: Authentication-Results and Received-SPF.

RFC 8601 section 2.2 and RFC 7208 section 9.1. Every value that a stranger chose has a safe form or is
quoted, so it cannot end the field, start another or pose as a result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from operator import attrgetter
from typing import Final

from listener.mailauth.dns.domains import normal
from listener.mailauth.results import Report, SignatureResult, SpfResult

MAX_VALUE: Final = 255
"""Most characters to keep of one value."""

_BETWEEN: Final = ";\r\n\t"
_WIDTH: Final = 78 - 8  # RFC 5322 section 2.1.1, for lines that begin with a tab
_TOKEN: Final = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")  # RFC 2045 section 5.1, without "/"
_ADDRESS: Final = re.compile(r"[!#$%&'*+/0-9=?A-Z^_`a-z{|}~-]+(?:\.[!#$%&'*+/0-9=?A-Z^_`a-z{|}~-]+)*")
# Quotes and semicolons are legal in a comment, but readers without a parser misread them.
_IN_COMMENT: Final = str.maketrans({"\\": "\\\\", "(": "\\(", ")": "\\)", '"': "'", ";": ","})
_PRINTABLE: Final = re.compile(r"[^\x20-\x7e]")


def header_fields(report: Report, us: str) -> tuple[tuple[str, str], tuple[str, str]]:
    """Authentication-Results and Received-SPF, each with its value, which is folded, without a final line
    end. `us` is the relay's name in them."""
    spf, received_spf = _spf_fields(*_facts(report.spf), us)
    text = value(us) + _BETWEEN + spf
    for result in report.dkim:
        text += _BETWEEN + _dkim(result)
    if not report.dkim:
        text += _BETWEEN + "dkim=none"
    others = report.shared.text
    if others is None:
        others = report.shared.text = _others(report)
    return ("Authentication-Results", text + others), ("Received-SPF", received_spf)


def authentication_results(report: Report, authserv_id: str) -> str:
    """The value of Authentication-Results, folded, without a final line end."""
    return header_fields(report, authserv_id)[0][1]


def received_spf(result: SpfResult, receiver: str) -> str:
    """The value of Received-SPF, folded, without a final line end."""
    return _spf_fields(*_facts(result), receiver)[1]


def value(text: str) -> str:
    """A value as a token, or as a quoted string (RFC 8601 section 2.2, RFC 5322 section 3.2.4)."""
    return _value(text) if len(text) <= MAX_VALUE else _value.__wrapped__(text)


@lru_cache(maxsize=4_096)  # mails repeat their names
def _value(text: str) -> str:
    return text if _TOKEN.fullmatch(text) else quoted(text)


def quoted(text: str) -> str:
    """A quoted string of at most MAX_VALUE printable ASCII characters; others become "?"."""
    safe = text[:MAX_VALUE]
    if not (safe.isascii() and safe.isprintable()):
        safe = _PRINTABLE.sub("?", safe)
    return '"' + safe.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- one function for each method; a line may be folded between words ---------------------------


_facts: Final = attrgetter("verdict", "domain", "identity", "sender", "helo", "ip", "mechanism", "reason")


@lru_cache(maxsize=1_024)  # senders write again
def _spf_fields(
    verdict: str,
    domain: str,
    identity: str,
    sender: str,
    helo: str,
    ip: str,
    mechanism: str,
    reason: str,
    receiver: str,
) -> tuple[str, str]:
    """SPF's part of Authentication-Results, and Received-SPF."""
    sentence = _sentence(verdict, domain, ip, reason)
    part = [f"spf={verdict}", *_comment(sentence)]
    if identity == "helo":
        part.append(f"smtp.helo={value(domain or helo)}")
    elif sender:
        part.append(f"smtp.mailfrom={_pvalue(sender)}")
    pairs = [("client-ip", ip)]
    if identity == "mailfrom":
        pairs.append(("envelope-from", _address(sender)))
    pairs += [("helo", helo), ("receiver", receiver), ("identity", identity)]
    if mechanism:
        pairs.append(("mechanism", mechanism))
    if verdict in ("temperror", "permerror") and reason:
        pairs.append(("problem", reason))
    field = [verdict, *_comment(sentence, receiver)]
    field += [f"{key}={_dot_atom(text)};" for key, text in pairs]
    field[-1] = field[-1].removesuffix(";")
    return _fold(part), _fold(field)


_dkim_facts: Final = attrgetter(
    *("verdict", "reason", "key_bits", "testing", "unsigned_octets"),
    *("domain", "identity", "selector", "algorithm"),
)


def _dkim(result: SignatureResult) -> str:
    facts = _dkim_facts(result)
    first = (
        _first_of_dkim(*facts) if len(result.identity) <= MAX_VALUE else _first_of_dkim.__wrapped__(*facts)
    )
    return _with_word(first, f"header.b={quoted(result.signature)}") if result.domain else first


@lru_cache(maxsize=1_024)
def _first_of_dkim(
    verdict: str,
    reason: str,
    key_bits: int,
    testing: bool,
    unsigned_octets: int,
    domain: str,
    identity: str,
    selector: str,
    algorithm: str,
) -> str:
    """The part of one signature, folded, without the first bytes of b= at its end."""
    remark = reason or (f"{key_bits}-bit key" if key_bits else "")
    if testing:
        remark += ", test mode"
    if unsigned_octets:
        remark += f", {unsigned_octets} bytes of the body not signed"
    words = [f"dkim={verdict}", *_comment(remark.removeprefix(", "))]
    if domain:
        words += [
            f"header.d={value(domain)}",
            f"header.i={_pvalue(identity)}",
            f"header.s={value(selector)}",
            f"header.a={value(algorithm)}",
        ]
    return _fold(words)


def _others(report: Report) -> str:
    """The parts of ARC, DMARC and BIMI, each with what is before it."""
    parts = [] if report.arc is None else [_arc(*_arc_facts(report.arc))]
    parts += [_dmarc(*_dmarc_facts(result)) for result in report.dmarc]
    if report.bimi is not None:
        parts.append(_bimi(*_bimi_facts(report.bimi)))
    return "".join([_BETWEEN + part for part in parts])


_arc_facts: Final = attrgetter("verdict", "reason", "instances", "domain", "oldest_pass")


@lru_cache(maxsize=1_024)
def _arc(verdict: str, reason: str, instances: int, domain: str, oldest_pass: int | None) -> str:
    remark = reason
    if verdict == "pass":
        remark = f"i={instances}, sealed by {domain}"
    words = [f"arc={verdict}", *_comment(remark)]
    if oldest_pass is not None:
        words.append(f"header.oldest-pass={oldest_pass}")  # RFC 8617 section 7.2
    return _fold(words)


_dmarc_facts: Final = attrgetter("verdict", "reason", "policy", "enforced", "testing", "domain")


@lru_cache(maxsize=1_024)
def _dmarc(verdict: str, reason: str, policy: str | None, enforced: bool, testing: bool, domain: str) -> str:
    remark = reason
    if policy is not None:
        remark = f"p={policy}" + (" enforced here" if enforced else "")
        remark += ", test mode" if testing else ""
    words = [f"dmarc={verdict}", *_comment(remark)]
    if domain:
        words.append(f"header.from={value(domain)}")
    if policy is not None:
        words.append(f"policy.dmarc={policy}")  # RFC 9989 section 9.1
    return _fold(words)


_bimi_facts: Final = attrgetter("verdict", "reason", "domain", "selector")


@lru_cache(maxsize=1_024)
def _bimi(verdict: str, reason: str, domain: str, selector: str) -> str:
    words = [f"bimi={verdict}", *_comment(reason)]
    if domain:
        words += [f"header.d={value(domain)}", f"header.selector={value(selector)}"]
    if verdict == "pass":
        words.append("policy.authority=none")  # no evidence document is fetched
    return _fold(words)


def _sentence(verdict: str, domain: str, ip: str, reason: str) -> str:
    if verdict == "pass":
        return f"{domain} designates {ip} as permitted sender"
    if verdict in ("fail", "softfail"):
        return f"{domain} does not designate {ip} as permitted sender"
    if verdict == "neutral":
        return f"{domain} says nothing of {ip}"
    return reason


def _comment(text: str, writer: str = "") -> Iterable[str]:
    """A comment (RFC 5322 section 3.2.2) as one word; no word for an empty text."""
    if not text:
        return ()
    safe = _safe(text[:MAX_VALUE])
    return (f"({writer}: {safe})" if writer and _TOKEN.fullmatch(writer) else f"({safe})",)


@lru_cache(maxsize=4_096)
def _safe(text: str) -> str:
    return _PRINTABLE.sub("?", text).translate(_IN_COMMENT)


def _pvalue(address: str) -> str:
    """`local@domain` or `@domain` as RFC 8601 section 2.2 allows it; only the domain if the local part
    is not plain ASCII."""
    return _written(address) if len(address) <= MAX_VALUE else _written.__wrapped__(address)


@lru_cache(maxsize=4_096)
def _written(address: str) -> str:
    local, at, domain = address.rpartition("@")
    host = normal(domain)
    if not at or host is None or len(address) > MAX_VALUE:
        return value(host or address)
    if not local or _ADDRESS.fullmatch(local):
        return f"{local}@{host}"
    return f"{quoted(local)}@{host}" if local.isascii() and local.isprintable() else host


def _address(sender: str) -> str:
    return sender if sender.isascii() else sender.rpartition("@")[2]


def _dot_atom(text: str) -> str:
    return _quoted_if_needed(text) if len(text) <= MAX_VALUE else quoted(text)


@lru_cache(maxsize=4_096)
def _quoted_if_needed(text: str) -> str:
    return text if _ADDRESS.fullmatch(text) else quoted(text)


def _fold(words: Iterable[str]) -> str:
    """The words in lines of at most 78 characters, unless a word is longer."""
    text = "\n".join(words)  # no word has a line break
    if len(text) <= _WIDTH:
        return text.replace("\n", " ")
    lines: list[str] = []
    while len(text) > _WIDTH:
        end = text.rfind("\n", 0, _WIDTH + 1)
        if end < 0:
            end = text.find("\n")
            if end < 0:
                break
        lines.append(text[:end])
        text = text[end + 1 :]
    lines.append(text)
    return "\r\n\t".join([line.replace("\n", " ") for line in lines])


def _with_word(folded: str, word: str) -> str:
    """Folded words with another one, as `_fold` puts it."""
    last = len(folded) - folded.rfind("\t") - 1
    return f"{folded} {word}" if last + 1 + len(word) <= _WIDTH else f"{folded}\r\n\t{word}"
