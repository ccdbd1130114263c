"""The chart's manifests run: the real image with the command line, volumes and rights of the pod's spec."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from os import kill
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from listener.config.load import load
from tests.support.clients.tls import Authority
from tests.support.image import image
from tests.support.infra.helm import EXAMPLES, KUBERNETES, kustomize, needs_helm, render
from tests.support.infra.pod import Pod
from tests.support.net import wait_until

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.slow, needs_helm]

HOP: Final = "next-hop.example.com"
HOP_PORT: Final = 2525

RELAY: Final[dict[str, Any]] = {
    "flows": {
        "out": {
            "filters": [{"type": "whitelist", "subnets": ["127.0.0.0/8"]}],
            "outputs": [{"type": "mailer", "nodemailer": {"host": HOP, "port": HOP_PORT, "ignoreTLS": True}}],
        }
    },
    "delivery": {"retry": {"first": 100, "max": 300}},
    "options": {"authOptional": True, "disableReverseLookup": True, "closeTimeout": 1000},
}

VALUES: Final = {"config": RELAY, "test": {"to": "you@example.com", "from": "me@example.com"}}

TALK: Final = """
import socket, ssl, sys
port, secure = int(sys.argv[1]), sys.argv[2] == "True"
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
client = socket.create_connection(("127.0.0.1", port), 20)
if secure:
    client = context.wrap_socket(client, server_hostname="localhost")
print(client.makefile().readline()[:3])
if secure:
    sys.stdout.write(ssl.DER_cert_to_PEM_cert(client.getpeercert(binary_form=True)))
client.close()
"""

Run = Callable[..., Pod]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts the pod of some objects; the arguments are Pod's."""
    files, _, config = image()
    made: list[Pod] = []

    def start(*arguments: Any, **options: Any) -> Pod:
        made.append(Pod(tmp_path / f"pod-{len(made)}", files, config, *arguments, **options))
        return made[-1].start()

    yield start
    for each in made:
        each.close()


def secrets_for(objects: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """A value for each key of a Secret that the objects refer to."""
    identity = Authority.shared().issue("smtp.example.com")
    found: dict[str, dict[str, str]] = {}
    for one in objects:
        if one["kind"] in ("StatefulSet", "Deployment"):
            spec = one["spec"]["template"]["spec"]
            for volume in spec["volumes"]:
                if "secret" in volume:
                    pair = {"tls.key": identity.key_pem(), "tls.crt": identity.pem}
                    found[volume["secret"]["secretName"]] = pair
            for each in spec["containers"][0]["env"]:
                if reference := each.get("valueFrom", {}).get("secretKeyRef"):
                    secret = found.setdefault(reference["name"], {})
                    secret[reference["key"]] = "plain:secret" if "PASSWORD" in each["name"] else "app"
    return found


def talk(pod: Pod, port: int, *, secure: bool = False) -> str:
    done = pod.container.beside(sys.executable, "-c", TALK, str(port), str(secure))
    assert done.returncode == 0, (done.stderr.decode(), pod.container.log())
    return done.stdout.decode()


def next_hop(pod: Pod, folder: Path) -> Path:
    """Start the server that the mailer forwards to. Returns the folder of its mails."""
    config = folder / "hop.json"
    mails = folder / "hop"
    flow = {
        "filters": [{"type": "whitelist", "subnets": ["127.0.0.0/8"]}],
        "outputs": [{"type": "file", "path": str(mails)}],
    }
    written = {"flows": {"all": flow}, "port": HOP_PORT, "spool": f"file://{folder}/hop-spool"}
    config.write_text(json.dumps({**written, "options": {"authOptional": True}}))
    pod.beside(sys.executable, "-m", "listener.cli.main", "serve", str(config), folder=folder)
    return mails


def received(mails: Path) -> list[Path]:
    return [path for path in mails.glob("*") if not path.name.startswith(".")] if mails.exists() else []


GREETINGS: Final = ("220", "554")
"""A listener answers, and takes mail of the test's address or not."""

RUN_HERE: Final = [path for path in EXAMPLES if path.stem != "bucket-gcp"]
"""Without the one whose outputs need Google's SDKs, which this image leaves out."""


@pytest.mark.parametrize("path", RUN_HERE, ids=lambda path: path.stem)
def test_an_example_serves_and_stops(run: Run, path: Path) -> None:
    objects = render(path)
    pod = run(objects, secrets_for(objects))
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert pod.probe(probe) == 200
    (text,) = next(one for one in objects if one["kind"] == "ConfigMap")["data"].values()
    for one in listeners(text, path):
        if not one.options.use_proxy:
            assert talk(pod, one.port, secure=one.options.secure)[:3] in GREETINGS
    assert pod.container.identity() == ({10025}, {10025}, set())
    assert "Traceback" not in pod.container.log()
    assert "mount a volume" not in pod.container.log()
    assert pod.container.stop() == 0


def listeners(text: str, path: Path) -> Any:
    values = yaml.safe_load(path.read_text())
    file = path.with_suffix(".jsonc")
    environ = {**values.get("env", {}), "SMTP_RELAY_CONFIG_JSON": text}
    return load(file, environ).resolved_listeners()


def test_the_base_serves_with_tls_and_a_password(run: Run) -> None:
    objects = kustomize(KUBERNETES / "base")
    pod = run(objects, secrets_for(objects))
    assert talk(pod, 10025, secure=True)[:3] in GREETINGS
    assert pod.container.stop() == 0


def test_a_mail_of_helm_test_waits_and_is_delivered_before_the_pod_stops(run: Run, tmp_path: Path) -> None:
    pod = run(render(VALUES), hosts=[HOP])
    pod.forward()
    done = pod.test()
    assert done.returncode == 0, (done.stdout, done.stderr, pod.container.log())
    (waiting,) = pod.queue()
    assert waiting["state"] == "waiting"
    hook = threading.Thread(target=pod.pre_stop)
    hook.start()
    mails = next_hop(pod, tmp_path)
    hook.join(60)
    assert not hook.is_alive(), "it ends when the spool is empty, before drainSeconds"
    assert pod.queue() == []
    assert b"Subject: Test of the release relay" in received(mails)[0].read_bytes()
    assert pod.container.stop() == 0


def test_what_cannot_be_delivered_stays_in_the_volume_for_the_next_pod(run: Run, tmp_path: Path) -> None:
    claims = tmp_path / "claims"
    objects = render({**VALUES, "drainSeconds": 1})
    pod = run(objects, claims=claims, hosts=[HOP])
    pod.forward()
    assert pod.test().returncode == 0
    assert pod.pre_stop().returncode == 0
    assert pod.container.stop() == 0
    pod.close()
    again = run(objects, claims=claims, hosts=[HOP])
    mails = next_hop(again, tmp_path)
    wait_until(lambda: len(received(mails)) == 1, seconds=30, what="the mail of the pod before")
    assert again.container.stop() == 0


def test_a_login_over_tls_is_tested_too_and_a_renewed_certificate_is_served(run: Run) -> None:
    objects = render(
        next(path for path in EXAMPLES if path.stem == "cert-manager"), "--set", "test.from=a@b.example"
    )
    secrets = secrets_for(objects) | {"smtp-relay-client": {"password": "secret"}}
    pod = run(objects, secrets)
    pod.forward()
    done = pod.test()
    assert done.returncode == 0, (done.stdout, done.stderr, pod.container.log())
    name = next(one for one in objects if one["kind"] == "Certificate")["spec"]["secretName"]
    assert secrets[name]["tls.crt"] in talk(pod, 10465, secure=True)
    identity = Authority.shared().issue("smtp.example.com")
    pod.renew(name, {"tls.key": identity.key_pem(), "tls.crt": identity.pem})
    # Without the signal it looks once a minute.
    kill(pod.container.pid, signal.SIGHUP)
    wait_until(lambda: identity.pem in talk(pod, 10465, secure=True), seconds=30, what="the new certificate")
    assert pod.container.stop() == 0
