"""The interface that fake-gcs-server lacks: uploads through Cloud Storage's XML interface, which
obstore speaks.

`PUT /BUCKET/KEY` becomes an upload through the JSON interface with the same precondition, and its
answer an XML one. Everything else is passed on.
"""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.support.net import HOST


class XmlFront:
    """A server before the one at `behind`. It calls `fail` for each upload (with its key), which
    returns the status to answer instead, or -1 to store the object and break the connection; `words` go
    with the status."""

    def __init__(self, behind: str) -> None:
        self.uploads: list[str] = []
        self.fail: Any = lambda key: None
        self.words = "as told"
        front = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                wanted = int(self.headers["Content-Length"])
                body = self.rfile.read(wanted)
                if len(body) < wanted:  # cut on its way: Cloud Storage keeps no part of it
                    self.close_connection = True
                    return
                bucket, _, key = urllib.parse.unquote(self.path.partition("?")[0]).lstrip("/").partition("/")
                front.uploads.append(key)
                instead = front.fail(key)
                if instead is not None and instead > 0:
                    self.reply(instead, {}, f"<Error><Details>{front.words}</Details></Error>".encode())
                    return
                query = {"uploadType": "media", "name": key}
                if (match := self.headers.get("x-goog-if-generation-match")) is not None:
                    query["ifGenerationMatch"] = match
                url = f"{behind}/upload/storage/v1/b/{bucket}/o?{urllib.parse.urlencode(query)}"
                kind = {"Content-Type": self.headers.get("Content-Type", "application/octet-stream")}
                try:
                    with urllib.request.urlopen(urllib.request.Request(url, body, kind)) as answer:
                        found = json.loads(answer.read())
                except urllib.error.HTTPError as error:
                    with error:
                        self.reply(error.code, {}, b"<Error><Code>Refused</Code></Error>")
                    return
                if instead is not None:
                    self.close_connection = True
                    return
                tags = {"ETag": f'"{found["etag"].strip(chr(34))}"', "x-goog-generation": found["generation"]}
                self.reply(200, tags, b"")

            def forward(self) -> None:
                """Requests that are not obstore's uploads go to the JSON interface unchanged."""
                length = int(self.headers.get("Content-Length") or 0)
                kept = {
                    k: v
                    for k, v in self.headers.items()
                    if k.lower() not in ("host", "connection", "content-length", "accept-encoding")
                }
                body = self.rfile.read(length) if length else None
                asked = urllib.request.Request(behind + self.path, body, kept, method=self.command)
                try:
                    answer = urllib.request.urlopen(asked)
                except urllib.error.HTTPError as error:
                    answer = error
                with answer:
                    own = ("content-length", "transfer-encoding", "connection", "date", "server")
                    headers = {k: v for k, v in answer.headers.items() if k.lower() not in own}
                    self.reply(answer.status, headers, answer.read())

            do_GET = do_POST = do_DELETE = forward

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                with contextlib.suppress(OSError):  # the client has gone away
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Logs nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def start(self) -> Self:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
