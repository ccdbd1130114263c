"""Changes to a mail that change nothing of what it says."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

_BOUNDARY: Final = re.compile(rb"boundary\s*=\s*[\"']?([^\"'\r\n;()]*[^\"'\r\n;() \t])", re.IGNORECASE)
_CHARSET: Final = re.compile(rb"(charset\s*=\s*[\"']?)([\w.:-]+)", re.IGNORECASE)
_WORD: Final = re.compile(rb"=\?([^?*\s]+)(\*[^?\s]*)?\?([bBqQ])\?")
_NAME: Final = re.compile(
    rb"^(From|To|Cc|Bcc|Subject|Date|Reply-To|Content-[A-Za-z-]+|MIME-Version)(?=:)",
    re.IGNORECASE | re.MULTILINE,
)
_FOLD: Final = re.compile(
    rb"^((?:To|Cc|Content-Type|Content-Disposition):)[ \t]*(?=\S)", re.IGNORECASE | re.MULTILINE
)
_PARAMETER: Final = re.compile(
    rb"^(Content-(?:Type|Disposition):[^\r\n;]*;)[ \t]*(?=\S)", re.IGNORECASE | re.MULTILINE
)


def other_boundaries(mail: bytes) -> bytes:
    """Each boundary gets another text; those that differ in case alone stay so."""
    found = {one.lower() for one in _BOUNDARY.findall(mail)}
    for number, boundary in enumerate(sorted(found, key=len, reverse=True)):
        new = b"--=Next_%d.(%s)+" % (number, boundary[::-1].hex().encode())

        def replaced(match: re.Match[bytes], new: bytes = new) -> bytes:
            return match[1] + (new.upper() if match[2].isupper() and match[2].isalpha() else new)

        text = re.escape(boundary)
        mail = re.sub(
            rb"(boundary\s*=\s*[\"']?)(" + text + rb")(?=[\s\"';(]|\Z)", replaced, mail, flags=re.IGNORECASE
        )
        mail = re.sub(
            rb"(^--)(" + text + rb")(?=(?:--)?[ \t]*\r?$)", replaced, mail, flags=re.MULTILINE | re.IGNORECASE
        )
    return mail


def quoted_boundaries(mail: bytes) -> bytes:
    """`other_boundaries` needs quotes for its signs."""
    declared = re.compile(rb"(boundary\s*=\s*)([^\"'\s;,()]+)", re.IGNORECASE)
    return declared.sub(rb'\1"\2"', mail)


def other_labels(mail: bytes) -> bytes:
    """Names of charsets and encodings in the other case."""
    mail = _CHARSET.sub(lambda found: found[1] + found[2].swapcase(), mail)
    return _WORD.sub(
        lambda found: b"=?" + found[1].swapcase() + (found[2] or b"") + b"?" + found[3].swapcase() + b"?",
        mail,
    )


def other_folding(mail: bytes) -> bytes:
    """Fields folded at other places."""
    return _PARAMETER.sub(rb"\1\r\n\t", _FOLD.sub(rb"\1\r\n ", mail))


def other_names(mail: bytes) -> bytes:
    """Names of fields in the other case."""
    return _NAME.sub(lambda found: found[1].swapcase(), mail)


MUTATIONS: Final[Mapping[str, Callable[[bytes], bytes]]] = {
    "boundaries": lambda mail: other_boundaries(quoted_boundaries(mail)),
    "labels": other_labels,
    "folding": other_folding,
    "names": other_names,
}
