"""The example application beside the listener, as the sidecar runs them: both on one host's loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.net import HOST, PATIENCE, answers, free_port, wait_until
from tests.support.servers.relay import ROOT, Relay

APP = ROOT / "infra" / "terraform" / "gcp" / "examples" / "sidecar" / "app.py"


@pytest.fixture
def relay_port() -> int:
    return free_port()


@pytest.fixture
def app(tmp_path: Path, relay_port: int) -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, APP],
        cwd=tmp_path,
        env={**os.environ, "PORT": str(port), "SMTP_HOST": HOST, "SMTP_PORT": str(relay_port)},
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: answers(port), seconds=PATIENCE, what="the application")
        yield f"http://{HOST}:{port}/"
    finally:
        process.kill()
        process.wait()


def post(url: str, body: bytes) -> int:
    try:
        with urllib.request.urlopen(url, body) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_it_sends_through_the_relay(app: str, relay_port: int, new_relay: Callable[..., Relay]) -> None:
    mail = json.dumps({"to": "bob@example.com", "subject": "hello", "text": "hi"}).encode()
    assert post(app, mail) == 503  # the port is not open yet
    assert post(app, b"[]") == 400
    # Cloud Run says where by the environment.
    listeners = json.dumps([{"port": relay_port, "bind": HOST}])
    relay = new_relay(env={"SMTP_RELAY_LISTENERS": listeners})
    relay.port = relay_port
    relay.start()
    assert post(app, mail) == 202
    (received,) = relay.mails()
    assert b"Subject: hello\r\n" in received
