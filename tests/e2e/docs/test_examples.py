"""The example configurations deliver, each from a fresh working folder."""

from __future__ import annotations

import json
import re
import socket
from base64 import b64encode
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.clients.wire import Wire, stuffed
from tests.support.mails.stored import split_block, strip_added_fields
from tests.support.net import HOST
from tests.support.servers.relay import ROOT, Relay

MAIL = b"From: a@client.example\r\nTo: b@server.example\r\nSubject: an example\r\n\r\nx\r\n"


class Example(Relay):
    """A committed configuration, unchanged except for its ports."""

    def __init__(self, folder: Path, name: str, **env: str) -> None:
        super().__init__(folder)
        self.example = ROOT / "configs" / f"{name}.jsonc"
        text = self.example.read_text()
        if '"port": 8025' in text:
            self.example = folder / self.example.name
            self.example.write_text(text.replace('"port": 8025', '"port": 0'))
        self.received = folder / "received_emails"
        listeners: list[dict[str, Any]] = [{"port": self.port, "bind": HOST}]
        self._env = {"SMTP_RELAY_LISTENERS": json.dumps(listeners), **env}

    @property
    def path(self) -> Path:
        return self.example

    def command(self) -> list[str]:
        return self.command_for(self.example)


@pytest.mark.parametrize("name", ["fake-smtp", "fake-smtp-docker", "mailpit"])
def test_stores(tmp_path: Path, name: str) -> None:
    example = Example(tmp_path, name)
    example.start()
    try:
        _send(example, None)
        (mail,) = example.mails()
        fields, below = split_block(mail)
        assert ("X-smtp-relay-RCPT_TO", "b@server.example") in fields
        assert strip_added_fields(below) == MAIL
    finally:
        assert example.stop() == 0


@pytest.mark.parametrize(("bind", "is_reached"), [("", False), ("0.0.0.0", True)])
def test_the_inbox_of_mailpits_ports_is_reached_from_outside_the_image_alone(
    tmp_path: Path, bind: str, is_reached: bool
) -> None:
    """The image says the address. All of 127.0.0.0/8 is this machine's, and a socket of 127.0.0.1 has one of
    these addresses."""
    example = Example(tmp_path, "mailpit", SMTP_RELAY_DEFAULT_BIND=bind)
    example.start()
    try:
        found = re.search(r"inbox: http://localhost:(\d+)", example.log())
        assert found is not None
        assert httpx.get(f"http://{HOST}:{found[1]}/livez", timeout=30).text == "ok"
        with socket.socket() as other:
            assert (other.connect_ex(("127.0.0.2", int(found[1]))) == 0) is is_reached
    finally:
        assert example.stop() == 0


def test_stores_for_clients_that_log_in(tmp_path: Path) -> None:
    example = Example(tmp_path, "fake-smtp-with-auth", SMTP_USERNAME="test", SMTP_PASSWORD="plain:test")
    example.start()
    try:
        with Wire(example.port) as wire:
            wire.greet()
            assert wire.command("MAIL FROM:<a@client.example>").code == 530
            assert wire.command("AUTH PLAIN " + b64encode(b"\0test\0wrong").decode()).code == 535
        _send(example, b"\0test\0test")
        (mail,) = example.mails()
        fields, below = split_block(mail)
        assert ("X-smtp-relay-USER", "test") in fields
        assert strip_added_fields(below) == MAIL
    finally:
        assert example.stop() == 0


def test_logs(tmp_path: Path) -> None:
    example = Example(tmp_path, "fake-smtp-log")
    example.start()
    try:
        _send(example, None)
        assert "an example" in example.log()
        assert example.mails() == []
    finally:
        assert example.stop() == 0


def test_without_a_configuration(tmp_path: Path) -> None:
    """The embedded default: a debug server that stores into ./received_emails/."""

    class Default(Example):
        def command(self) -> list[str]:
            return self.command_for()

    default = Default(tmp_path, "fake-smtp")
    default.start()
    try:
        _send(default, None)
        assert len(default.mails()) == 1
    finally:
        assert default.stop() == 0


def _send(example: Example, credentials: bytes | None) -> None:
    with Wire(example.port) as wire:
        wire.greet()
        if credentials:
            assert wire.command("AUTH PLAIN " + b64encode(credentials).decode()).code == 235
        wire.envelope()
        wire.send(stuffed(MAIL))
        assert wire.reply().code == 250
