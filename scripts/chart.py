"""Keep the Helm chart and the Kustomize base of infra/kubernetes/ current, and package the chart.

python scripts/chart.py                   write what is made: the chart's version, its alert rules, the base
python scripts/chart.py --check           exit 1 when a committed file differs
python scripts/chart.py --package FOLDER  write smtp-relay-VERSION.tgz, the same bytes for the same sources
"""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).resolve().parents[1]
KUBERNETES: Final = ROOT / "infra" / "kubernetes"
CHART: Final = KUBERNETES / "chart"
BASE: Final = KUBERNETES / "base"
ALERTS: Final = ROOT / "infra" / "monitoring" / "alerts.yaml"
HELM: Final = ROOT / ".state" / "helm" / "helm"

_HEADER: Final = "# Made by scripts/chart.py from the chart with values.yaml: change those, then run it.\n"
_OF_HELM: Final = ("app.kubernetes.io/managed-by", "helm.sh/chart")
_PHASES: Final = {"a": "alpha", "b": "beta", "rc": "rc", "dev": "dev"}
_VERSION: Final = re.compile(r"(\d+\.\d+\.\d+)(?:\.?(a|b|rc|dev)(\d+))?")


def semantic(version: str) -> str:
    """A version of Python's packages as Helm wants it (semver.org): 3.0.0rc1 is 3.0.0-rc.1. Raises
    ValueError."""
    found = _VERSION.fullmatch(version)
    if found is None:
        raise ValueError(f"{version!r} has no form that Helm knows (write 3.0.0, 3.0.0rc1 or 3.0.0.dev0)")
    return f"{found[1]}-{_PHASES[found[2]]}.{found[3]}" if found[2] else found[1]


def made() -> dict[Path, str]:
    """The files that are made, and their content."""
    from functions import __version__

    chart = (CHART / "Chart.yaml").read_text(encoding="utf-8")
    for key, value in (("version", semantic(__version__)), ("appVersion", __version__)):
        chart = re.sub(rf"(?m)^{key}: .*$", f"{key}: {value}", chart)
    found = {CHART / "Chart.yaml": chart}
    if ALERTS.exists():
        found[CHART / "files" / "alerts.yaml"] = ALERTS.read_text(encoding="utf-8")
    return found


def base() -> str:
    """The manifests of the base: the chart's, without what Helm and Kustomize add themselves."""
    values = ["-f", BASE / "values.yaml", "--set-file", f"config={BASE / 'smtp-relay.jsonc'}"]
    with tempfile.TemporaryDirectory() as home:
        places = {"HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home, "HELM_DATA_HOME": home}
        command = [HELM, "template", "smtp-relay", CHART, *values]
        done = subprocess.run(command, env=places, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip())
    objects = [one for one in yaml.safe_load_all(done.stdout) if one and one["kind"] != "ConfigMap"]
    for one in objects:
        _without_helm(one)
    return _HEADER + yaml.safe_dump_all(objects, sort_keys=False, width=120)


def _without_helm(one: dict[str, Any]) -> None:
    for label in _OF_HELM:
        del one["metadata"]["labels"][label]
    if one["kind"] == "StatefulSet":
        # Kustomize gives the ConfigMap a name with its digest, which starts the pods again too.
        del one["spec"]["template"]["metadata"]["annotations"]


def package(folder: Path) -> Path:
    """Write the chart as `helm package` does, but without times and owners."""
    files = {path: path.read_bytes() for path in CHART.rglob("*") if path.is_file()}
    files |= {path: text.encode() for path, text in made().items()}
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path in sorted(files, key=lambda path: (path.name != "Chart.yaml", str(path))):
            member = tarfile.TarInfo(f"smtp-relay/{path.relative_to(CHART).as_posix()}")
            member.size = len(files[path])
            archive.addfile(member, io.BytesIO(files[path]))
    version = yaml.safe_load(files[CHART / "Chart.yaml"])["version"]
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / f"smtp-relay-{version}.tgz"
    written.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    return written


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--package"] and len(arguments) == 2:
        print(package(Path(arguments[1])))
        return 0
    if arguments not in ([], ["--check"]):
        sys.exit(__doc__)
    # The base is made from what was written before.
    stale = _written(made(), check=bool(arguments))
    if HELM.exists():
        stale += _written({BASE / "relay.yaml": base()}, check=bool(arguments))
    else:
        print("the base stays: .state/helm/helm is missing (`make setup` installs it on x86-64)")
    if arguments and stale:
        print(f"{', '.join(stale)}: out of date: run python scripts/chart.py")
    return int(bool(arguments and stale))


def _written(files: dict[Path, str], *, check: bool) -> list[str]:
    """The names of the files that differed; they are written unless this is a `check`."""
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if not check:
            path.write_text(files[path], encoding="utf-8")
    return [str(path.relative_to(ROOT)) for path in stale]


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main(sys.argv[1:]))
