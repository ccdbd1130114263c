"""Secret Manager's answers, from a stand-in server."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from functions.errors import ConfigError
from functions.gcp.secrets import ENDPOINT, _token, fetch
from functions.options.secrets import SecretResolver

SECRETS = {
    "projects/p/secrets/text/versions/latest": "grüße".encode(),
    "projects/p/secrets/text/versions/2": b"old\n",
    "projects/p/secrets/binary/versions/latest": b"\xff\x00",
}


class Manager(HTTPServer):
    failing = 0


class Handler(BaseHTTPRequestHandler):
    server: Manager

    def do_GET(self) -> None:
        if self.path == "/computeMetadata/v1/instance/service-accounts/default/token":
            assert self.headers["Metadata-Flavor"] == "Google"
            self.answer(200, {"access_token": "ya29", "expires_in": 3599})
            return
        assert "Authorization" not in self.headers
        name = self.path.removeprefix("/v1/").removesuffix(":access")
        status, body = 404, {"error": {"message": f"Secret [{name}] not found"}}
        if self.server.failing:
            self.server.failing -= 1
            status, body = 503, {}
        elif name in SECRETS:
            status, body = 200, {"payload": {"data": base64.b64encode(SECRETS[name]).decode()}}
        self.answer(status, body)

    def answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: Any) -> None:
        """Logs nothing."""


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    server = Manager(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    monkeypatch.setenv(ENDPOINT, f"http://127.0.0.1:{server.server_port}/")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_secrets(manager: Manager, tmp_path: Any) -> None:
    assert fetch("gcp-secret", "projects/p/secrets/text") == "grüße"
    assert fetch("gcp-secret", "projects/p/secrets/text/versions/2") == "old\n"
    assert fetch("gcp-secret", "projects/p/secrets/binary") == "/wA="
    assert SecretResolver(tmp_path, {})("gcp-secret:projects/p/secrets/text") == "grüße"


def test_a_service_that_stumbles(manager: Manager) -> None:
    manager.failing = 2
    assert fetch("gcp-secret", "projects/p/secrets/text") == "grüße"
    manager.failing = 3
    with pytest.raises(ConfigError, match="503"):
        fetch("gcp-secret", "projects/p/secrets/text")


def test_what_is_not_there(manager: Manager) -> None:
    with pytest.raises(ConfigError, match=r"404 Secret \[projects/p/secrets/none/versions/latest\] not"):
        fetch("gcp-secret", "projects/p/secrets/none")


@pytest.mark.parametrize("name", ["", "text", "projects/p", "projects/p/secrets/a/b", "projects//secrets/x"])
def test_names(name: str) -> None:
    with pytest.raises(ConfigError, match="is not projects/PROJECT/secrets/NAME"):
        fetch("gcp-secret", name)


def test_without_an_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
    with pytest.raises(ConfigError, match="cannot be read: DefaultCredentialsError"):
        fetch("gcp-secret", "projects/p/secrets/text")


def test_the_machine_is_asked_where_googles_library_is_missing(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google.auth", None)
    monkeypatch.setenv("GCE_METADATA_HOST", f"127.0.0.1:{manager.server_port}")
    assert _token() == "ya29"
