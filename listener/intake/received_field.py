"""The Received trace field (RFC 5321 section 4.4)."""

from __future__ import annotations

import re
import time
from functools import lru_cache
from typing import Final

from functions.message.envelope import Tls

_HOST: Final = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")  # RFC 5321 section 4.5.3.1.2
_NOT_HOST: Final = re.compile(r"[^A-Za-z0-9._:\[\]-]")
# A Path (RFC 5321 section 4.1.2) that cannot end the clause or the line for any reader.
_PATH: Final = re.compile(r"[!-:=?-~ ]{1,254}")
_PATH_UTF8: Final = re.compile("[!-:=?-~ \xa1-\ud7ff\uf900-\U000e0000]{1,254}")  # RFC 6531 section 3.7.3
_TOKEN: Final = re.compile(r"[^A-Za-z0-9._:/+-]")

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_last: tuple[int, str] = (0, "Thu, 01 Jan 1970 00:00:00 +0000")


def mail_date(ms: int) -> str:
    """A Unix time in milliseconds as RFC 5322 section 3.3 date-time, in UTC (+0000)."""
    global _last  # noqa: PLW0603 - one second's text, replaced as a whole
    second = ms // 1000
    cached = _last
    if cached[0] == second:
        return cached[1]
    t = time.gmtime(second)
    text = (
        f"{_DAYS[t.tm_wday]}, {t.tm_mday:02} {_MONTHS[t.tm_mon]} {t.tm_year:04} "
        f"{t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000"
    )
    _last = (second, text)
    return text


def address_literal(ip: str) -> str:
    """`[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 section 4.1.3)."""
    return f"[IPv6:{ip}]" if ":" in ip else f"[{ip}]"


def received_field(
    *,
    helo: str,
    ip: str,
    name: str = "",
    by: str,
    transmission: str,
    mail_id: str,
    received: int,
    tls: Tls | None = None,
    recipient: str | None = None,
) -> bytes:
    """One folded Received field with its CRLF.

    `name` is the client's confirmed reverse name ("" or `[ip]` without one), `by` the relay's host
    name, `received` the Unix time in milliseconds. `recipient` is given only if the mail has
    exactly one (RFC 5321 section 7.2: more would disclose blind copies). Values that a client chose
    are reduced to the grammar, so none can end the field.
    """
    lines = f"{_path(helo, ip, name, by)} with {transmission} id {mail_id}"
    if tls is not None:
        lines += f"\r\n\t(version={_TOKEN.sub('?', tls.version)} cipher={_TOKEN.sub('?', tls.cipher)})"
    if recipient is not None:
        path = _PATH_UTF8 if transmission.startswith("UTF8") else _PATH
        if path.fullmatch(recipient):
            lines += f"\r\n\tfor <{recipient}>"
    return f"{lines};\r\n\t{mail_date(received)}\r\n".encode()


@lru_cache(maxsize=256)  # a client sends many mails
def _path(helo: str, ip: str, name: str, by: str) -> str:
    client = address_literal(ip) if _HOST.fullmatch(ip) else "[0.0.0.0]"
    if name and name[0] != "[":
        client = f"{_host(name)} {client}"
    return f"Received: from {_host(helo)} ({client})\r\n\tby {_host(by)}"


def _host(text: str) -> str:
    if _HOST.fullmatch(text):
        return text
    return _NOT_HOST.sub("?", text[:255]) or "unknown"
