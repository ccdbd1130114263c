"""The chart refuses values that do not fit the configuration, with one line that says how to fix them."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.support.infra.helm import CHART, helm, needs_helm, refusal, render

pytestmark = needs_helm

FILTER: Final = {"type": "whitelist", "ips": ["10.0.0.1"]}


def config(*outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    flow = {"filters": [FILTER], "outputs": list(outputs) or [{"type": "log"}]}
    return {"flows": {"a": flow}, **more}


def values(settings: dict[str, Any] | None = None, *outputs: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"config": json.dumps(config(*outputs, **(settings or {}))), **more}


def mailer(secret: str) -> dict[str, Any]:
    return {"type": "mailer", "nodemailer": {"host": "a", "auth": {"user": "u", "pass": secret}}}


TLS: Final = {"options": {"key": "file:///tls/tls.key", "cert": "file:///tls/tls.crt"}}
PROXY: Final = {"listeners": [{"port": 1025, "useProxy": ["10.0.0.0/8"]}, {"port": 1026}]}
PASS: Final = "config: flows.a.outputs[0].nodemailer.auth.pass"
BALANCED: Final = {"enabled": True, "listeners": ["1025"]}

REFUSED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "no configuration": ({}, "config: is missing (give"),
    "an empty text": ({"config": " \n"}, "config: is missing (give"),
    "a text that is no JSON": ({"config": '{"flows": '}, "config: cannot be read: "),
    "a text that is no YAML": ({"config": "flows: [a"}, "config: cannot be read: "),
    "no flows": ({"config": "{}"}, "config: has no flows"),
    "a Deployment with a folder": (
        values(kind="Deployment"),
        "kind: a Deployment cannot keep the spool /smtp-relay/.smtp-relay, whose mails were answered 250 (",
    ),
    "no volume for a folder": (
        values({"spool": "file:///spool"}, persistence={"enabled": False}),
        "persistence.enabled: the spool /spool needs a volume",
    ),
    "an emptyDir over the spool": (
        values(
            {"spool": "file:///spool"},
            extraVolumes=[{"name": "x", "emptyDir": {}}],
            extraVolumeMounts=[{"name": "x", "mountPath": "/spool/"}],
        ),
        "extraVolumeMounts: /spool/ is in the spool /spool",
    ),
    "an inbox": (values({"inbox": {}}), "config: inbox: this chart serves no inbox"),
    "health for itself": (
        values({"health": {"portNumber": 1, "bind": "127.0.0.1"}}),
        "config: health.bind: probes come from outside",
    ),
    "a password": (
        values(None, mailer("hunter2")),
        f"{PASS}: a secret",
    ),
    "a password in a URL": (
        values(None, {"type": "mailer", "nodemailer": "smtps://u:hunter2@a.example"}),
        "config: flows.a.outputs[0].nodemailer: a secret would stand in a ConfigMap",
    ),
    "a user's password": (
        values(None)
        | {"config": {"flows": {"a": {"filters": [{"type": "static-auth", "users": {"u": "plain:x"}}]}}}},
        "config: flows.a.filters[0].users.u: a secret",
    ),
    "a private key": (
        values({"options": {"key": "-----BEGIN PRIVATE KEY-----\nx", "cert": "c"}}),
        "config: options.key: a secret would stand",
    ),
    "any port": (values({"port": 0}), "config: port: 0 is a port that changes"),
    "the port of health": (values({"port": 9090}), "config: port 9090: is the port of health"),
    "an address of its own": (values({"bind": "localhost"}), "config: bind: no Service reaches"),
    "a variable over the configuration": (
        values(env={"SMTP_RELAY_SPOOL": "s3://b"}),
        "env.SMTP_RELAY_SPOOL: would override the configuration",
    ),
    "a secret over the configuration": (
        values(secretEnv={"SMTP_RELAY_CONFIG_JSON": {"name": "a", "key": "b"}}),
        "secretEnv.SMTP_RELAY_CONFIG_JSON: would override",
    ),
    "a variable twice": (
        values(env={"A": "1"}, secretEnv={"A": {"name": "a", "key": "b"}}),
        "env.A: stands in secretEnv too",
    ),
    "a variable that nothing sets": (
        values(None, mailer("env:PASSWORD")),
        f"{PASS}: env:PASSWORD is set by nothing (add secretEnv.PASSWORD",
    ),
    "a file that nothing mounts": (
        values(None, mailer("file:///secrets/p")),
        f"{PASS}: nothing is mounted at /secrets/p (add the folder",
    ),
    "a certificate that nothing mounts": (
        values(TLS),
        "config: options.cert: nothing is mounted at /tls/tls.crt (set tls.secretName",
    ),
    "a certificate that nothing reads": (
        values(tls={"secretName": "a"}),
        "tls: the configuration does not read",
    ),
    "two certificates": (
        values(TLS, tls={"secretName": "a", "certManager": {"issuerRef": {"name": "b"}, "dnsNames": ["c"]}}),
        "tls.secretName: stands beside",
    ),
    "a certificate for no name": (
        values(TLS, tls={"certManager": {"issuerRef": {"name": "b"}}}),
        "tls.certManager.dnsNames: is missing",
    ),
    "files on the read-only disk": (
        values(None, {"type": "file", "path": "received"}),
        "config: flows.a.outputs[0]: no volume is mounted at /smtp-relay/received",
    ),
    "a log on the read-only disk": (
        values({"loggers": [{"type": "FILE", "filepath": "/var/log/relay.log"}]}),
        "config: loggers[0]: no volume is mounted at /var/log,",
    ),
    "a monitor without metrics": (
        values(serviceMonitor={"enabled": True}),
        "serviceMonitor, prometheusRule: ",
    ),
    "rules without metrics": (values(prometheusRule={"enabled": True}), "serviceMonitor, prometheusRule: "),
    "a balancer of nothing": (
        values(PROXY, loadBalancer={"enabled": True}),
        "loadBalancer.listeners: is missing (name some of: 1025, 1026)",
    ),
    "a balancer of a listener that is not there": (
        values(PROXY, loadBalancer={"enabled": True, "listeners": ["smtp"]}),
        "loadBalancer.listeners: smtp is no listener",
    ),
    "PROXY without networks": (
        values({"listeners": [{"port": 1025}]}, loadBalancer={**BALANCED, "proxyProtocol": True}),
        "loadBalancer.proxyProtocol: listener 1025 trusts no PROXY header (set its useProxy",
    ),
    "PROXY from everywhere": (
        values(
            {"listeners": [{"port": 1025, "useProxy": True}]},
            loadBalancer={**BALANCED, "proxyProtocol": True},
        ),
        "loadBalancer.proxyProtocol: listener 1025 trusts every address (",
    ),
    "a balancer without PROXY headers": (
        values(PROXY, loadBalancer=BALANCED),
        "loadBalancer.listeners: listener 1025 expects PROXY headers",
    ),
    "a test without a password": (
        values(test={"to": "a@example.com", "user": "u"}),
        "test.password: is missing",
    ),
    "a test behind PROXY": (
        values({"port": 1025, "options": {"useProxy": True}}, test={"to": "a@example.com"}),
        "test.to: every listener expects PROXY headers",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str) -> None:
    given, reason = REFUSED[name]
    found = refusal(given)
    assert found.startswith(reason), found
    assert "hunter2" not in found
    assert found.endswith(")"), "says how to fix it"


ALLOWED: Final[dict[str, dict[str, Any]]] = {
    "a hash of a password": {
        "config": {"flows": {"a": {"filters": [{"type": "static-auth", "users": {"u": "$argon2id$x"}}]}}}
    },
    "a volume for files": values(
        None,
        {"type": "file", "path": "received"},
        extraVolumes=[{"name": "mails", "persistentVolumeClaim": {"claimName": "mails"}}],
        extraVolumeMounts=[{"name": "mails", "mountPath": "/smtp-relay/received"}],
    ),
    "files in the spool's volume": values({"spool": "file:///data"}, {"type": "file", "path": "/data/mails"}),
    "a StatefulSet for a bucket": values({"spool": "s3://b"}, kind="StatefulSet"),
    "a certificate by SNI": values(
        {"options": {"sniOptions": {"a.example": TLS["options"]}}}, tls={"secretName": "a"}
    ),
}


@pytest.mark.parametrize("name", ALLOWED)
def test_it_is_rendered(name: str) -> None:
    assert render(ALLOWED[name])


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({"replica": 3}, "replica"),
        ({"persistence": {"storageClassName": "fast"}}, "storageClassName"),
        ({"secretEnv": {"A": {"name": "secret"}}}, "key"),
        ({"secretEnv": {"A": "hunter2"}}, "/secretEnv/A"),
        ({"persistence": {"size": "big"}}, "/persistence/size"),
        ({"kind": "DaemonSet"}, "/kind"),
        ({"loadBalancer": {"proxyProtocol": "v2"}}, "/loadBalancer/proxyProtocol"),
        ({"secretFiles": {"a": "relative"}}, "/secretFiles/a"),
    ],
)
def test_the_schema_names_the_place_of_a_mistake(given: dict[str, Any], place: str) -> None:
    done = helm("template", "relay", CHART, "--set-json", f"config={json.dumps(config())}", *sets(given))
    assert done.returncode != 0
    assert "values don't meet the specifications of the schema" in done.stderr
    assert place in done.stderr


def sets(given: dict[str, Any]) -> list[str]:
    return [part for key, value in given.items() for part in ("--set-json", f"{key}={json.dumps(value)}")]
