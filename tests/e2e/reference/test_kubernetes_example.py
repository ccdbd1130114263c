"""The reference's Kubernetes example as its author runs it: nothing but /tmp is writable, TLS without a
certificate."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.clients.tls import encrypt
from tests.support.clients.wire import Wire
from tests.support.net import HOST
from tests.support.servers.relay import ROOT, Relay

EXAMPLE: Final = ROOT / "tests" / "unit" / "listener" / "config" / "examples" / "kubernetes.json"


# The folder that replaces /tmp stays writable, all the rest of the machine becomes read-only.
SCRIPT: Final = """
mount --make-rprivate / && mount --bind "$1" "$1" && mount -o remount,ro,bind /dev/shm &&
mount -o remount,ro,bind / && cd / && shift && exec "$@"
"""


class Pod(Relay):
    """The example untouched but for its port, and for a folder of its own in place of /tmp."""

    def __init__(self, folder: Path) -> None:
        secrets = {"SMTP_USERNAME": "user", "SMTP_PASSWORD": "plain:secret", "AWS_REGION": "eu-west-1"}
        super().__init__(folder, env={**secrets, "TMPDIR": str(folder), "PYTHONDONTWRITEBYTECODE": "1"})
        self.config = json.loads(EXAMPLE.read_text()) | {"port": self.port, "bind": HOST}
        self.config["cachePath"] = self.config["cachePath"].replace("/tmp/", f"{folder}/")

    def command(self) -> Sequence[str]:
        return ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(self.folder), *super().command()]


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[Pod]:
    probe = ["unshare", "-m", "sh", "-c", SCRIPT, "sh", str(tmp_path), "true"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("making the machine read-only for a process needs root")
    made = Pod(tmp_path)
    try:
        yield made
        assert "Traceback" not in made.log()
    finally:
        if made.alive:
            made.kill()


def test_it_runs_and_asks_for_a_login(pod: Pod) -> None:
    pod.start()
    assert "no key and cert: the self-signed certificate" in pod.log()
    with Wire(pod.port) as wire:
        encrypt(wire)
        assert "AUTH PLAIN LOGIN" in wire.greet().lines
        assert str(wire.command("MAIL FROM:<ann@client.example>")) == "530 5.7.0 Authentication required"
        assert wire.command("AUTH PLAIN " + b64encode(b"\0user\0wrong").decode()).code == 535
        assert wire.command("MAIL FROM:<ann@client.example>").code == 530
        assert wire.command("AUTH PLAIN " + b64encode(b"\0user\0secret").decode()).code == 235
        assert wire.command("MAIL FROM:<ann@client.example>").code == 250
        assert wire.command("RCPT TO:<bob@server.example>").code == 250
    assert pod.stop() == 0
