"""The Kustomize base is what the chart makes, and an overlay changes it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

import kubernetes_validate
import pytest
import yaml

from functions.options.jsonc import parse
from tests.support.infra.helm import (
    KUBERNETES,
    Object,
    kubernetes_versions,
    kustomize,
    needs_helm,
    only,
    render,
)
from tests.support.servers.relay import ROOT

pytestmark = needs_helm

BASE: Final = KUBERNETES / "base"
REFERENCE: Final = ROOT / "tests" / "unit" / "listener" / "config" / "examples" / "kubernetes.json"


@pytest.fixture(scope="module")
def objects() -> list[Object]:
    return kustomize(BASE)


def test_it_is_valid(objects: list[Object]) -> None:
    for version in kubernetes_versions():
        for one in objects:
            kubernetes_validate.validate(one, version, strict=True)


def test_it_is_what_the_chart_makes(objects: list[Object]) -> None:
    """Except for the name of the ConfigMap, by which Kustomize starts the pods again."""
    config = BASE / "smtp-relay.jsonc"
    made = render(BASE / "values.yaml", "--set-file", f"config={config}", release="smtp-relay")
    name = only(objects, "ConfigMap")["metadata"]["name"]
    assert name.startswith("smtp-relay-")
    assert only(objects, "ConfigMap")["data"] == {"smtp-relay.jsonc": config.read_text()}
    for one in made:
        for label in ("app.kubernetes.io/managed-by", "helm.sh/chart"):
            del one["metadata"]["labels"][label]
        if one["kind"] == "StatefulSet":
            del one["spec"]["template"]["metadata"]["annotations"]
            (volume,) = (each for each in one["spec"]["template"]["spec"]["volumes"] if "configMap" in each)
            volume["configMap"]["name"] = name
        if one["kind"] != "ConfigMap":
            assert one == only(objects, one["kind"])
    assert {one["kind"] for one in made} == {one["kind"] for one in objects}


def test_it_mirrors_the_references_example() -> None:
    ours = parse((BASE / "smtp-relay.jsonc").read_text())
    theirs = yaml.safe_load(REFERENCE.read_text())
    assert ours["flows"] == theirs["flows"]
    given = {**theirs["options"]}
    for logger in given["loggers"]:
        logger["format"] = "json"
    assert ours["options"] == given


def test_an_overlay_replaces_configuration_image_and_region(tmp_path: Path) -> None:
    shutil.copytree(BASE, tmp_path / "base")
    overlay = tmp_path / "overlay"
    overlay.mkdir()
    mine = '{"flows": {}, "port": 10025}\n'
    (overlay / "smtp-relay.jsonc").write_text(mine)
    (overlay / "kustomization.yaml").write_text(
        """\
resources: [../base]
namespace: mail
images: [{name: smtp-relay, newName: registry.example.com/smtp-relay, newTag: "3.0.0"}]
configMapGenerator:
  - {name: smtp-relay, behavior: replace, files: [smtp-relay.jsonc]}
patches:
  - target: {kind: StatefulSet}
    patch: |
      - {op: replace, path: /spec/replicas, value: 2}
"""
    )
    found = kustomize(overlay)
    assert {one["metadata"]["namespace"] for one in found} == {"mail"}
    assert only(found, "ConfigMap")["data"] == {"smtp-relay.jsonc": mine}
    spec = only(found, "StatefulSet")["spec"]
    assert spec["replicas"] == 2
    (container,) = spec["template"]["spec"]["containers"]
    assert container["image"] == "registry.example.com/smtp-relay:3.0.0"
    (volume,) = (each for each in spec["template"]["spec"]["volumes"] if "configMap" in each)
    assert volume["configMap"]["name"] == only(found, "ConfigMap")["metadata"]["name"]
