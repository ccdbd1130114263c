"""One mail as Mailpit's API shows it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from functions.local.view.folders import Folder
from listener.config.inbox_folders import InboxFolder
from listener.inbox.index import Index
from listener.inbox.keeper import Keeper
from listener.inbox.mailbox import Mailbox, Row, go_time
from listener.inbox.message import ShownMail, headers_of, list_unsubscribe
from tests.support.inbox.mails import MOMENT, block, mail, store

NOBODY = {"Name": "", "Address": ""}


def row_of(tmp_path: Path, content: bytes, top: bytes | None = None) -> Row:
    store(tmp_path / "mails", "a.eml", content, top)
    index = Index(tmp_path / "index")
    place = InboxFolder("f", Folder(tmp_path / "mails", trusted=True))
    keeper = Keeper(index, [place], lambda *_: None, by_user=False)
    keeper.catch_up()
    keeper.stop()
    (row,) = Mailbox(index, None).rows()
    index.close()
    return row


def shown(tmp_path: Path, content: bytes, top: bytes | None = None) -> dict[str, Any]:
    found = ShownMail(row_of(tmp_path, content, top)).as_json([])
    del found["ID"], found["Size"]
    return found


PLAIN = {
    "MessageID": "",
    "From": {"Name": "", "Address": ""},
    "To": [],
    "Cc": [],
    "Bcc": [{"Name": "", "Address": "bob@h.example"}],
    "ReplyTo": [],
    "ReturnPath": "env@h.example",
    "Subject": "",
    "ListUnsubscribe": {"Header": "", "Links": [], "Errors": "", "HeaderPost": ""},
    "Date": "2026-01-01T00:00:00Z",
    "Tags": [],
    "Username": "",
    "Text": "",
    "HTML": "",
    "Inline": [],
    "Attachments": [],
}

CHECKSUMS = {
    "MD5": "9dd4e461268c8034f5c8564e155c67a6",
    "SHA1": "11f6ad8ec52a2984abaafd7c3b516503785c2072",
    "SHA256": "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
}
"""Of the byte `x`."""


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"Subject: Hi\r\n\r\nyou\r\n", {"Subject": "Hi", "Text": "you\n"}, id="text"),
        pytest.param(
            b'From: =?utf-8?q?J=C3=BCrgen?= <j@h.example>\r\nTo: a@h.example, "B, C" <b@h.example>\r\n'
            b"Cc: c@h.example\r\nBcc: d@h.example\r\nReply-To: e@h.example\r\n\r\n",
            {
                "From": {"Name": "Jürgen", "Address": "j@h.example"},
                "To": [
                    {"Name": "", "Address": "a@h.example"},
                    {"Name": "B, C", "Address": "b@h.example"},
                ],
                "Cc": [{"Name": "", "Address": "c@h.example"}],
                "Bcc": [{"Name": "", "Address": "d@h.example"}, {"Name": "", "Address": "bob@h.example"}],
                "ReplyTo": [{"Name": "", "Address": "e@h.example"}],
            },
            id="people",
        ),
        pytest.param(
            b"Date: Mon, 05 Jan 2026 10:00:00 +0100\r\nMessage-ID: <1@h.example>\r\n\r\n",
            {"Date": "2026-01-05T10:00:00+01:00", "MessageID": "1@h.example"},
            id="date",
        ),
        pytest.param(
            b"Date: Mon, 05 Jan 2026 10:00:00 +0000\r\n\r\n", {"Date": "2026-01-05T10:00:00Z"}, id="utc"
        ),
        pytest.param(
            b"List-Unsubscribe: <mailto:out@h.example>, <https://h.example/out>\r\n"
            b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n\r\n",
            {
                "ListUnsubscribe": {
                    "Header": "<mailto:out@h.example>, <https://h.example/out>",
                    "Links": ["mailto:out@h.example", "https://h.example/out"],
                    "Errors": "",
                    "HeaderPost": "List-Unsubscribe=One-Click",
                }
            },
            id="unsubscribe",
        ),
        pytest.param(
            b"Content-Type: text/html\r\n\r\n<p>Hi</p>\r\n", {"HTML": "<p>Hi</p>\n", "Text": "Hi"}, id="html"
        ),
        pytest.param(
            b"Content-Type: multipart/mixed; boundary=a\r\n\r\n"
            b"--a\r\nContent-Type: multipart/related; boundary=b\r\n\r\n"
            b'--b\r\nContent-Type: text/html\r\n\r\n<img src="cid:i@h">\r\n'
            b"--b\r\nContent-Type: image/png; name=i.png\r\nContent-ID: <i@h>\r\n"
            b"Content-Disposition: inline\r\n\r\nx\r\n--b--\r\n"
            b"--a\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n"
            b"Content-Transfer-Encoding: base64\r\n\r\neA==\r\n--a--\r\n",
            {
                "HTML": '<img src="cid:i@h">',
                "Text": "",
                "Inline": [
                    {
                        "PartID": "1.2",
                        "FileName": "i.png",
                        "ContentType": "image/png",
                        "ContentID": "i@h",
                        "Size": 1,
                        "Checksums": CHECKSUMS,
                    }
                ],
                "Attachments": [
                    {
                        "PartID": "2",
                        "FileName": "a.pdf",
                        "ContentType": "application/pdf",
                        "ContentID": "",
                        "Size": 1,
                        "Checksums": CHECKSUMS,
                    }
                ],
            },
            id="parts",
        ),
    ],
)
def test_a_mail_as_mailpit_shows_it(tmp_path: Path, content: bytes, expected: dict[str, Any]) -> None:
    assert shown(tmp_path, content, block("bob@h.example", ms=MOMENT)) == {**PLAIN, **expected}


def test_the_envelope_gives_the_user_the_return_path_and_the_time(tmp_path: Path) -> None:
    top = block("x@h.example", sender="bounce@h.example", user="ann", ms=MOMENT + 1_230)
    found = shown(tmp_path, mail().as_bytes(), top)
    assert found["Username"] == "ann"
    assert found["ReturnPath"] == "bounce@h.example"
    assert found["Date"] == "2026-01-01T00:00:01.23Z"
    assert found["Bcc"] == [{"Name": "", "Address": "x@h.example"}]


def test_the_header_has_the_names_as_go_writes_them(tmp_path: Path) -> None:
    content = b"subject: One\r\nX-LONG-name: a\r\n\t b\r\nReceived: 1\r\nReceived: 2\r\n\r\nx: y\r\n"
    found = headers_of(row_of(tmp_path, content, b""))
    assert found == {"Received": ["1", "2"], "Subject": ["One"], "X-Long-Name": ["a b"]}
    assert list(found) == sorted(found)


def test_parts_are_found_by_their_ids_and_texts_are_none(tmp_path: Path) -> None:
    made = mail("One")
    made.add_attachment(b"data", maintype="application", subtype="pdf", filename="a.pdf")
    message = ShownMail(row_of(tmp_path, made.as_bytes()))
    part = message.part("2")
    assert part is not None
    assert part.payload() == b"data"
    assert message.part("1") is None
    assert message.part("../2") is None


def test_links_and_codes(tmp_path: Path) -> None:
    made = mail(
        "Your code 4711",
        "Use 123 456 or 98765432. Not 1.234, 12345678901, v2024, 2024-01-05, https://h.example/123456 .\n",
    )
    made.add_alternative(
        '<a class=x href="https://h.example/a?b=1&amp;c=2">x</a> <a href="javascript:alert(1)">y</a>',
        subtype="html",
    )
    message = ShownMail(row_of(tmp_path, made.as_bytes()))
    assert message.links() == ["https://h.example/a?b=1&c=2", "https://h.example/123456"]
    assert message.codes() == ["4711", "123456", "98765432"]


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("Your verification code is 482913.", ["482913"]),
        ("Your code: 4829", ["4829"]),
        ("Use code 482 913 to log in", ["482913"]),
        ("Code 482-913 ends in 10 minutes", ["482913"]),
        ("482913 is your code", ["482913"]),
        ("(482913)", ["482913"]),
        ("**482913**", ["482913"]),
        ("PIN: 0042", ["0042"]),
        ("Two codes: 1111 and 2222; 1111 again", ["1111", "2222"]),
        ("12345678", ["12345678"]),
        ("123456789012", []),
        ("Order #482913", []),
        ("Price: $4829, or €4829 or £4829", []),
        ("Call +1 555 123 4567 or +49 (30) 123456", []),
        ("© 2026 Example, Copyright 2026, (c) 2026", []),
        ("On 2026-01-05 at 10:00", []),
        ("1.234,56 and 12,345.67", []),
        ("https://h.example/482913?code=4711", []),
        ("write to 4829@h.example", []),
        ("version v2024 and a1234", []),
        ("no number", []),
    ],
)
def test_codes_of_everyday_texts(tmp_path: Path, text: str, codes: list[str]) -> None:
    assert ShownMail(row_of(tmp_path, mail("Hello", f"{text}\n").as_bytes())).codes() == codes


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("See https://h.example/a.", ["https://h.example/a"]),
        ("(see https://h.example/a)", ["https://h.example/a"]),
        ("https://h.example/A_(b)", ["https://h.example/A_(b)"]),
        ("<https://h.example/?t=1&u=2>", ["https://h.example/?t=1&u=2"]),
        ("HTTP://H.example and ftp://h.example", ["HTTP://H.example"]),
        ("https://h.example/a https://h.example/a", ["https://h.example/a"]),
        ("'https://h.example/a', really!", ["https://h.example/a"]),
    ],
)
def test_links_of_everyday_texts(tmp_path: Path, text: str, links: list[str]) -> None:
    assert ShownMail(row_of(tmp_path, mail("Hello", f"{text}\n").as_bytes())).links() == links


@pytest.mark.parametrize(
    ("markup", "links"),
    [
        ("<a href='https://h.example/a'>x</a>", ["https://h.example/a"]),
        ("<A CLASS=b\nHREF = https://h.example/a>x</A>", ["https://h.example/a"]),
        ('<a href="https://h.example/?a&#61;1&amp;b=2">x</a>', ["https://h.example/?a=1&b=2"]),
        ('<a data-href="https://h.example/no" href=" https://h.example/a ">x</a>', ["https://h.example/a"]),
        ('<a href="mailto:a@h.example">x</a><abbr href="https://h.example/no">', []),
    ],
)
def test_links_of_everyday_html(tmp_path: Path, markup: str, links: list[str]) -> None:
    made = mail("Hello", "text\n")
    made.add_alternative(markup, subtype="html")
    assert ShownMail(row_of(tmp_path, made.as_bytes())).links() == links


@pytest.mark.parametrize(
    "piece",
    [
        "<a ", "<a href", "<a href=", '<a href="', "<a href=" + " " * 50, "https://", "http://a",
        "+1 ", "123 ", "(c) ", "((((", "1-", "<a x",
    ],
)  # fmt: skip
def test_hostile_texts_take_bounded_time(tmp_path: Path, piece: str) -> None:
    many = "\n".join([piece * (900 // len(piece))] * 1_000)
    made = mail("Hello", f"{many}\n")
    made.add_alternative(many, subtype="html")
    message = ShownMail(row_of(tmp_path, made.as_bytes()))
    began = time.process_time()
    message.links()
    message.codes()
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("header", "links", "errors"),
    [
        ("", [], ""),
        ("nothing", [], '"nothing" no valid unsubscribe links found'),
        ("x <mailto:a@h>", [], '"x <mailto:a@h>" should be enclosed in <>'),
        ("<ftp://h/>", [], '"ftp://h/" should start with either http(s):// or mailto:'),
        ("<https://h/>, <https://i/>", ["https://h/"], '"https://i/" should only contain one HTTP link'),
        ("(click) <https://h/>", ["https://h/"], ""),
        ("<mailto:a@h> <https://h/>", [], "comma"),
        ("<https://h/ x>", [], '"https://h/ x" should not contain spaces'),
    ],
)
def test_list_unsubscribe(header: str, links: list[str], errors: str) -> None:
    found = list_unsubscribe({"list-unsubscribe": header})
    assert found["Links"] == links
    assert errors in found["Errors"]
    assert bool(errors) is bool(found["Errors"])


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "1970-01-01T00:00:00Z"), (1, "1970-01-01T00:00:00.001Z"), (120, "1970-01-01T00:00:00.12Z")],
)
def test_times_have_as_many_digits_as_go_writes(ms: int, text: str) -> None:
    assert go_time(ms) == text


def test_a_mail_whose_file_is_gone_is_not_found(tmp_path: Path) -> None:
    row = row_of(tmp_path, b"Subject: x\r\n\r\n")
    row.path.unlink()
    with pytest.raises(FileNotFoundError):
        ShownMail(row)


def test_every_answer_is_json(tmp_path: Path) -> None:
    json.dumps(shown(tmp_path, bytes(range(256)) * 10))
