"""The page of one mail: who may read it, that it runs and loads nothing, and when it ends."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import pytest

from listener.cli.mails.page import POLICY, MailPage, safe_name
from listener.cli.mails.stored import read_stored

HOSTILE = """<html><head><base href="http://evil.example/"><meta http-equiv=refresh content="0;url=http://evil.example">
<LINK rel=preconnect href="http://evil.example"><style>@import "http://evil.example/x.css"</style></head>
<body onload="alert(1)"><script>alert(1)</script><img src="http://evil.example/x.png" onerror="alert(1)">
<form action="http://evil.example"><input></form><iframe src="http://evil.example"></iframe>
"></iframe><script>alert(2)</script></body></html>"""

MAIL = (
    "From: \"</td><script>alert('from')</script>\" <a@b.example>\r\nTo: c@d.example\r\n"
    "Subject: <img src=x onerror=alert('subject')>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/mixed; boundary=bb\r\n\r\n"
    "--bb\r\nContent-Type: text/plain\r\n\r\n</pre><script>alert('text')</script>\r\n"
    f"--bb\r\nContent-Type: text/html\r\n\r\n{HOSTILE}\r\n"
    "{more}--bb--\r\n"
)
ATTACHED = (
    "--bb\r\nContent-Type: text/html\r\n"
    'Content-Disposition: attachment; filename="../../x\r\n .html"\r\n\r\n<script>alert(3)</script>\r\n'
)


def page_of(folder: Path, *, attached: bool = False) -> MailPage:
    path = folder / "mail.eml"
    path.write_bytes(MAIL.replace("{more}", ATTACHED if attached else "").encode())
    return MailPage(read_stored(path, trusted=False))


@pytest.fixture
def page(tmp_path: Path) -> Iterator[MailPage]:
    with closing(page_of(tmp_path, attached=True)) as made:
        yield made


class Answer:
    """The answer to one request on a connection of its own."""

    def __init__(self, page: MailPage, path: str, *, method: str = "GET", host: str | None = None) -> None:
        where, _, own = page.url.removeprefix("http://").partition("/")
        connection = http.client.HTTPConnection(where, timeout=20)
        with closing(connection):
            connection.putrequest(method, path.replace("{}", "/" + own), skip_host=host is not None)
            if host:
                connection.putheader("Host", host)
            connection.endheaders()
            answer = connection.getresponse()
            self.status, self.fields, self.content = answer.status, answer.headers, answer.read()


class Tags(HTMLParser):
    """The elements of a page, with the source of its frames."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.frames: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on") or name in {"src", "href"}]
        if tag == "iframe":
            assert ("sandbox", None) in attrs
            self.frames.append(dict(attrs)["srcdoc"] or "")


def test_the_page_shows_the_mail_and_nothing_of_it_as_a_part_of_the_page(page: MailPage) -> None:
    answer = Answer(page, "{}")
    assert answer.status == 200
    found = Tags(answer.content.decode())
    assert set(found.tags) <= {
        *("html", "head", "meta", "title", "style", "body", "table", "tr", "th", "td"),
        *("p", "code", "pre", "iframe"),
    }
    (frame,) = found.frames
    assert "evil.example/x.png" in frame  # the policy keeps the browser from it
    assert not re.search(r"<\s*/?(link|meta|base)\b", frame, re.IGNORECASE)


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("{}", "GET", 200),
        ("{}1/x", "GET", 200),
        ("{}2/x", "GET", 404),
        ("{}0/x", "GET", 404),
        ("{}..%2f..%2fetc%2fpasswd", "GET", 404),
        ("{}../../etc/passwd", "GET", 404),
        ("/", "GET", 404),
        ("/favicon.ico", "GET", 404),
        ("/wrong-token/", "GET", 404),
        ("{}", "POST", 405),
        ("{}", "DELETE", 405),
        ("{}", "HEAD", 405),
        ("{}", "OPTIONS", 405),
    ],
)
def test_every_answer_carries_the_policy(page: MailPage, path: str, method: str, status: int) -> None:
    answer = Answer(page, path, method=method)
    assert answer.status == status
    assert answer.fields["Content-Security-Policy"] == POLICY
    assert answer.fields["X-Content-Type-Options"] == "nosniff"
    assert answer.fields["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in answer.fields


def test_the_policy_is_the_strict_one() -> None:
    assert POLICY == "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@pytest.mark.parametrize("host", ["evil.example", "localhost", "127.0.0.1", "127.0.0.1:1", ""])
def test_another_name_that_leads_here_is_refused(page: MailPage, host: str) -> None:
    answer = Answer(page, "{}", host=host)
    assert answer.status == 403
    assert b"script" not in answer.content


def test_an_attachment_is_only_a_download_with_a_safe_name(page: MailPage) -> None:
    ((_, url),) = page.downloads
    answer = Answer(page, "/" + url.partition("//")[2].partition("/")[2])
    assert answer.fields["Content-Type"] == "application/octet-stream"
    assert answer.fields["Content-Disposition"] == 'attachment; filename="x .html"'
    assert answer.content.strip() == b"<script>alert(3)</script>"


def test_only_this_machine_reaches_it(page: MailPage) -> None:
    assert page.url.startswith("http://127.0.0.1:")
    assert len(page.url.split("/")[3]) >= 32


def test_it_ends_after_it_was_read(tmp_path: Path) -> None:
    with closing(page_of(tmp_path)) as page:
        waiting = threading.Thread(target=page.wait)
        waiting.start()
        assert Answer(page, "/favicon.ico").status == 404
        waiting.join(0.3)
        assert waiting.is_alive()
        assert Answer(page, "{}").status == 200
        waiting.join(20)
        assert not waiting.is_alive()


def test_a_client_that_says_nothing_holds_nobody_up(page: MailPage) -> None:
    host, port = page.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port))):
        assert Answer(page, "{}").status == 200


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\temp\\x.exe", "x.exe"),
        ('a"; filename=b.exe', "a_ filename_b.exe"),
        (".bashrc", "bashrc"),
        ("...", "attachment"),
        ("Grüße.txt", "Gr_e.txt"),
        ("x" * 300 + ".pdf", "x" * 80 + ".pdf"),
    ],
)
def test_names_of_files_are_made_safe(name: str, safe: str) -> None:
    class Named:
        filename = name

    assert safe_name(Named()) == safe  # type: ignore[arg-type]
