"""Helm and kubectl as scripts/setup.py installs them: rendered charts, and the one line of a refusal."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from tests.support.servers.relay import ROOT

PROGRAMS: Final = ROOT / ".state" / "helm"
KUBERNETES: Final = ROOT / "infra" / "kubernetes"
CHART: Final = KUBERNETES / "chart"
EXAMPLES: Final = sorted((KUBERNETES / "examples").glob("*.yaml"))

needs_helm: Final = pytest.mark.skipif(
    not (PROGRAMS / "helm").exists(), reason=".state/helm/helm is missing (scripts/setup.py packages)"
)

Object = dict[str, Any]


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run helm, with a home of its own."""
    return _run("helm", *arguments)


def kustomize(folder: Path) -> list[Object]:
    """The objects that `kubectl kustomize` makes of a folder."""
    done = _run("kubectl", "kustomize", folder)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def render(
    values: Path | Mapping[str, Any] | None = None, *more: str, release: str = "relay", chart: Path = CHART
) -> list[Object]:
    """The objects of a release; the pod of `helm test` is among them."""
    done = _template(values, *more, release=release, chart=chart)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
    return [one for one in yaml.safe_load_all(done.stdout) if one]


def refusal(values: Mapping[str, Any], *more: str) -> str:
    """The reason that the chart gives for not rendering; it is one line."""
    done = _template(values, *more, release="relay", chart=CHART)
    assert done.returncode != 0, done.stdout
    lines = [line for line in done.stderr.splitlines() if line and not line.startswith("Use --debug")]
    assert len(lines) == 1, done.stderr
    where, _, reason = lines[0].partition("): ")
    assert where.startswith("Error: execution error at ("), lines[0]
    return reason


def only(objects: list[Object], kind: str, suffix: str = "") -> Object:
    """The only object of a kind, whose name ends so."""
    (found,) = (one for one in objects if one["kind"] == kind and one["metadata"]["name"].endswith(suffix))
    return found


def kubernetes_versions() -> list[str]:
    """The three newest versions of Kubernetes whose schemas are here."""
    every = kubernetes_validate.utils.all_versions()
    return list(dict.fromkeys(every))[-3:]


def _template(
    values: Path | Mapping[str, Any] | None, *more: str, release: str, chart: Path
) -> subprocess.CompletedProcess[str]:
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values if isinstance(values, Mapping) else {}, file)
        file.flush()
        path = values if isinstance(values, Path) else Path(file.name)
        return helm("template", release, chart, "-f", path, *more)


def _run(program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    with tempfile.TemporaryDirectory() as home:
        places = {f"HELM_{kind}_HOME": home for kind in ("CACHE", "CONFIG", "DATA")}
        return subprocess.run(
            [PROGRAMS / program, *arguments],
            env={**places, "HOME": home},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
