"""Reads the arguments of MAIL and RCPT (RFC 5321 sections 4.1.1.2, 4.1.1.3 and 4.1.2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from listener.api.decision import Reply
from listener.smtp.replies import BAD_MAIL, BAD_RCPT, BAD_RECIPIENT, BAD_SENDER

MAX_PATH: Final = 512
"""RFC 5321 section 4.5.3.1.3 says 256 bytes; internationalised addresses (RFC 6531) run longer."""

MAX_DOMAIN: Final = 255  # RFC 5321 section 4.5.3.1.2

_CONTROL: Final = r"\x00-\x1f\x7f-\x9f"

# A source route is read and dropped (RFC 5321 appendix C). Unquoted local parts are lenient, as in
# Postfix: only characters that could break a header, a log line or a next hop are refused.
_PATH: Final = re.compile(
    rf"""\s*
    (?: < (?:@[^\s,:<>"{_CONTROL}]+(?:,@[^\s,:<>"{_CONTROL}]+)*:)?
          (?P<path> (?: "(?:[^"\\{_CONTROL}]|\\[\x20-\x7e])*" | [^\s<>"@,;:\\()\[\]{_CONTROL}]+ )
                    (?: @ (?: \[[0-9A-Za-z:.\-]+\] | [^\s<>"@,;:\\()\[\]{_CONTROL}]+ ) )? )?
        >
      | (?P<bare> [^\s<>"@,;:\\()\[\]{_CONTROL}]+ (?: @ [^\s<>"@,;:\\()\[\]{_CONTROL}]+ )? )
    )
    (?: [ \t]+ (?P<parameters> \S.* ) )? \Z""",
    re.VERBOSE,
)

_SIMPLE: Final = re.compile(r"<([A-Za-z0-9!#$%&'*+/=?^_`{|}~.\-]{1,64}@[A-Za-z0-9.\-]{1,255})>\Z")

# RFC 5321 section 4.1.2: esmtp-keyword ["=" esmtp-value]
_PARAMETER: Final = re.compile(r"([A-Za-z0-9][A-Za-z0-9\-]*)(?:=([^\x00-\x20=\x7f]+))?\Z")


class Path(NamedTuple):
    """A parsed path: the address ("" for `<>`) and the parameters, keyword upper-cased."""

    address: str
    parameters: tuple[tuple[str, str | None], ...]


class BadPath(ValueError):
    """The argument is not a path (`parameter` is "") or has a malformed parameter."""

    def __init__(self, parameter: str = "") -> None:
        super().__init__(parameter)
        self.parameter = parameter


def path_after(keyword: str, argument: str) -> str | None:
    """The text after the keyword FROM or TO and its colon; None without them. Blanks and tabs may stand
    around both, as devices send them, against RFC 5321 section 3.3."""
    word, colon, path = argument.partition(":")
    if not colon or (word != keyword and word.strip(" \t").upper() != keyword):
        return None
    return path


def read_path(keyword: str, argument: str) -> Path | None:
    """The path and the parameters of a command's argument, after FROM or TO and its colon; None without
    them. Raises BadPath."""
    path = path_after(keyword, argument)
    return None if path is None else parse_path(path)


def read_sender(argument: str) -> Path | Reply:
    """MAIL's argument, or the reply to a bad one."""
    try:
        path = read_path("FROM", argument)
    except BadPath as bad:
        return BAD_MAIL if bad.parameter else BAD_SENDER
    return BAD_MAIL if path is None else path


def read_recipient(argument: str) -> Path | Reply:
    """RCPT's argument, or the reply to a bad one."""
    try:
        path = read_path("TO", argument)
    except BadPath as bad:
        return BAD_RCPT if bad.parameter else BAD_RECIPIENT
    if path is None:
        return BAD_RCPT
    return path if path.address else BAD_RECIPIENT


ArgumentReader = Callable[[str], object]
"""Reads the argument of a command; the outcome depends on nothing else."""

READERS: Final[Mapping[str, ArgumentReader]] = {"MAIL": read_sender, "RCPT": read_recipient, "DATA": str}
"""The commands of each mail, whose arguments are read once."""


def parse_path(argument: str) -> Path:
    """Read the text after `FROM:` or `TO:`. Raises BadPath.

    Angle brackets may be missing, as most servers allow. The path has at most MAX_PATH bytes.
    """
    if match := _SIMPLE.match(argument):
        return Path(match[1], ())
    # Blanks at the end are removed first. An expression that looks for them itself starts again
    # from each blank between parameters, and 4,000 blanks of a client then cost 60 ms.
    found = _PATH.match(argument.rstrip(" \t"))
    if found is None:
        raise BadPath
    address = found["path"] if found["bare"] is None else found["bare"]
    address = address or ""
    if len(address.encode("utf-8", "surrogateescape")) > MAX_PATH:
        raise BadPath
    if len(address.rpartition("@")[2]) > MAX_DOMAIN:
        raise BadPath
    words = found["parameters"]
    if not words:
        return Path(address, ())
    return Path(address, tuple(_parameter(word) for word in words.split()))


def _parameter(word: str) -> tuple[str, str | None]:
    match = _PARAMETER.match(word)
    if match is None:
        raise BadPath(word)
    return match[1].upper(), match[2]


# -- xtext (RFC 3461 section 4): printable ASCII, with `+` and two hexadecimal digits for the rest

_XTEXT: Final = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-Fa-f]{2})*")
_HEX: Final = re.compile(r"\+([0-9A-Fa-f]{2})")


def decode_xtext(text: str) -> str:
    """The text behind the xtext, read as UTF-8. Raises ValueError if it is not xtext."""
    if not _XTEXT.fullmatch(text):
        raise ValueError("not xtext")
    if "+" not in text:
        return text
    return _HEX.sub(lambda found: chr(int(found[1], 16)), text).encode("latin-1").decode("utf-8")


def printable(text: str) -> bool:
    """True if the xtext stands for printable ASCII and blanks only (RFC 3461 section 4.4)."""
    try:
        decoded = decode_xtext(text)
    except ValueError:
        return False
    return all(" " <= one <= "~" for one in decoded)
