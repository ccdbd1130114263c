"""docs/kubernetes.md: its commands render the chart, and its names exist."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from typing import Final

import pytest
import yaml

from scripts.docs_check import Block, read
from tests.support.infra.helm import CHART, EXAMPLES, KUBERNETES, helm, kustomize, needs_helm, only, render
from tests.support.servers.relay import ROOT

pytestmark = needs_helm

PAGE: Final = ROOT / "docs" / "kubernetes.md"


def blocks(language: str) -> list[Block]:
    return [block for block in read(PAGE).blocks if block.language == language]


def commands(program: str) -> list[list[str]]:
    lines = [line for block in blocks("sh") for line in block.text.splitlines()]
    return [words for words in map(shlex.split, lines) if words[0] == program]


def test_what_is_installed_can_be_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    made = [words for words in commands("helm") if words[1] in ("install", "upgrade")]
    assert len(made) == 2
    for words in made:
        done = helm("template", *words[2:])
        assert done.returncode == 0, done.stderr
        objects = list(yaml.safe_load_all(done.stdout))
        image = only(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["image"]
        assert any(word.partition("=")[2] in image for word in words if word.startswith("image."))


def test_a_release_is_tested_that_was_installed() -> None:
    (tested,) = (words for words in commands("helm") if words[1] == "test")
    assert tested[2] in {words[2] for words in commands("helm") if words[1] == "install"}


def test_names_of_a_cluster_are_those_of_the_chart() -> None:
    objects = render(EXAMPLES_BY_NAME["folder"], release="smtp-relay")
    workload = only(objects, "StatefulSet")["metadata"]["name"]
    (executed,) = (words for words in commands("kubectl") if words[1] == "exec")
    assert executed[2] == f"{workload}-1"
    assert executed[-1] in only(objects, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]["args"]
    (scaled,) = (words for words in commands("kubectl") if words[1] == "scale")
    assert scaled[2:4] == ["statefulset", workload]
    (created,) = (words for words in commands("kubectl") if words[1] == "create")
    values = yaml.safe_load(EXAMPLES_BY_NAME["folder"].read_text())
    (secret,) = values["secretEnv"].values()
    assert created[4] == secret["name"]
    assert created[5].startswith(f"--from-literal={secret['key']}=")
    claim = only(objects, "StatefulSet")["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    assert f"`{claim}-{workload}-N`" in PAGE.read_text()
    service = only(objects, "Service", "smtp-relay")
    assert f"`{workload}:{service['spec']['ports'][0]['port']}`" in PAGE.read_text()


EXAMPLES_BY_NAME: Final = {path.stem: path for path in EXAMPLES}


def test_every_example_is_linked() -> None:
    text = PAGE.read_text()
    assert {path.name for path in EXAMPLES} - {"listeners.yaml"} <= set(
        re.findall(r"examples/([\w-]+\.yaml)", text)
    )


def test_every_value_that_the_page_names_exists() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    table = re.findall(r"^(`[^|]+) \|", PAGE.read_text(), re.MULTILINE)
    for name in re.findall(r"`([\w.]+)`", " ".join(table)):
        holder = values
        for step in name.split("."):
            assert step in holder, name
            holder = holder[step]
    assert f"(`drainSeconds`, {values['drainSeconds']})" in PAGE.read_text()


def test_the_overlay_can_be_built(tmp_path: Path) -> None:
    shutil.copytree(KUBERNETES / "base", tmp_path / "base")
    (tmp_path / "mine").mkdir()
    (block,) = blocks("yaml")
    (tmp_path / "mine" / "kustomization.yaml").write_text(block.text)
    (tmp_path / "mine" / "smtp-relay.jsonc").write_text('{"flows": {}}')
    objects = kustomize(tmp_path / "mine")
    assert only(objects, "ConfigMap")["data"] == {"smtp-relay.jsonc": '{"flows": {}}'}


def test_make_packages_the_chart_as_the_page_says() -> None:
    recipe = re.search(r"^chart:.*\n\t(.*)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert recipe[1].endswith("scripts/chart.py --package dist")
    assert "`make chart`\npackages the chart into `dist/`" in PAGE.read_text()
