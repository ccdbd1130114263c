"""Templates of file names and object keys (docs/concepts.md).

The operator writes the template; strangers choose most values. Separators of the template stay, but no
value can add one, name a parent folder, hide the file or grow without bound.
"""

from __future__ import annotations

import re
import time
import unicodedata
from collections.abc import Callable
from typing import Final, Literal

from functions.message.charset import decode_words
from functions.message.fields import first_value
from functions.message.mail import Mail
from functions.message.text import CONTROLS

Place = Literal["path", "key"]

MAX_NAME: Final = 200
"""Most bytes of one component of a path: file systems take 255, and a suffix may follow."""

_VALUES: Final = 150  # most bytes of all values of one template
_EXTENSION: Final = 16  # most bytes of an extension that survives shortening

_VARIABLE: Final = re.compile(r"\$\{([^}]*)(\}?)")
_DIRECTIVE: Final = re.compile(r"%(.?)", re.DOTALL)
_DIRECTIVES: Final = frozenset("aAbBdfGHIjmMpSuUVwWyY%")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_@+=,~-][A-Za-z0-9_@+=,~ .-]*(?<![ .])")
_UNSAFE: Final = re.compile(rf"[/\\{CONTROLS}]")  # separators too
_DOTS: Final = re.compile(r"\.{2,}")

_last: tuple[int, str] = (0, "19700101T000000")


def iso8601(ms: int) -> str:
    """A Unix time in milliseconds as `20260102T030405678Z`."""
    global _last  # noqa: PLW0603 - one second's text, replaced as a whole
    second = ms // 1000
    cached = _last
    if cached[0] != second:
        cached = _last = (second, time.strftime("%Y%m%dT%H%M%S", time.gmtime(second)))
    return f"{cached[1]}{ms % 1000:03d}Z"


def safe_value(text: str, limit: int = _VALUES, *, extension: bool = False) -> str:
    """`text` as a piece of a file name or object key: NFC, at most `limit` bytes of UTF-8, `_` for an
    empty text. With `extension` a file extension survives the shortening."""
    if len(text) <= limit and ".." not in text and _PLAIN.fullmatch(text):
        return text
    text = unicodedata.normalize("NFC", text[: 4 * limit] + (text[-_EXTENSION:] if text[4 * limit :] else ""))
    text = _DOTS.sub(".", _UNSAFE.sub("_", text)).lstrip(" .").rstrip(" .")
    return _shorten(text, limit, extension=extension) or "_"


class TemplateValues:
    """The source of the variables' values: a mail, the flow that delivers it, and the name of a stored
    attachment."""

    __slots__ = ("attachment", "flow", "mail")

    def __init__(self, mail: Mail, flow: str, attachment: str | None = None) -> None:
        self.mail = mail
        self.flow = flow
        self.attachment = attachment


def _domain(values: TemplateValues) -> str:
    recipients = values.mail.envelope.recipients_of(values.flow)
    return recipients[0].rpartition("@")[2].lower() if recipients else ""


def _header(values: TemplateValues, name: bytes) -> str:
    value = first_value(values.mail.head, name)
    return "" if value is None else decode_words(value[:2_000])


_VARIABLES: Final[dict[str, Callable[[TemplateValues], str]]] = {
    "iso8601": lambda values: iso8601(values.mail.envelope.received),
    "timestamp": lambda values: str(values.mail.envelope.received),
    "id": lambda values: values.mail.id,
    "session": lambda values: values.mail.envelope.session,
    "from": lambda values: values.mail.envelope.reverse_path,
    "to": lambda values: ",".join(values.mail.envelope.recipients_of(values.flow)),
    "messageId": lambda values: _header(values, b"message-id").strip("<>"),
    "subject": lambda values: _header(values, b"subject"),
    "user": lambda values: values.mail.envelope.user or "",
    "flow": lambda values: values.flow,
    "domain": _domain,
    "attachment": lambda values: values.attachment or "",
}
VARIABLES: Final = frozenset(_VARIABLES) | {"date"}
"""All names that a template may use; `date` takes a format: `${date:%Y/%m/%d}`."""

_OURS: Final = frozenset({"iso8601", "timestamp"})  # only digits, so already safe

_IDS: Final = frozenset({"id", "session"})
_ID: Final = 36  # bytes of a UUID (RFC 9562 section 4), which is never shortened

Piece = str | tuple[Callable[[TemplateValues], str], int, bool]
"""Literal text, or a getter, the most bytes of its value (0: any) and whether it is a file name."""


class Template:
    """A parsed template. `variables` are the names it uses."""

    __slots__ = ("_check", "_pieces", "text", "variables")

    def __init__(self, text: str, pieces: list[Piece], variables: frozenset[str]) -> None:
        self.text = text
        self.variables = variables
        self._pieces = pieces
        fixed = "".join(piece if isinstance(piece, str) else "x" for piece in pieces)
        self._check = bool(variables - _OURS) or _components(fixed) != fixed

    @classmethod
    def parse(cls, text: str) -> Template:
        """Parse a template. Raises ValueError for an unknown variable, naming it and the nearest known
        one, and for an unterminated one."""
        pieces: list[Piece] = []
        names: list[str] = []
        at = 0
        for found in _VARIABLE.finditer(text):
            if not found[2]:
                raise ValueError(f"'{found[0][:40]}' in the template does not end with '}}'")
            if found.start() > at:
                pieces.append(text[at : found.start()])
            at = found.end()
            name, colon, style = found[1].partition(":")
            if name == "date":
                pieces.append((_date(style if colon else "%Y-%m-%d"), 0, False))
            elif colon or name not in _VARIABLES:
                raise ValueError(_unknown(found[1]))
            else:
                limit = 0 if name in _OURS else _ID if name in _IDS else _VALUES
                pieces.append((_VARIABLES[name], limit, name == "attachment"))
            names.append(name)
        if at < len(text):
            pieces.append(text[at:])
        foreign = sum(1 for piece in pieces if not isinstance(piece, str) and piece[1] == _VALUES)
        ids = sum(1 for piece in pieces if not isinstance(piece, str) and piece[1] == _ID)
        share = max(20, (_VALUES - _ID * ids) // foreign) if foreign else 0
        shared: list[Piece] = [
            piece if isinstance(piece, str) or piece[1] != _VALUES else (piece[0], share, piece[2])
            for piece in pieces
        ]
        return cls(text, shared, frozenset(names))

    def render(self, values: TemplateValues, place: Place = "path") -> str:
        """The name for one mail. As a path it is relative, its components are neither empty nor `.` or
        `..`, and each has at most MAX_NAME bytes; as a key empty components stay."""
        text = ""
        for piece in self._pieces:
            if isinstance(piece, str):
                text += piece
                continue
            value = piece[0](values)
            text += safe_value(value, piece[1], extension=piece[2]) if piece[1] else value
        return _components(text, place) if self._check else text


def _components(text: str, place: Place = "path") -> str:
    names = text.split("/")
    if place == "path":
        names = [_shorten(name, MAX_NAME, extension=True) for name in names if name]
    return "/".join("_" if name in (".", "..") else name for name in names)


def _shorten(text: str, limit: int, *, extension: bool) -> str:
    octets = text.encode("utf-8", "replace")
    if len(octets) <= limit:
        return text
    stem, dot, ending = octets.rpartition(b".")
    if not (extension and dot and stem and len(ending) < min(_EXTENSION, limit // 2)):
        stem, ending = octets, b""
    else:
        ending = b"." + ending
    return stem[: limit - len(ending)].decode("utf-8", "ignore").rstrip(" .") + ending.decode()


def _date(style: str) -> Callable[[TemplateValues], str]:
    for found in _DIRECTIVE.finditer(style):
        if found[1] not in _DIRECTIVES or not found[1]:
            raise ValueError(f"'%{found[1]}' in ${{date:{style}}} is not a directive known here")
    if "%" not in style and re.search(r"[A-Za-z]", style):
        raise ValueError(f"${{date:{style}}} has no directive (write one such as ${{date:%Y/%m/%d}})")
    return lambda values: values.mail.envelope.received_at.strftime(style)


def _unknown(name: str) -> str:
    import difflib

    close = difflib.get_close_matches(name.partition(":")[0], VARIABLES, n=1, cutoff=0.5)
    folded = {known.lower(): known for known in VARIABLES}
    near = folded.get(name.lower()) or (close[0] if close else "")
    if near and near == name.partition(":")[0]:
        return f"variable ${{{near}}} takes no format"
    known = ", ".join(sorted(VARIABLES))
    return f"unknown variable ${{{name}}}, " + (
        f"did you mean ${{{near}}}?" if near else f"known are {known}"
    )
