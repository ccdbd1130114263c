"""compose.yaml: the image runs as it says, and its configuration loads."""

from __future__ import annotations

from pathlib import Path

import yaml

from listener.config.load import load
from tests.support.servers.relay import ROOT


def test_compose(tmp_path: Path) -> None:
    found = yaml.safe_load((ROOT / "compose.yaml").read_text())
    for name, service in found["services"].items():
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        (path,) = service["command"]
        environ = {key: str(value) for key, value in service.get("environment", {}).items()}
        loaded = load(ROOT / path, {**environ, "SMTP_RELAY_DEFAULT_BIND": "0.0.0.0"})
        (volume,) = service["volumes"]
        (published,) = service["ports"]
        address, _, inside = published.rsplit(":", 2)
        assert address == "127.0.0.1", name
        assert int(inside) == loaded.port
        assert loaded.bind == "0.0.0.0"
        assert volume.endswith(":/smtp-relay/received_emails")
