"""compose.yaml and the Kubernetes manifest: the image runs as they say, and their configuration loads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from functions.options.jsonc import parse
from listener.config.load import load
from tests.support.servers.relay import ROOT, Relay

MANIFEST: Final = ROOT / "infra" / "kubernetes" / "smtp-relay.yaml"
REFERENCE: Final = ROOT / "tests" / "unit" / "listener" / "config" / "examples" / "kubernetes.json"
DOCKERFILE: Final = (ROOT / "listener" / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def objects() -> dict[str, dict[str, Any]]:
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text())}


def pod(objects: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = objects["StatefulSet"]["spec"]["template"]["spec"]
    return found


def config(objects: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = parse(objects["ConfigMap"]["data"]["smtp-relay.jsonc"])
    return found


def test_it_mirrors_the_references_example(objects: dict[str, Any]) -> None:
    ours, theirs = config(objects), json.loads(REFERENCE.read_text())
    assert ours["flows"] == theirs["flows"]
    given = {**theirs["options"]}
    for logger in given["loggers"]:
        logger["format"] = "json"
    assert ours["options"] == given


def test_the_container_is_what_the_image_is_made_for(objects: dict[str, Any]) -> None:
    (container,) = pod(objects)["containers"]
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert f"SMTP_RELAY_HEALTH_PORT={ports['health']}" in DOCKERFILE
    assert f"--uid {pod(objects)['securityContext']['runAsUser']} " in DOCKERFILE
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}
    mounts = {one["name"] for one in container["volumeMounts"]}
    claims = {one["metadata"]["name"] for one in objects["StatefulSet"]["spec"]["volumeClaimTemplates"]}
    assert mounts == claims | {one["name"] for one in pod(objects)["volumes"]}
    (service,) = objects["Service"]["spec"]["ports"]
    assert service["targetPort"] in ports
    labels = objects["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == labels


def test_its_configuration_serves(objects: dict[str, Any], tmp_path: Path) -> None:
    """TLS from the first byte and a password, with a log in place of SES."""
    (container,) = pod(objects)["containers"]
    environ = {one["name"]: one["value"] for one in container["env"] if "value" in one}
    path = tmp_path / "smtp-relay.jsonc"
    path.write_text(objects["ConfigMap"]["data"]["smtp-relay.jsonc"])
    secrets = {"SMTP_USERNAME": "app", "SMTP_PASSWORD": "plain:secret"}
    loaded = load(path, environ | secrets)
    assert loaded.spool.url == environ["SMTP_RELAY_SPOOL"]
    assert loaded.mode == "in-process"

    ours = config(objects)
    ours["flows"]["localhost"]["outputs"] = [{"type": "file", "path": "{received}"}]
    del ours["$schema"]
    relay = Relay(tmp_path / "relay", ours, env=secrets)
    try:
        relay.start()
        _submit(relay.port)
        assert len(relay.mails()) == 1
    finally:
        relay.kill()


def _submit(port: int) -> None:
    import smtplib
    import ssl

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with smtplib.SMTP_SSL("127.0.0.1", port, timeout=10, context=context) as client:
        client.login("app", "secret")
        client.sendmail("a@example.com", ["b@example.com"], b"Subject: x\r\n\r\ny\r\n")


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
