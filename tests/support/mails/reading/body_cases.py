"""Cases about a mail's parts: structure, transfer encodings, charsets, texts, file names."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Any, Final

from tests.support.mails.reading.case import MIME, Case, markup, multi, named, part, plain

_PNG: Final = part("image/png; name=i.png", b"PNG", "Content-ID: <i@x>")
_PDF: Final = part("application/pdf", b"PDF", "Content-Disposition: attachment; filename=a.pdf")
Rows = Iterator[tuple[str, str, bytes, dict[str, Any]]]


def body_cases() -> Iterator[Case]:
    for rows in (_types, _bodies, _boundaries, _special_parts, _transfer, _charsets, _flowed, _names, _html):
        for kind, name, mail, expected in rows():
            yield Case(kind, name, MIME + mail, expected)


def _types() -> Rows:
    kind = "content type written badly"
    word = "weiß €"
    for value in (
        "text/html charset=utf-8",
        "text/html, charset=utf-8",
        '"text/html"; charset="utf-8"',
        '"text/html; charset=utf-8"',
        "text/html ;; Charset = UTF-8 ;",
        "text/html (really); charset=utf-8 (yes)",
        "text / html; charset=utf-8",
        'TEXT/HTML;CHARSET="utf-8',
    ):
        found = {"html": f"<b>{word}</b>", "text": word, "attachments": []}
        yield kind, value, part(value, f"<b>{word}</b>\n"), found
    for value in ("text/plain, charset=koi8-r", "text/plain charset=koi8-r format=fixed", "plain"):
        label = "koi8-r" if "koi8" in value else "utf-8"
        yield kind, value, part(value, "привет".encode(label)), {"text": "привет", "attachments": []}
    mixed = multi("mixed", plain("x"), _PDF)
    for value in ('multipart/mixed boundary="=_part"', 'multipart/mixed, boundary="=_part"'):
        body = mixed.partition(b"\r\n\r\n")[2]
        yield kind, value, part(value, body), {"text": "x", "attachments": [("a.pdf", 3)]}


def _bodies() -> Rows:
    kind = "texts with names"
    inline = "Content-Disposition: inline; filename=page.html"
    yield kind, "one HTML", part("text/html; name=page.html", "<p>x</p>"), {"html": "<p>x</p>", "text": "x"}
    yield kind, "one inline", markup("<p>x</p>", inline), {"html": "<p>x</p>", "text": "x"}
    both = multi(
        "alternative", plain("a", "Content-Disposition: inline; filename=a.txt"), markup("<p>b</p>", inline)
    )
    yield kind, "alternatives", both, {"text": "a", "html": "<p>b</p>", "attachments": []}
    note = part("text/plain; name=note.txt", "note", "Content-Disposition: inline; filename=note.txt")
    yield kind, "behind a text", multi("mixed", plain("a"), note), {"text": "a\nnote"}
    away = plain("log", "Content-Disposition: attachment; filename=log.txt")
    yield kind, "attached", multi("mixed", plain("a"), away), {"text": "a", "attachments": [("log.txt", 3)]}
    kind = "several bodies"
    footer = plain("-- \nfoot <&")
    two = "<p>a</p>\n<p>-- <br>\nfoot &lt;&amp;</p>"
    yield (
        kind,
        "HTML and footer",
        multi("mixed", markup("<p>a</p>"), footer),
        {"text": "a\n-- \nfoot <&", "html": two},
    )
    banner = multi("mixed", plain("[new]"), markup("<p>a</p>"))
    yield kind, "banner and HTML", banner, {"text": "[new]\na", "html": "<p>[new]</p>\n<p>a</p>"}
    inner = multi("alternative", plain("a"), markup("<p>a</p>"), boundary="in")
    list_mail = multi("mixed", inner, _PDF, plain("foot"))
    yield kind, "alternative and footer", list_mail, {"text": "a\nfoot", "html": "<p>a</p>\n<p>foot</p>"}
    related = multi("related", markup("<p>a</p>"), _PNG, boundary="in")
    yield (
        kind,
        "related and footer",
        multi("mixed", related, plain("z")),
        {"text": "a\nz", "attachments": [("i.png", 3)]},
    )
    pages = multi("mixed", markup("<p>a</p>"), _PDF, markup("<p>b</p>"))
    yield kind, "two pages", pages, {"text": "a\nb", "html": "<p>a</p>\n<p>b</p>"}
    deep = multi(
        "alternative", plain("a"), multi("mixed", markup("<p>a</p>"), _PDF, markup("<p>b</p>"), boundary="in")
    )
    yield kind, "pages of an alternative", deep, {"text": "a", "html": "<p>a</p>\n<p>b</p>"}


def _boundaries() -> Rows:
    kind = "boundaries"
    found = {"text": "x", "attachments": [("a.pdf", 3)]}
    usual = multi("mixed", plain("x"), _PDF, boundary="cut")
    head, _, body = usual.partition(b"\r\n\r\n")
    for value in ('"cut "', "cut (here)", "'cut'", '"CUT"', '"cut\t"'):
        yield kind, value, head.replace(b'"cut"', value.encode()) + b"\r\n\r\n" + body, found
    yield kind, "blanks behind lines", usual.replace(b"--cut\r\n", b"--cut \t\r\n"), found
    yield kind, "not declared", head.replace(b'; boundary="cut"', b"") + b"\r\n\r\n" + body, found
    inner = multi("alternative", plain("x"), markup("<i>x</i>"), boundary="cut")
    yield kind, "the same inside", multi("mixed", inner, _PDF, boundary="cut"), {**found, "html": "<i>x</i>"}
    open_end = multi("alternative", plain("x"), boundary="in").replace(b"--in--\r\n", b"")
    yield kind, "inner end missing", multi("mixed", open_end, _PDF), found
    longer = multi("alternative", plain("x"), boundary="cutting")
    yield kind, "one the start of another", multi("mixed", longer, _PDF, boundary="cut"), found
    again = multi("related", markup("<i>x</i>"), boundary="cut")
    nested = multi("mixed", multi("alternative", plain("x"), again, boundary="in"), _PDF, boundary="cut")
    yield kind, "the outer one two levels deeper", nested, {**found, "html": "<i>x</i>"}


def _special_parts() -> Rows:
    kind = "parts without names"
    report = multi(
        "report",
        plain("not delivered"),
        part("message/delivery-status", "Reporting-MTA: dns; mx.example"),
        part("message/rfc822", "Subject: lost\n\nlost"),
    )
    yield kind, "a report", report, {"attachments": [("attachment-1.txt", 30), ("attachment-2.eml", 21)]}
    smime = "application/pkcs7-mime; smime-type={}"
    for media, name in (
        (smime.format("enveloped-data"), "attachment-1.p7m"),
        (smime.format("certs-only"), "attachment-1.p7c"),
        ("application/pkcs7-signature", "attachment-1.p7s"),
        ("application/pgp-signature", "attachment-1.asc"),
        ("text/calendar; method=REQUEST", "attachment-1.ics"),
        ("image/jpeg", "attachment-1.jpg"),
        ("image/x-odd", "attachment-1.odd"),
        ("application/octet-stream", "attachment-1.bin"),
    ):
        yield kind, media, multi("mixed", plain("x"), part(media, b"12345")), {"attachments": [(name, 5)]}


def _transfer() -> Rows:
    def sent(encoding: str, data: str | bytes) -> bytes:
        return plain(data, f"Content-Transfer-Encoding: {encoding}")

    kind = "quoted-printable"
    for body, text in (
        ("so=\nft", "soft"),
        ("so= \t\nft  \nend\t\n", "soft\nend"),
        ("keep=20\n=09\n.", "keep \n\t\n."),
        ("a==42 = c=ZZ", "a=B = c=ZZ"),
        ("=e2=82=\n=AC", "€"),
        ("a=0D=0A\nb", "a\n\nb"),
    ):
        yield kind, repr(body), sent("quoted-printable", body), {"text": text}
    kind = "base64"
    for body, text in (
        ("b25lIA==\ndHdv\n", "one two"),
        ("b25l\nIHR3bw==", "one two"),
        ("b25lIHR3bw", "one two"),
        ("b25l====IHR3bw", "one two"),
        ("YQ==YgoK\nYw=\nZA==", "ab\n\ncd"),
        ("b2! 5l\n\n I H R 3\tbw==", "one two"),
    ):
        yield kind, repr(body), sent("base64", body), {"text": text}
    pieces = part(
        "a/b; name=p.bin",
        base64.b64encode(b"1234") + b"\n" + base64.b64encode(b"56"),
        "Content-Transfer-Encoding: base64",
    )
    yield kind, "an attachment in pieces", multi("mixed", plain("x"), pieces), {"attachments": [("p.bin", 6)]}
    kind = "names of encodings"
    for name in (
        "base64 (the usual)",
        "base64;",
        '"base64"',
        "BASE64\t",
        "(what?) base64",
        "base64; charset=utf-8",
    ):
        yield kind, name, sent(name, "4oKs"), {"text": "€"}
    for name in ("quoted-printable (q)", "'quoted-printable'", "Quoted-Printable ;"):
        yield kind, name, sent(name, "=E2=82=AC"), {"text": "€"}
    kind = "uuencode"
    lines = [binascii.b2a_uu(bytes(range(at, at + 45)), backtick=True) for at in range(0, 180, 45)]
    encoded = b"begin 644 data.bin\n" + b"".join(lines) + b"`\nend\n"
    for name in ("x-uuencode", "uuencode", "X-UUE"):
        coded = part("a/b; name=u.bin", encoded, f"Content-Transfer-Encoding: {name}")
        yield kind, name, coded, {"attachments": [("u.bin", 180)]}


_WORDS: Final[dict[str, dict[str, str]]] = {
    "cp1251": {"win-1251": "дом", "x-cp1251": "дом", "CP-1251": "дом", "windows1251": "дом"},
    "iso8859_2": {"l2": "łan", "csISOLatin2": "łan", "ISO_8859-2:1987": "łan", "iso88592": "łan"},
    "cp850": {"cp-850": "même", "IBM850": "même", "dos-850": "même"},
    "cp866": {"866": "дом", "csIBM866": "дом"},
    "koi8_u": {"koi8-ru": "їжак", "KOI8-U": "їжак"},
    "mac_cyrillic": {"x-mac-cyrillic": "дом", "x-mac-ukrainian": "дом"},
    "cp874": {"tis-620": "“ไทย”", "dos-874": "ไทย"},
    "cp932": {"x-sjis": "①髙ｱ", "Windows-31J": "㈱", "ms_kanji": "ｱｲ", "csWindows31J": "①"},
    "cp949": {"ks_c_5601-1987": "똠방", "x-windows-949": "똠", "euc-kr": "한똠", "uhc": "펲"},
    "gb18030": {"gb2312": "朱镕基", "x-gbk": "镕", "cp936": "中文", "gb_2312-80": "中"},
    "big5hkscs": {"big5": "係嘅", "x-x-big5": "中文", "big5-hkscs": "嘅", "cn-big5": "謝"},
    "utf_16_le": {"utf-16le": "né", "unicode": "né", "ucs-2": "né"},
    "utf_8": {"x-unicode20utf8": "né", "utf8mb4": "né", "cp65001": "né"},
    "utf_7": {"utf-7": "né", "unicode-1-1-utf-7": "né"},
}


def _charsets() -> Rows:
    def coded(label: str, data: bytes) -> bytes:
        return part(
            f"text/plain; charset={label}", base64.encodebytes(data), "Content-Transfer-Encoding: base64"
        )

    for codec, labels in _WORDS.items():
        for label, text in labels.items():
            yield "names of charsets", label, coded(label, text.encode(codec)), {"text": text}
    kind = "characters of vendors"
    for label, data, text in (
        ("iso-2022-jp", b"\x1b$B-!4A\x1b(B.", "①漢."),
        ("ISO-2022-JP-MS", b"\x1b(I1\x1b$B-j\x1b(J!", "ｱ㈱!"),
        ("cp50221", b"\x1b$@F|\x1b(B\r\nline", "日\nline"),
        ("euc-jp", b"\xad\xb5\xc6\xfc\x8e\xb1", "Ⅰ日ｱ"),
        ("eucJP-ms", b"\xad\xea\x8f\xb0\xa1", "㈱丂"),
        ("big5", b"\xa3\xe1 \x9d\xef", "€ 嘅"),
        ("gbk", b"\x80 \xd6\xd0", "€ 中"),
        ("iso-8859-1", b"\x93na\xefve\x94 \x80", "“naïve” €"),
        ("iso-8859-9", b"\x80 \xfe\xfd", "€ şı"),
    ):
        yield kind, f"{label} {text}", coded(label, data), {"text": text}
    kind = "charsets that are not named"
    for order in ("utf-16-le", "utf-16-be"):
        marked = base64.b64encode("\ufeffhé".encode(order))
        mail = part("text/plain", marked, "Content-Transfer-Encoding: base64")
        yield kind, f"mark of {order}", mail, {"text": "hé"}
    for name, head, data, text in (
        ("none, UTF-8", "text/plain", "naïve 日".encode(), "naïve 日"),
        ("none, Windows", "text/plain", b"na\xefve \x80", "naïve €"),
        ("US-ASCII, UTF-8", "text/plain; charset=us-ascii", "naïve".encode(), "naïve"),
        ("US-ASCII, Windows", "text/plain; charset=US-ASCII", b"na\xefve", "naïve"),
        ("unknown", "text/plain; charset=x-odd-7", b"na\xefve", "naïve"),
        ("unknown-8bit", "text/plain; charset=unknown-8bit", "naïve".encode(), "naïve"),
        ("JIS", "text/plain", b"a \x1b$B4A;z\x1b(B", "a 漢字"),
        ("JIS in HTML", "text/html", b"<p>\x1b$B4A;z\x1b(B</p>", "漢字"),
        ("meta", "text/html", b"<meta charset=koi8-r><p>\xc4\xcf\xcd", "дом"),
        (
            "meta of HTTP",
            "text/html",
            b"<META http-equiv=Content-Type content=\"text/html; charset='iso-8859-2'\">\xb3an",
            "łan",
        ),
        (
            "meta in a comment",
            "text/html",
            b"<!-- <meta charset=koi8-r> --><meta charset=iso-8859-2>\xb3an",
            "łan",
        ),
        ("meta of UTF-16", "text/html", "<meta charset=utf-16>né".encode(), "né"),
        (
            "meta against the label",
            "text/html; charset=koi8-r",
            b"<meta charset=iso-8859-2>\xc4\xcf\xcd",
            "дом",
        ),
    ):
        yield kind, name, part(head, data), {"text": text}


def _flowed() -> Rows:
    kind = "flowed"
    for name, more, body, text in (
        ("paragraphs", "", "one \ntwo \nthree\n\nfour\n", "one two three\n\nfour"),
        ("quotes", "", "> one \n> two\n>> in \n>> it\nout\n", "> one two\n>> in it\nout"),
        ("a change of depth", "", "> one \nnot quoted\n", "> one \nnot quoted"),
        ("stuffing", "", " From here\n > no quote\n  two\n", "From here\n> no quote\n two"),
        ("a signature", "", "bye \n-- \nCleo \nof it\n", "bye \n-- \nCleo of it"),
        ("delsp", "; delsp=yes", "https://a.example/lo \nng \n/path\n", "https://a.example/long/path"),
        ("delsp in quotes", "; DelSp=Yes", "> 漢 \n> 字\n", "> 漢字"),
    ):
        yield kind, name, part(f"text/plain; charset=utf-8; Format=Flowed{more}", body), {"text": text}
    yield kind, "fixed", part("text/plain; format=fixed", "one \ntwo\n"), {"text": "one \ntwo"}


def _names() -> Rows:
    def row(disposition: str, name: str) -> tuple[str, str, bytes, dict[str, Any]]:
        mail = named(f"Content-Disposition: attachment;{disposition}").removeprefix(MIME)
        return "file names", disposition, mail, {"attachments": [(name, 5)]}

    yield row(' filename="=?utf-8?Q?Men=C3=BC.pdf?="', "Menü.pdf")
    yield row(' filename="=?utf-8?Q?Men?=\n =?utf-8?B?w7wucGRm?="', "Menü.pdf")
    yield row(' filename*0="=?utf-8?Q?Men=C3";\n filename*1="=BC?=.pdf"', "Menü.pdf")
    yield row(' filename*="=?utf-8?B?TWVuw7wucGRm?="', "Menü.pdf")
    yield row(' filename*0="=?utf-8?Q?Men?=";\n filename*1="=?utf-8?Q?=C3=BC?=.pdf"', "Menü.pdf")
    yield row(" filename*=iso-8859-1'de'Men%FC.pdf", "Menü.pdf")
    yield row(" filename*0*=utf-8''Men%C3;\n filename*1*=%BC;\n filename*2=\".pdf\"", "Menü.pdf")
    yield row(" filename*=utf-8''=?utf-8?Q?Men=C3=BC?=.pdf", "=?utf-8?Q?Men=C3=BC?=.pdf")
    yield row(" filename=my menu.pdf; size=5", "my menu.pdf")
    yield row(" filename=\"plain.pdf\"; filename*=utf-8''Men%C3%BC.pdf", "Menü.pdf")
    yield row(' filename="Menü.pdf"', "Menü.pdf")


def _html() -> Rows:
    link = "https://a.example/?x=1&y=2"
    for kind, source, text in (
        ("head not closed", "<head><meta charset=utf-8><head><body><p>seen</p>", "seen"),
        ("head not closed", "<HEAD/><BODY>seen<BR/>too</BODY>", "seen\ntoo"),
        ("head not closed", "<html><head><div>seen</div>", "seen"),
        ("head not closed", "<title/><p>seen</p>", "seen"),
        ("head not closed", "<head><title>gone<body><p>seen</p>", "seen"),
        ("head not closed", "<head><title>gone</head><p>seen</p>", "seen"),
        ("head not closed", "<style>p{}<body>seen", "seen"),
        ("hidden", "<title>no</title><style>a{}</style>seen<script>if(1<2)x('<p>no</p>')</script>", "seen"),
        ("links", f'<a href="{link.replace("&", "&amp;")}">go</a>, then', f"go [{link}], then"),
        ("links", f"<A class=b HREF={link}>go</A>", f"go [{link}]"),
        ("links", f"<a href='{link}'>{link.replace('&', '&amp;')}</a>", link),
        (
            "links",
            "<a href='mailto:e@a.example'>e@a.example</a> <a href='mailto:e@a.example'>me</a>",
            "e@a.example me [e@a.example]",
        ),
        (
            "links",
            "<a href='#here'>here</a> <a name=there>there</a> <a href='javascript:x()'>run</a>",
            "here there run",
        ),
        (
            "links",
            "<a href='https://a.example/1'><img src=x alt='Our logo'></a>",
            "Our logo [https://a.example/1]",
        ),
        (
            "links",
            "<a href='https://a.example/1'>a<a href='https://a.example/2'>b",
            "a [https://a.example/1]b [https://a.example/2]",
        ),
        (
            "images",
            "<p>top</p><img alt=\"A &quot;b&quot;\" src='x'><img src=y alt=''><p>end</p>",
            'top\n\nA "b"\n\nend',
        ),
        ("lines", "<div>a</div><div>b<br>c</div><p>d</p><ul><li>e<li>f</ul>g", "a\nb\nc\n\nd\n\ne\nf\ng"),
        ("lines", "<pre>\nfor x:\n    go()\n\nend</pre>z", "for x:\n    go()\n\nend\nz"),
        ("lines", "a<br><br>b &nbsp; c &lt;d&gt;", "a\n\nb   c <d>"),
        ("lines", "<table><tr><td>1</td><td>2</td></tr><tr><td>3</table>", "1 2\n3"),
    ):
        yield f"HTML: {kind}", source, markup(source), {"text": text, "html": source}
