"""An HTTP server before another one that counts the requests it passes on."""

from __future__ import annotations

import contextlib
import http.client
import threading
import urllib.parse
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final, Self

from tests.support.net import HOST

_HOPS: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})

Name = Callable[[str, str, Mapping[str, str]], str]
"""The name under which a request is counted, of method, path with query, and headers in lower case."""


class Counting:
    """`counts` are the requests by name."""

    def __init__(self, behind: str, name: Name) -> None:
        self.counts: Counter[str] = Counter()
        target = urllib.parse.urlsplit(behind).netloc
        lock = threading.Lock()
        counts = self.counts

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                self.behind = http.client.HTTPConnection(target, timeout=60)

            def finish(self) -> None:
                self.behind.close()
                with contextlib.suppress(OSError):
                    super().finish()

            def serve(self) -> None:
                headers = {key.lower(): value for key, value in self.headers.items()}
                with lock:
                    counts[name(self.command, self.path, headers)] += 1
                body = self.body()
                kept = {key: value for key, value in headers.items() if key not in _HOPS}
                self.behind.request(self.command, self.path, body or None, kept)
                answer = self.behind.getresponse()
                content = answer.read()
                self.send_response(answer.status)
                for key, value in answer.getheaders():
                    if key.lower() not in _HOPS | {"date", "server"}:
                        self.send_header(key, value)
                self.send_header("Content-Length", str(len(content)))
                with contextlib.suppress(OSError):  # the client has gone away
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = serve

            def body(self) -> bytes:
                if "chunked" not in self.headers.get("Transfer-Encoding", ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                pieces = []
                while size := int(self.rfile.readline().partition(b";")[0], 16):
                    pieces.append(self.rfile.read(size))
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    continue
                return b"".join(pieces)

            def log_message(self, *args: object) -> None:
                """Logs nothing."""

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def of_aws(method: str, path: str, headers: Mapping[str, str]) -> str:
    """`s3:PUT`, `s3:LIST`, `dynamodb:PutItem`, `sqs:SendMessage` …, by signature, target and path."""
    scope = headers.get("authorization", "").partition("Credential=")[2].partition(",")[0]
    service = scope.split("/")[3] if scope.count("/") >= 4 else "?"
    if target := headers.get("x-amz-target"):
        return f"{service}:{target.rpartition('.')[2]}"
    where, _, query = path.partition("?")
    listed = "list-type=" in query or (method == "GET" and where.strip("/").count("/") == 0)
    return f"{service}:{'LIST' if listed else method}"


def of_gcs(method: str, path: str, headers: Mapping[str, str]) -> str:
    """`gcs:A` (writes and lists), `gcs:B` (reads) or `gcs:free` (deletions), as Cloud Storage bills them."""
    if method == "DELETE":
        return "gcs:free"
    where = path.partition("?")[0].rstrip("/")
    return "gcs:A" if method != "GET" or where.endswith("/o") else "gcs:B"
