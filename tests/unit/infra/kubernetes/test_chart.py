"""The manifests that Helm makes of the chart: valid in three versions of Kubernetes, and as safe as the page
says."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from functions import __version__
from functions.options.jsonc import parse
from listener.cli.entrypoint import USER
from listener.config.load import load
from scripts import chart as script
from tests.support.infra.helm import (
    CHART,
    EXAMPLES,
    Object,
    helm,
    kubernetes_versions,
    needs_helm,
    only,
    render,
)
from tests.support.servers.relay import ROOT

pytestmark = needs_helm

VERSIONS: Final = kubernetes_versions()
DOCKERFILE: Final = (ROOT / "listener" / "Dockerfile").read_text()
CUSTOM: Final = {
    "Certificate": ("cert-manager.io/v1", {"secretName", "issuerRef", "dnsNames", "privateKey"}),
    "ServiceMonitor": ("monitoring.coreos.com/v1", {"selector", "endpoints"}),
    "PrometheusRule": ("monitoring.coreos.com/v1", {"groups"}),
}
"""Kinds that Kubernetes itself has no schema of: their version, and the keys of their spec."""

BUCKETS: Final = {"bucket-aws", "bucket-gcp"}

Rendered = dict[str, list[Object]]


@pytest.fixture(scope="module")
def rendered() -> Rendered:
    return {path.stem: render(path) for path in EXAMPLES}


def each(rendered: Rendered, kind: str) -> Iterator[tuple[str, Object]]:
    for name, objects in rendered.items():
        for one in objects:
            if one["kind"] == kind:
                yield name, one


def pods(rendered: Rendered) -> Iterator[tuple[str, dict[str, Any]]]:
    """The specs of the relay's pods, and of the tests'."""
    for kind in ("StatefulSet", "Deployment"):
        for name, one in each(rendered, kind):
            yield name, one["spec"]["template"]["spec"]
    for name, one in each(rendered, "Pod"):
        yield f"{name}'s test", one["spec"]


def relays(rendered: Rendered) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod spec and container of each relay."""
    for name, spec in pods(rendered):
        if not name.endswith(" test"):
            (container,) = spec["containers"]
            yield name, spec, container


def environ(container: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "$2b$secret") for one in container["env"]}


def configuration(objects: list[Object]) -> tuple[str, str]:
    ((name, text),) = only(objects, "ConfigMap")["data"].items()
    return name, text


def test_there_are_three_versions_and_every_kind_of_example() -> None:
    assert len(VERSIONS) == 3
    assert {path.stem for path in EXAMPLES} == {
        *BUCKETS,
        *("cert-manager", "folder", "listeners", "proxy"),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(rendered: Rendered, version: str) -> None:
    seen = set()
    for objects in rendered.values():
        for one in objects:
            seen.add(one["kind"])
            if one["kind"] not in CUSTOM:
                kubernetes_validate.validate(one, version, strict=True)
    assert seen >= {"StatefulSet", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Pod", *CUSTOM}


def test_objects_of_other_systems_have_their_shape(rendered: Rendered) -> None:
    for objects in rendered.values():
        for one in objects:
            if one["kind"] in CUSTOM:
                version, keys = CUSTOM[one["kind"]]
                assert one["apiVersion"] == version
                assert set(one["spec"]) == keys


def test_the_rules_are_those_of_the_file(rendered: Rendered) -> None:
    wanted = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    found = dict(each(rendered, "PrometheusRule"))
    assert set(found) == {"folder", "cert-manager"}
    for one in found.values():
        assert one["spec"] == wanted
        rules = [rule for group in one["spec"]["groups"] for rule in group["rules"]]
        assert {rule["alert"] for rule in rules} >= {"SmtpRelayDeadLetters", "SmtpRelaySpoolErrors"}
        assert all("smtp_relay_" in rule["expr"] for rule in rules)


def test_a_monitor_asks_where_the_metrics_are(rendered: Rendered) -> None:
    found = dict(each(rendered, "ServiceMonitor"))
    assert set(found) == {"folder", "bucket-gcp", "listeners"}
    for name, one in found.items():
        (endpoint,) = one["spec"]["endpoints"]
        config = parse(configuration(rendered[name])[1])["prometheus"]
        assert endpoint["path"] == config.get("url", "/metrics")
        services = [
            service["spec"]
            for _, service in each({name: rendered[name]}, "Service")
            if one["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            and endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
        ]
        (service,) = services
        (port,) = (one for one in service["ports"] if one["name"] == endpoint["port"])
        (_, _, container) = next(relays({name: rendered[name]}))
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        assert ports[port["targetPort"]] == config["portNumber"]


def test_a_folder_gets_a_volume_that_stays_and_a_bucket_none(rendered: Rendered) -> None:
    for name, objects in rendered.items():
        if name in BUCKETS:
            spec = only(objects, "Deployment")["spec"]
            assert "volumeClaimTemplates" not in spec
            assert not list(each({name: objects}, "StatefulSet"))
            continue
        spec = only(objects, "StatefulSet")["spec"]
        assert spec["persistentVolumeClaimRetentionPolicy"] == {
            "whenDeleted": "Retain",
            "whenScaled": "Retain",
        }
        (claim,) = spec["volumeClaimTemplates"]
        (container,) = spec["template"]["spec"]["containers"]
        mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
        _, text = configuration(objects)
        assert mounts[claim["metadata"]["name"]] == "/smtp-relay/.smtp-relay"
        assert spec["serviceName"] == only(objects, "Service", "smtp-relay")["metadata"]["name"]
        assert "spool" not in parse(text)


def test_every_mount_has_a_volume_and_every_volume_a_mount(rendered: Rendered) -> None:
    for name, spec, container in relays(rendered):
        claims = [
            claim["metadata"]["name"]
            for _, one in each({name: rendered[name]}, "StatefulSet")
            for claim in one["spec"]["volumeClaimTemplates"]
        ]
        volumes = [one["name"] for one in spec["volumes"]] + claims
        assert sorted(volumes) == sorted(one["name"] for one in container["volumeMounts"])


def test_the_configuration_is_verbatim_and_good(rendered: Rendered, tmp_path: Path) -> None:
    for name, _, container in relays(rendered):
        values = yaml.safe_load((ROOT / "infra" / "kubernetes" / "examples" / f"{name}.yaml").read_text())
        file, text = configuration(rendered[name])
        assert container["args"] == ["serve", f"/config/{file}"]
        if isinstance(values["config"], str):
            assert text == values["config"]
        else:
            assert json.loads(text) == values["config"]
        path = tmp_path / file
        path.write_text(text)
        config = load(path, environ(container))
        assert config.warnings == (), name
        assert config.health_endpoint is not None
        assert config.health_endpoint.port == dict(ports(container))["health"]
        grace = next(spec for each_name, spec, _ in relays(rendered) if each_name == name)[
            "terminationGracePeriodSeconds"
        ]
        close = max(one.options.close_timeout for one in config.resolved_listeners()) / 1000
        assert grace >= 5 + close + 30


def ports(container: dict[str, Any]) -> Iterator[tuple[str, int]]:
    for one in container["ports"]:
        yield one["name"], one["containerPort"]


def test_yaml_stays_yaml() -> None:
    text = "# mine\nflows:\n  a:\n    outputs: [{type: log}]\nport: 2525\n"
    objects = render({"config": text})
    assert configuration(objects) == ("smtp-relay.yaml", text)
    (_, spec, container) = next(relays({"a": objects}))
    assert container["args"] == ["serve", "/config/smtp-relay.yaml"]
    assert dict(ports(container))["smtp-2525"] == 2525
    assert spec["terminationGracePeriodSeconds"] == 5 + 60 + 30 + 30


def test_another_configuration_starts_the_pods_again() -> None:
    def checksum(text: str) -> str:
        template = only(render({"config": text}), "StatefulSet")["spec"]["template"]
        found: str = template["metadata"]["annotations"]["checksum/config"]
        return found

    one, same, other = '{"flows": {}}', '{"flows": {}}', '{"flows": {}} '
    assert checksum(one) == checksum(same) != checksum(other)


def test_no_secret_is_in_an_object(rendered: Rendered) -> None:
    for name, objects in rendered.items():
        assert not list(each({name: objects}, "Secret"))
    for name, _, container in relays(rendered):
        values = yaml.safe_load((ROOT / "infra" / "kubernetes" / "examples" / f"{name}.yaml").read_text())
        found = {
            one["name"]: one["valueFrom"]["secretKeyRef"] for one in container["env"] if "valueFrom" in one
        }
        assert found == values.get("secretEnv", {})


def test_secrets_become_files_whatever_their_names() -> None:
    config = {
        "flows": {
            "a": {"outputs": [{"type": "mailer", "dkim": key("a/k")}, {"type": "mailer", "dkim": key("b/k")}]}
        }
    }
    config["flows"]["a"]["outputs"][1]["name"] = "second"
    folders = {"dkim.example.com": "/keys/a", "x" * 80: "/keys/b"}
    objects = render({"config": config, "secretFiles": folders})
    (_, spec, container) = next(relays({"a": objects}))
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    volumes = {one["name"]: one for one in spec["volumes"]}
    for secret, folder in folders.items():
        assert volumes[mounts[folder]]["secret"] == {"secretName": secret, "defaultMode": 0o440}
    for one in objects:
        kubernetes_validate.validate(one, VERSIONS[-1], strict=True)


def key(path: str) -> dict[str, str]:
    return {"domainName": "example.com", "keySelector": "s", "privateKey": f"file:///keys/{path}"}


def test_a_pod_may_do_nothing(rendered: Rendered) -> None:
    for name, spec in pods(rendered):
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is False
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["fsGroup"] == USER
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = spec["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "limits" in container["resources"]
    assert f"--uid {USER} " in DOCKERFILE


def test_probes_ask_health(rendered: Rendered) -> None:
    for _, _, container in relays(rendered):
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_a_port_below_1024_is_permitted_to_the_user() -> None:
    def sysctls(port: int) -> object:
        spec = only(render({"config": {"flows": {}, "port": port}}), "StatefulSet")["spec"]["template"][
            "spec"
        ]
        return spec["securityContext"].get("sysctls")

    assert sysctls(1024) is None
    assert sysctls(25) == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]


def services(objects: list[Object]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one["spec"] for _, one in each({"a": objects}, "Service")}


def routes(service: dict[str, Any]) -> dict[int, str]:
    return {one["port"]: one["targetPort"] for one in service["ports"] if one["name"].startswith("smtp")}


def test_listeners_with_proxy_headers_are_for_the_balancer_alone(rendered: Rendered) -> None:
    found = services(rendered["proxy"])
    assert routes(found["relay-smtp-relay"]) == {25: "smtp-10026"}
    assert routes(found["relay-smtp-relay-lb"]) == {25: "smtp-10025"}
    assert found["relay-smtp-relay-lb"]["externalTrafficPolicy"] == "Cluster"
    assert "type" not in found["relay-smtp-relay"]


def test_a_balancer_without_proxy_headers_keeps_addresses(rendered: Rendered) -> None:
    for name, wanted in {
        "bucket-aws": {25: "smtp-10025"},
        "listeners": {587: "smtp-10587", 465: "smtp-10465"},
    }.items():
        service = services(rendered[name])["relay-smtp-relay-lb"]
        assert service["externalTrafficPolicy"] == "Local"
        assert routes(service) == wanted
    restricted = services(rendered["cert-manager"])["relay-smtp-relay-lb"]
    assert restricted["loadBalancerSourceRanges"] == ["192.0.2.0/24"]


def test_services_lead_to_the_relay_and_not_to_the_test(rendered: Rendered) -> None:
    for name, objects in rendered.items():
        kind = "Deployment" if name in BUCKETS else "StatefulSet"
        labels = only(objects, kind)["spec"]["template"]["metadata"]["labels"]
        for service in services(objects).values():
            assert service["selector"].items() <= labels.items()
            for _, pod in each({name: objects}, "Pod"):
                assert not service["selector"].items() <= pod["metadata"]["labels"].items()


def outwards(objects: list[Object]) -> set[int]:
    """Ports that pods may reach anywhere, without DNS."""
    rules = only(objects, "NetworkPolicy")["spec"]["egress"]
    return {port["port"] for rule in rules if "to" not in rule for port in rule["ports"]} - {53}


def test_the_network_policy_permits_what_the_configuration_needs(rendered: Rendered) -> None:
    assert {name: outwards(objects) for name, objects in rendered.items()} == {
        "folder": {587},
        "bucket-aws": {443},
        "bucket-gcp": {443},
        "proxy": {25},
        "cert-manager": {443},
        "listeners": {587, 8080},
    }
    for name, _, container in relays(rendered):
        spec = only(rendered[name], "NetworkPolicy")["spec"]
        smtp = {port["port"] for port in spec["ingress"][0]["ports"]}
        assert smtp == {number for port, number in ports(container) if port.startswith("smtp")}
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        assert spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "relay"


def test_the_test_may_send_where_only_some_may() -> None:
    peer = {"namespaceSelector": {"matchLabels": {"mail": "allowed"}}}
    values = {"config": {"flows": {}}, "networkPolicy": {"from": [peer]}}

    def peers(objects: list[Object]) -> list[Any]:
        found: list[Any] = only(objects, "NetworkPolicy")["spec"]["ingress"][0]["from"]
        return found

    assert peers(render(values)) == [peer]
    objects = render({**values, "test": {"to": "a@example.com"}})
    labels = only(objects, "Pod")["metadata"]["labels"]
    assert peers(objects)[0] == peer
    assert peers(objects)[1]["podSelector"]["matchLabels"].items() <= labels.items()


def test_credentials_of_both_clouds_can_be_asked_for(rendered: Rendered) -> None:
    def addresses(name: str) -> set[str]:
        rules = only(rendered[name], "NetworkPolicy")["spec"]["egress"]
        return {to["ipBlock"]["cidr"] for rule in rules for to in rule.get("to", ())}

    assert addresses("folder") == set()
    assert addresses("bucket-aws") == {"169.254.170.23/32"}
    assert addresses("bucket-gcp") == {"169.254.169.252/32", "169.254.169.254/32"}


def test_a_function_that_delivers_needs_no_way_out_of_the_listener() -> None:
    mailer = {"type": "mailer", "nodemailer": {"host": "a.example", "port": 2525}}
    config = {"flows": {"a": {"outputs": [mailer]}}, "spool": "s3://b"}
    assert outwards(render({"config": config})) == {443}
    assert outwards(render({"config": {**config, "delivery": {"mode": "in-process"}}})) == {443, 2525}


def test_a_plugin_may_ask_anything() -> None:
    objects = render({"config": {"flows": {"a": {"outputs": [{"type": "my-output"}]}}}})
    assert only(objects, "NetworkPolicy")["spec"]["egress"][0] == {}


def test_what_is_switched_off_is_not_there() -> None:
    off = ("networkPolicy.enabled", "podDisruptionBudget.enabled", "serviceAccount.create")
    objects = render({"config": {"flows": {}}}, *(part for one in off for part in ("--set", f"{one}=false")))
    assert sorted(one["kind"] for one in objects) == ["ConfigMap", "Service", "StatefulSet"]
    assert only(objects, "StatefulSet")["spec"]["template"]["spec"]["serviceAccountName"] == "default"


def test_only_the_pods_that_stop_wait_for_a_folder(rendered: Rendered) -> None:
    for name, _, container in relays(rendered):
        command = " ".join(container["lifecycle"]["preStop"]["exec"]["command"])
        assert ("smtp-relay queue" in command) is (name not in BUCKETS)


def test_a_digest_stands_for_the_tag() -> None:
    digest = "sha256:" + "0" * 64
    values = {
        "config": {"flows": {}},
        "image": {"repository": "r.example/relay", "tag": "1", "digest": digest},
    }
    (_, _, container) = next(relays({"a": render(values)}))
    assert container["image"] == f"r.example/relay@{digest}"
    (_, _, container) = next(relays({"a": render({"config": {"flows": {}}})}))
    assert container["image"] == f"smtp-relay:{__version__}"


@pytest.mark.parametrize(
    ("release", "name"), [("smtp-relay", "smtp-relay"), ("mail", "mail-smtp-relay"), ("r" * 53, "r" * 52)]
)
def test_names_come_from_the_release(release: str, name: str) -> None:
    objects = render({"config": {"flows": {}}}, release=release)
    assert only(objects, "StatefulSet")["metadata"]["name"] == name


def test_helm_finds_no_fault() -> None:
    done = helm("lint", "--strict", CHART, *(part for path in EXAMPLES[:1] for part in ("-f", str(path))))
    assert done.returncode == 0, done.stdout
    assert "[ERROR]" not in done.stdout
    assert "[WARNING]" not in done.stdout


def test_every_value_is_in_the_schema_and_has_a_default() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
    for name, part in schema["properties"].items():
        if part.get("additionalProperties") is False:
            assert set(part["properties"]) == set(values[name]), name


def test_the_notes_say_where_to_send_and_how_to_look_into_the_spool(tmp_path: Path) -> None:
    """Helm renders notes at an installation only, so a copy of the chart has them as a manifest."""
    copy = tmp_path / "chart"
    shutil.copytree(CHART, copy)
    notes = (copy / "templates" / "NOTES.txt").read_text()
    (copy / "templates" / "_notes.tpl").write_text('{{- define "notes" -}}' + notes + "{{- end -}}")
    (copy / "templates" / "notes.yaml").write_text('notes: {{ include "notes" . | toJson }}')
    texts = {}
    for path in EXAMPLES:
        done = helm(
            "template", "relay", copy, "-f", path, "--show-only", "templates/notes.yaml", "-n", "mail"
        )
        texts[path.stem] = yaml.safe_load(done.stdout)["notes"]
    assert "\n  relay-smtp-relay.mail:25\n" in texts["proxy"]
    assert "\n  relay-smtp-relay.mail:465 (TLS from the first byte)" in texts["cert-manager"]
    for name, text in texts.items():
        assert ("smtp-relay queue -c /config/smtp-relay.jsonc" in text) is (name not in BUCKETS)
        assert "helm test relay --namespace mail" in text


@pytest.mark.parametrize(
    ("version", "semantic"),
    [
        ("3.0.0", "3.0.0"),
        ("3.1.0rc2", "3.1.0-rc.2"),
        ("3.0.0.dev0", "3.0.0-dev.0"),
        ("4.0.0a1", "4.0.0-alpha.1"),
    ],
)
def test_a_version_has_helms_form(version: str, semantic: str) -> None:
    assert script.semantic(version) == semantic


@pytest.mark.parametrize("version", ["3.0", "3.0.0.post1", "3.0.0+local", "v3.0.0"])
def test_a_version_without_a_form_of_helms_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="has no form that Helm knows"):
        script.semantic(version)


def test_what_is_made_is_current() -> None:
    assert script.main(["--check"]) == 0


def test_a_package_has_the_same_bytes_and_renders_the_same(tmp_path: Path) -> None:
    one, other = script.package(tmp_path / "a"), script.package(tmp_path / "b")
    assert one.read_bytes() == other.read_bytes()
    assert one.name == f"smtp-relay-{script.semantic(__version__)}.tgz"
    shown = helm("show", "chart", one)
    assert yaml.safe_load(shown.stdout)["appVersion"] == __version__
    for path in EXAMPLES:
        assert render(path, chart=one) == render(path)
