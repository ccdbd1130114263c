"""The chart reads the configuration as the relay does: both are asked about the same files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from functions.options.jsonc import parse
from functions.options.secrets import secrets_of
from functions.processors.mailer.transport_options import NAMES
from functions.processors.registry import KINDS as OUTPUT_KINDS
from listener.config.load import load
from listener.config.relay import RelayConfig
from listener.filters.registry import KINDS as FILTER_KINDS
from tests.support.infra.helm import CHART, helm, needs_helm
from tests.support.servers.relay import ROOT

pytestmark = needs_helm

TEMPLATE: Final = """
facts:
{{- range .Values.configs }}
  - {{ include "smtp-relay.facts" (dict "Values" (dict "config" .)) }}
{{- end }}
"""

FLOW: Final = {"filters": [{"type": "whitelist", "ips": ["10.0.0.1"]}], "outputs": [{"type": "log"}]}


def facts_of(configs: list[Any], folder: Path) -> list[dict[str, Any]]:
    """The facts of each configuration, in one run of Helm."""
    chart = folder / "chart"
    (chart / "templates").mkdir(parents=True)
    shutil.copy(CHART / "Chart.yaml", chart)
    shutil.copy(CHART / "templates" / "_facts.tpl", chart / "templates")
    (chart / "templates" / "facts.yaml").write_text(TEMPLATE)
    values = folder / "values.json"
    values.write_text(json.dumps({"configs": configs}))
    done = helm("template", "relay", chart, "-f", values)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = yaml.safe_load(done.stdout)["facts"]
    return found


def loaded(config: Any, folder: Path) -> RelayConfig:
    """The configuration as the relay reads it in the image."""
    text = config if isinstance(config, str) else json.dumps(config)
    path = folder / ("relay.jsonc" if _is_json(text) else "relay.yaml")
    path.write_text(text)
    return load(path, {"SMTP_RELAY_DEFAULT_BIND": "0.0.0.0"})


def _is_json(text: str) -> bool:
    try:
        return isinstance(parse(text), dict)
    except ValueError:
        return False


def expected(config: RelayConfig) -> dict[str, Any]:
    listeners = config.resolved_listeners()
    spool = config.spool
    secrets = [secret for _, secret in secrets_of(config)]
    if config.mode == "events":
        secrets = [secret for path, secret in secrets_of(config) if ".outputs[" not in path]
    outputs = config.outputs() if config.mode == "in-process" else []
    clouds = {one.type for _, one in outputs} & {"aws", "gcp"}
    clouds |= {{"s3": "aws", "gs": "gcp"}[spool.scheme]} if spool.in_bucket else set()
    clouds |= {"gcp" if one.scheme == "gcp-secret" else "aws" for one in secrets if one.in_cloud}
    return {
        "listeners": [
            {
                "name": one.name,
                "port": one.port,
                "secure": one.options.secure,
                "tls": one.options.secure or one.options.has_certificate,
                "loopback": not one.exposed,
                "proxy": bool(one.options.use_proxy),
                "proxies": isinstance(one.options.use_proxy, tuple),
            }
            for one in listeners
        ],
        "closeSeconds": -(-max(one.options.close_timeout for one in listeners) // 1000),
        "metrics": config.prometheus.port_number if config.prometheus else 0,
        "metricsPath": config.prometheus.url if config.prometheus else "/metrics",
        "inProcess": config.mode == "in-process",
        "bucket": spool.in_bucket,
        "folder": None if spool.in_bucket else os.path.normpath(spool.folder(Path("/smtp-relay"))),
        "mailers": {one.smtp_port for _, one in outputs if one.smtp_port is not None},
        "clouds": sorted(clouds),
        "env": {one.shown.removeprefix("env:") for one in secrets if one.scheme == "env"},
        "files": {
            os.path.normpath(Path("/smtp-relay", one.shown.removeprefix("file://")))
            for one in secrets
            if one.scheme == "file"
        },
    }


def compared(facts: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    keys = wanted["listeners"][0]
    ports = {int(port) for port in facts["ports"]}
    return {
        **{name: facts.get(name) for name in wanted},
        "listeners": [{key: one[key] for key in keys} for one in facts["listeners"]],
        "bucket": facts["spool"]["bucket"],
        "folder": facts["spool"].get("folder"),
        "mailers": ports & wanted["mailers"] if wanted["mailers"] else set(),
        "env": {one["name"] for one in facts["env"]},
        "files": {one["file"] for one in facts["files"]},
    }


def with_output(**output: Any) -> dict[str, Any]:
    return {"flows": {"a": {**FLOW, "outputs": [output]}}, "options": {"authOptional": True}}


AUTH: Final = {"user": "u", "pass": "env:SECRET"}

MAILERS: Final = [
    *(with_output(type="mailer", nodemailer={"service": name}) for name in NAMES if name != "SES-REGION"),
    with_output(type="mailer", nodemailer={"service": "SES-eu-west-1", "auth": AUTH}),
    with_output(type="mailer", nodemailer={"service": "Gmail", "port": 2465}),
    with_output(type="mailer", nodemailer={"service": "gmail", "port": 0, "secure": False}),
    with_output(type="nodemailer", nodemailer={"host": "a.example", "secure": True}),
    with_output(type="nodemailer", nodemailer={"host": "a.example", "port": 2525}),
    with_output(type="mailer", nodemailer="smtps://a.example"),
    with_output(type="mailer", nodemailer="smtp://a.example:26/?pool=true"),
    with_output(type="mailer"),
]

LISTENERS: Final[list[Any]] = [
    {"flows": {"a": FLOW}, "port": 2525, "bind": "localhost"},
    {"flows": {"a": FLOW}, "port": 2525, "bind": "*", "options": {"closeTimeout": "1.5s"}},
    {
        "flows": {"a": FLOW},
        "listeners": [
            {"port": 1025, "secure": False, "useProxy": False, "closeTimeout": "2m"},
            {"port": 1026, "name": "inner", "bind": "127.0.0.2"},
            {"port": 1027, "useProxy": True, "bind": "::1"},
            {"port": 1028, "useProxy": "10.0.0.0/8", "closeTimeout": 1},
        ],
        "options": {
            "secure": True,
            "useProxy": ["10.0.0.0/8", "192.0.2.7"],
            "key": "file:///tls/tls.key",
            "cert": "file:///tls/tls.crt",
        },
    },
    {
        "flows": {"a": FLOW},
        "listeners": [
            {"port": 1025},
            {"port": 1026, "pfx": "file:///tls/store.pfx", "passphrase": "secretsmanager:p"},
        ],
        "prometheus": {"portNumber": 9100, "url": "/m"},
        "health": {"portNumber": 9101},
    },
]

SPOOLS: Final[list[Any]] = [
    {"flows": {"a": FLOW}, "spool": "file:///var/spool/relay"},
    {"flows": {"a": FLOW}, "spool": {"url": "file://mails/../spool", "durability": "none"}},
    {"flows": {"a": FLOW}, "spool": {"durability": "none"}, "cachePath": "/cache/a/.email_${id}.eml"},
    {"flows": {"a": FLOW}, "cachePath": "cache/.email_${iso8601}/${id}.eml"},
    {"flows": {"a": FLOW}, "spool": "s3://b/p"},
    {"flows": {"a": FLOW}, "spool": {"url": "gs://b"}, "delivery": {"mode": "in-process"}},
    {"flows": {"a": FLOW}, "spool": "file://.", "delivery": {"mode": "events"}},
    {
        **with_output(type="mailer", nodemailer={"host": "a", "auth": AUTH}),
        "spool": {"url": "s3://b", "accessKeyId": "env:ID", "secretAccessKey": "ssm:/key"},
    },
]

TEXTS: Final[list[Any]] = [
    '\ufeff// first\n/* {"port": 1} */ {"flows": {"a": {"outputs": [{"type": "log"},],},},'
    ' /* "port": 2, */ "port": 2526,}',
    '{"flows": {"a//b": {"outputs": [{"type": "log"}],'
    ' "filters": [{"type": "whitelist", "from": ["/*", "*/ ,}"]}]}},'
    ' "mailHeaders": {"x": "a\\"//,]"}, // end\n "port": 2527}',
    "# a comment\nport: 2528\nflows:\n  a:\n    outputs: [{type: log}]\n",
]

FILES: Final = [
    path
    for folder in ("configs", "tests/unit/listener/config/examples")
    for path in sorted((ROOT / folder).iterdir())
    if path.suffix in {".jsonc", ".json"}
]

CASES: Final = [*MAILERS, *LISTENERS, *SPOOLS, *TEXTS, *(path.read_text() for path in FILES)]


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return facts_of(CASES, tmp_path_factory.mktemp("facts"))


@pytest.mark.parametrize("index", range(len(CASES)))
def test_the_chart_reads_what_the_relay_reads(
    index: int, facts: list[dict[str, Any]], tmp_path: Path
) -> None:
    wanted = expected(loaded(CASES[index], tmp_path))
    assert compared(facts[index], wanted) == wanted


def test_a_mailer_opens_its_port_and_no_other(facts: list[dict[str, Any]]) -> None:
    for found in facts[: len(MAILERS)]:
        assert len(found["ports"]) == 1


def test_an_object_is_read_as_its_text(tmp_path: Path) -> None:
    config = LISTENERS[2]
    as_object, as_text = facts_of([config, json.dumps(config)], tmp_path)
    assert as_object == as_text


def test_urls_open_their_ports(tmp_path: Path) -> None:
    filters = [
        {"type": "http-auth", "url": "http://users.svc:8080/auth"},
        {"type": "http-filter", "url": "https://judge.example"},
        {"type": "http-filter", "url": "http://other.example/x:1"},
    ]
    flow = {"filters": filters, "outputs": [{"type": "log"}]}
    (found,) = facts_of([{"flows": {"a": flow}, "$schema": "https://a.example:7/schema"}], tmp_path)
    assert [int(port) for port in found["ports"]] == [443, 80, 8080]


def test_the_token_endpoint_of_a_mailer_opens_its_port(tmp_path: Path) -> None:
    refresh = {"user": "u", "clientId": "c", "refreshToken": "file:///secrets/refresh"}
    account = {"user": "u", "serviceClient": "s", "privateKey": "env:KEY"}
    own = {**account, "accessUrl": "https://login.example:8443/token"}
    mailers = [{"host": "a.example", "port": 587, "auth": one} for one in (refresh, account, own)]
    found = facts_of([with_output(type="mailer", nodemailer=one) for one in mailers], tmp_path)
    assert [{int(port) for port in one["ports"]} for one in found] == [{587, 443}, {587, 443}, {587, 8443}]


def test_the_chart_takes_no_filter_or_output_of_the_relay_for_a_plugin(tmp_path: Path) -> None:
    kinds = {"filters": FILTER_KINDS, "outputs": OUTPUT_KINDS}
    configs = [
        {"flows": {"a": {part: [{"type": name, "path": "/smtp-relay/out"}]}}}
        for part in kinds
        for name in kinds[part]
    ]
    assert not any(one["plugins"] for one in facts_of(configs, tmp_path))


def test_every_secret_of_the_schema_is_known_to_the_chart() -> None:
    """Those that are refused in clear text, and those that no attacker gains from."""
    found: set[str] = set()

    def walk(value: Any, key: str) -> None:
        if isinstance(value, dict):
            if value.get("writeOnly"):
                found.add(key)
            for name, item in value.items():
                if name == "properties":
                    for each, part in item.items():
                        walk(part, each)
                else:
                    walk(item, key)
        elif isinstance(value, list):
            for item in value:
                walk(item, key)

    schema = json.loads((ROOT / "config.schema.json").read_text())
    for part in (schema, *schema["$defs"].values()):
        walk(part, "")
    text = (CHART / "templates" / "_facts.tpl").read_text()
    (line,) = (one for one in text.splitlines() if "$secret := has .key" in one)
    known = {word.strip('"') for word in line.split("(list ")[1].rstrip("}- )").split()}
    public = {"accessKeyId", "aws_access_key_id", "ca", "cert", "headers", "url"}
    by_other_means = {"key", "users"}  # a PEM block, and the values of `users`
    assert found == known | public | by_other_means
