"""One stored mail as a page that only this machine's browser can read, and that asks nobody.

Strangers write mails. So every answer carries a policy that runs no script and loads nothing, its
address holds a random token, and the Host field has to be ours, because a name that resolves to
127.0.0.1 would make a foreign page one of the same origin.
"""

from __future__ import annotations

import hmac
import html
import re
import secrets
import socketserver
import threading
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import quote

from functions.local.view.stored import StoredFile
from functions.message.mime import Attachment
from functions.message.text import printable
from listener.cli.mails.showing import facts

POLICY: Final = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"

LONGEST: Final = 600.0
"""Seconds without a request after which the page ends."""

_HEADERS: Final = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-DNS-Prefetch-Control": "off",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# No policy covers the connections that these elements ask for, or the page that they name.
_REACHING_OUT: Final = re.compile(r"<(?=/?(?:link|meta|base)(?![a-z0-9-]))", re.IGNORECASE)
_UNSAFE_NAME: Final = re.compile(r"[^A-Za-z0-9._ -]+")
_STYLE: Final = (
    "body{font:15px sans-serif;margin:1.5em;max-width:60em}th{text-align:left;vertical-align:top;"
    "padding-right:1em;white-space:nowrap}pre{white-space:pre-wrap}iframe{width:100%;height:70vh;"
    "border:1px solid #999;background:#fff}"
)


class MailPage:
    """Serves one mail on a free port of 127.0.0.1, in a thread. Raises OSError."""

    def __init__(self, mail: StoredFile) -> None:
        self._token = secrets.token_urlsafe(24)
        self._asked = threading.Event()
        self._done = threading.Event()
        self._attachments = list(mail.parts.attachments) if mail.parts is not None else []
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._host = f"127.0.0.1:{self._server.server_address[1]}"
        self._mail = mail
        self._server.page = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{self._host}/{self._token}/"

    @property
    def downloads(self) -> list[tuple[str, str]]:
        """Name and address of each attachment."""
        return [
            (printable(each.filename), f"{self.url}{number}/{quote(safe_name(each))}")
            for number, each in enumerate(self._attachments, 1)
        ]

    def wait(self) -> None:
        """Until the page was read. With attachments until no request comes for LONGEST seconds."""
        while not self._done.wait(LONGEST):
            if not self._asked.is_set():
                return
            self._asked.clear()

    def close(self) -> None:
        """End the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def answer(self, path: str, host: str | None) -> tuple[HTTPStatus, dict[str, str], bytes]:
        """The answer to GET: status, header fields, content."""
        if host is None or host.strip().lower() != self._host:
            return HTTPStatus.FORBIDDEN, {"Content-Type": "text/plain"}, b"this name is not served\n"
        _, _, rest = path.partition("/")
        token, slash, rest = rest.partition("/")
        if not slash or not hmac.compare_digest(token.encode(), self._token.encode()):
            return HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"}, b"not found\n"
        self._asked.set()
        number = rest.partition("/")[0]
        if rest == "":
            return HTTPStatus.OK, {"Content-Type": "text/html; charset=utf-8"}, self._page()
        if number.isascii() and number.isdecimal() and 0 < int(number[:6]) <= len(self._attachments):
            each = self._attachments[int(number[:6]) - 1]
            fields = {
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f'attachment; filename="{safe_name(each)}"',
            }
            return HTTPStatus.OK, fields, each.payload()
        return HTTPStatus.NOT_FOUND, {"Content-Type": "text/plain"}, b"not found\n"

    def read(self, path: str) -> None:
        """An answer was written. The page alone is all there is, if there are no attachments."""
        if path == f"/{self._token}/" and not self._attachments:
            self._done.set()

    def _page(self) -> bytes:
        mail, parts = self._mail, self._mail.parts
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(printable(value))}</td></tr>"
            for name, value in facts(mail)
        )
        pieces = [
            "<!doctype html><html><head><meta charset=utf-8><title>",
            html.escape(printable(mail.subject) or "mail"),
            f"</title><style>{_STYLE}</style></head><body><table>{rows}</table>",
        ]
        # A page under this policy may not start downloads: the addresses are there to be copied.
        pieces += [
            f"<p>{html.escape(name)}: <code>{html.escape(url)}</code></p>" for name, url in self.downloads
        ]
        if parts is not None and parts.html is not None:
            source = html.escape(_REACHING_OUT.sub("<x-", parts.html), quote=True)
            pieces.append(f'<iframe sandbox srcdoc="{source}"></iframe>')
        if parts is not None and parts.text is not None:
            pieces.append(f"<pre>{html.escape(parts.text)}</pre>")
        pieces.append("</body></html>")
        return "".join(pieces).encode("utf-8", "replace")


def safe_name(attachment: Attachment) -> str:
    """A file name of harmless characters that begins with a letter or digit, at most 100 long."""
    name = _UNSAFE_NAME.sub("_", attachment.filename.rpartition("/")[2].rpartition("\\")[2])
    name = name.lstrip("._ -").rstrip(". ")
    stem, dot, ending = name.rpartition(".")
    return f"{stem[:80]}{dot}{ending[:16]}" if dot else name[:96] or "attachment"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    page: MailPage

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser may close its connection at any time."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5

    def do_GET(self) -> None:
        self._send(*self.server.page.answer(self.path, self.headers.get("Host")))
        self.server.page.read(self.path)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """The same fields in the answer to another method than GET, or to what is not HTTP."""
        status = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._send(status, {"Content-Type": "text/plain"}, b"only GET is served\n")

    def _send(self, status: HTTPStatus, fields: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {**fields, **_HEADERS, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()

    def version_string(self) -> str:
        return "smtp-relay"

    def log_message(self, *args: Any, **more: Any) -> None:
        """Nothing: the terminal shows what the command prints."""
