"""Cases about a mail's fields: where they are, addresses, encoded words, dates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tests.support.mails.reading.case import TOP, Case, fields, multi, octets, plain

BOM: Final = b"\xef\xbb\xbf"
CLEO: Final = {"from": [("Cleo", "cleo@sender.example")], "subject": "hello"}

_ADDRESSES: Final[dict[str, dict[str, list[tuple[str, str]]]]] = {
    "comma in a name": {
        "Brown, Lee <lee@a.example>": [("Brown, Lee", "lee@a.example")],
        "x@a.example, Brown, Lee, Dr. <lee@a.example>": [
            ("", "x@a.example"),
            ("Brown, Lee, Dr.", "lee@a.example"),
        ],
        "Tool, Ltd. <t@a.example>, Nut, Inc. <n@a.example>": [
            ("Tool, Ltd.", "t@a.example"),
            ("Nut, Inc.", "n@a.example"),
        ],
        "staff, lee@a.example": [("staff", ""), ("", "lee@a.example")],
    },
    "specials in an encoded word": {
        "=?utf-8?Q?Stra=C3=9Fe,_Ott?= <ott@a.example>": [("Straße, Ott", "ott@a.example")],
        "=?iso-8859-1?q?Caf=E9;_Bar_(caf=E9)?= <cb@a.example>, e@a.example": [
            ("Café; Bar (café)", "cb@a.example"),
            ("", "e@a.example"),
        ],
        "=?utf-8?Q?B=C3=BCro:_<alle>?= <all@a.example>": [("Büro: <alle>", "all@a.example")],
    },
    "without a comma": {
        "e@a.example f@b.example": [("", "e@a.example"), ("", "f@b.example")],
        "Eve <e@a.example> Finn <f@b.example>": [("Eve", "e@a.example"), ("Finn", "f@b.example")],
        "<e@a.example> <f@b.example>": [("", "e@a.example"), ("", "f@b.example")],
    },
    "comments and blanks": {
        "Uma (in \\( town) <uma(desk)@a.example(.)>": [("Uma", "uma@a.example")],
        "uma @ a.example": [("", "uma@a.example")],
        "Uma < uma@a . example >": [("Uma", "uma@a.example")],
        "Crew(all of it): Uma <u@(x)a.example>,\n v@b.example; (no more)": [
            ("Uma", "u@a.example"),
            ("", "v@b.example"),
        ],
        "uma@a.example (Uma Ott)": [("Uma Ott", "uma@a.example")],
    },
    "routes": {
        "Ida <@r.example,@s.example:ida@a.example>": [("Ida", "ida@a.example")],
        "<@r.example:ida@a.example>, j@b.example": [("", "ida@a.example"), ("", "j@b.example")],
        "Team: <@r.example:ida@a.example>;": [("", "ida@a.example")],
    },
}

_SUBJECTS: Final[dict[str, dict[str | bytes, str]]] = {
    "base64 cut between words": {
        "=?utf-8?B?4oKs4?= =?utf-8?B?oKs?=": "€€",
        "=?UTF-8?b?0J/RgNC?=\n =?utf-8?B?40LLQtd?=\n =?utf-8?B?GC?= !": "Привет !",
        "=?utf-8?B?0J8=?=\n =?utf-8?B?0YA=?=": "Пр",
        "=?utf-8?B?SGVsbG8?= =?utf-8?B?V29ybGQ?=": "HelloWorld",  # padding is missing, nothing is cut
    },
    "base64 padded inside": {
        "=?utf-8?B?b25lIA==dHdv?=": "one two",
        "=?utf-8?B?4oKsIA==4oKs?= x": "€ € x",
        "Re: =?iso-8859-1?B?6Q==6Q==?=": "Re: éé",
    },
    "words side by side": {
        "=?utf-8?Q?=E2=82?= =?utf-8?Q?=AC?=": "€",
        "a=?utf-8?Q?=C3=A9?=b": "aéb",
        "=?utf-8?Q?=E2=82?=\n\t=?utf-8?B?rA==?=": "€",
        "=?utf-8?Q?x?= =?iso-8859-1?Q?=E9?=": "xé",
    },
    "raw bytes": {
        "naïve €": "naïve €",
        b"na\xefve \x80": "naïve €",
        b"\x1b$B4A;z\x1b(B ok": "漢字 ok",
    },
    "ascii that is none": {
        "=?us-ascii?Q?na=EFve_=80?=": "naïve €",
        "=?ascii?Q?na=C3=AFve?=": "naïve",
        "=?ansi_x3.4-1968?B?74DA?=": "ï€À",
    },
}

_DATES: Final[dict[str, dict[str, str]]] = {
    "usual": {
        "Mon, 1 Jun 2026 09:30:00 +0200": "2026-06-01T07:30:00.000Z",
        "1 Jun 26 09:30 -0000": "2026-06-01T09:30:00.000Z",
        "Mon Jun  1 09:30:00 2026": "2026-06-01T09:30:00.000Z",
    },
    "comments and blanks": {
        "Mon (day), 1 Jun 2026 (year) 09 (hour) : 30 : 00 +0200 (here)": "2026-06-01T07:30:00.000Z",
        "Mon,1 Jun 2026 09:30:00+0200": "2026-06-01T07:30:00.000Z",
        "Mon, 1 Jun 2026 09:30:00 (EDT)": "2026-06-01T13:30:00.000Z",
    },
    "offsets": {
        "Mon, 1 Jun 2026 09:30:00 +02:00": "2026-06-01T07:30:00.000Z",
        "Mon, 1 Jun 2026 09:30:00 UTC-03:30": "2026-06-01T13:00:00.000Z",
        "Mon Jun 01 2026 09:30:00 GMT+0200 (CEST)": "2026-06-01T07:30:00.000Z",
        "Mon, 1 Jun 2026 09:30:00 GMT-5": "2026-06-01T14:30:00.000Z",
    },
    "names of zones": {
        "Mon, 1 Jun 2026 09:30:00 MESZ": "2026-06-01T07:30:00.000Z",
        "Mon, 1 Jun 2026 09:30:00 jst": "2026-06-01T00:30:00.000Z",
        "Mon, 1 Jun 2026 09:30:00 PST": "2026-06-01T17:30:00.000Z",
        "Mon Jun  1 09:30:00 AEST 2026": "2026-05-31T23:30:00.000Z",
        "Mon, 1 Jun 2026 09:30:00 IST": "2026-06-01T04:00:00.000Z",
    },
    "ISO 8601": {
        "2026-06-01T09:30:00Z": "2026-06-01T09:30:00.000Z",
        "2026-06-01T09:30:00.250+02:00": "2026-06-01T07:30:00.250Z",
        "2026-06-01 09:30 CEST": "2026-06-01T07:30:00.000Z",
        "2026/06/01 09:30:00 +0900": "2026-06-01T00:30:00.000Z",
    },
    "ends of days and minutes": {
        "Sun, 31 May 2026 24:00:00 +0000": "2026-06-01T00:00:00.000Z",
        "2025-12-31T24:00:00-01:00": "2026-01-01T01:00:00.000Z",
        "Sat, 31 Dec 2016 23:59:60 +0000": "2017-01-01T00:00:00.000Z",
    },
    "other languages": {
        "Mo., 1. Juni 2026 09:30:00 +0200": "2026-06-01T07:30:00.000Z",
        "mar., 3 mars 2026 09:30:00 +0100": "2026-03-03T08:30:00.000Z",
        "do, 1 okt. 2026 09:30:00 +0200": "2026-10-01T07:30:00.000Z",
    },
}


def header_cases() -> Iterator[Case]:
    for kind, values in _ADDRESSES.items():
        for value, boxes in values.items():
            yield Case(f"addresses: {kind}", value, fields(to=value, subject="x"), {"to": boxes})
            yield Case(f"addresses: {kind}", value + " (From)", fields(**{"from": value}), {"from": boxes})
    for subjects, lines in _SUBJECTS.items():
        for written, subject in lines.items():
            mail = fields(subject=written)
            yield Case(f"words: {subjects}", str(written), mail, {"subject": subject})
    for dates, written_dates in _DATES.items():
        for value, date in written_dates.items():
            yield Case(f"dates: {dates}", value, fields(date=value), {"date": date})
    for kind, name, mail, expected in _blocks():
        yield Case(kind, name, octets(mail), expected)


def _blocks() -> Iterator[tuple[str, str, bytes, dict[str, Any]]]:
    to = [("", "dan@taker.example")]
    whole = {**CLEO, "to": to, "text": "body"}
    top = TOP.replace(b"\r\n", b"\n")
    kind = "mailbox line"
    for line in ("From cleo@sender.example Mon Jun  1 09:30:00 2026", ">From - Mon Jun 01 09:30:00 2026"):
        yield kind, line, line.encode() + b"\n" + top + b"\nbody\n", whole
        rest = multi("mixed", plain("body")).replace(b"\r\n", b"\n")
        yield kind, line + " with parts", line.encode() + b"\n" + top + rest, whole
    kind = "byte order mark"
    yield kind, "before the first field", BOM + top + b"\nbody\n", whole
    yield kind, "before another field", b"Received: by b.example; now\n" + BOM + top + b"\nbody\n", whole
    yield kind, "and a mailbox line", BOM + b"From c Mon Jun  1 2026\n" + top + b"\nbody\n", whole
    yield kind, "before the text", top + b"Content-Type: text/plain\n\n" + BOM + b"body\n", whole
    kind = "no empty line"
    yield kind, "text", top + b"one\ntwo\n\nthree\n", {**CLEO, "text": "one\ntwo\n\nthree"}
    yield kind, "a line of blanks", top + b" \t\none\n\ntwo\n", {**CLEO, "text": "one\n\ntwo"}
    yield kind, "one line in the fields", top[:-15] + b"no field at all\n" + top[-15:] + b"\nbody\n", whole
    yield kind, "and its folded rest", top[:-15] + b"no field\n at all\n" + top[-15:] + b"\nbody\n", whole
    yield (
        kind,
        "two lines",
        top + b"one\ntwo\nthree: four\n\nfive\n",
        {"text": "one\ntwo\nthree: four\n\nfive"},
    )
    below = b"--=_part\nContent-Type: text/html\n\n<i>body</i>\n--=_part--\n"
    head = b'Content-Type: multipart/mixed; boundary="=_part"\n'
    yield kind, "a delimiter line", top + head + below, {**whole, "html": "<i>body</i>"}
    first = b"\n--=_part\nContent-Type: text/plain\nbody\n"
    inside = first + b"--=_part\nContent-Type: a/b; name=c.d\n\nx\n--=_part--\n"
    yield kind, "in a part", top + head + inside, {**whole, "attachments": [("c.d", 1)]}
    kind = "repeated fields"
    for name in ("to", "cc", "bcc"):
        title = name.title().encode()
        mail = b"%b:\n%b: Al <a@a.example>\nSubject: x\n%b: b@a.example, c@a.example\n\ny\n"
        boxes = [("Al", "a@a.example"), ("", "b@a.example"), ("", "c@a.example")]
        yield kind, name, mail % (title, title, title.upper()), {name: boxes}
    replies = b"Reply-To: Al <a@a.example>\nReply-To: b@a.example\n\ny\n"
    yield kind, "reply-to", replies, {"replyTo": '"Al" <a@a.example>, b@a.example'}
    groups = b"To: nobody:;\nCc: none: (not one);\nTo: a@a.example\n\ny\n"
    yield kind, "empty groups", groups, {"to": [("", "a@a.example")], "cc": []}
