"""Makes the files that Terraform deploys to Google Cloud, before `terraform apply`.

    python -m infra.bundle.gcp CONFIG [--out FOLDER]

The folder then holds `function.zip` (the function's source: this project's half of the code, its
requirements, its configuration; Google installs the packages), `relay.json` (the listener's
configuration as plain JSON, with the logs that alerts need) and `access.json` (the outputs' targets
and each half's secrets, from which Terraform makes the permissions). The same inputs give the same
bytes, so a deployment without changes does nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from infra.access.gcp import access
from infra.bundle.lock import with_dependencies
from infra.bundle.source import (
    copy_functions,
    delivery_part,
    locked,
    read_config,
    signs,
    writes_addresses,
    zip_tree,
)

OUT: Final = Path("build")

ENTRY_POINT: Final = "handle"

HEALTH: Final = 9090

HEALTH_INTERVAL: Final = 60_000
"""Milliseconds between the listener's log lines about health, which the alert `healthy` counts."""

_MAIN: Final = '''"""Where Google looks for the function: the code is in functions/gcp/main.py."""

from functions.gcp.main import handle

__all__ = ["handle"]
'''


def source(config: Path, target: Path) -> Path:
    """The function's source zip at `target`. Raises ConfigError."""
    part = delivery_part(read_config(config))
    options = DeliveryConfig.model_validate(part, by_alias=True, by_name=False)
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        work = Path(folder)
        copy_functions(work, "gcp")
        (work / "main.py").write_text(_MAIN, encoding="utf-8")
        (work / "requirements.txt").write_text(_locked(options), encoding="utf-8")
        (work / "relay.json").write_text(_plain(part), encoding="utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        return zip_tree(work, target)


def requirements(config: DeliveryConfig) -> str:
    """The distributions that the function itself imports, in pip's form, with their locked versions."""
    lock = locked("gcp")
    return "".join(f"{name}=={lock[name].version}\n" for name in _imported(config))


def _locked(config: DeliveryConfig) -> str:
    """The same and all that they need, with hashes: Google's pip installs nothing else."""
    found = with_dependencies(locked("gcp"), _imported(config))
    return "".join(f"{name}{requirement}\n" for name, requirement in found.items())


def _imported(config: DeliveryConfig) -> list[str]:
    names = ["functions-framework", "google-cloud-pubsub", "google-cloud-storage", "pydantic", "webencodings"]
    if signs(config):
        names.append("cryptography")
    if writes_addresses(config):
        names.append("idna")
    return sorted(names)


def build(config: Path, folder: Path) -> dict[str, Path]:
    """Everything that Terraform reads, by file name. Raises ConfigError."""
    found = access(config)
    made = {"function.zip": source(config, folder / "function.zip")}
    for name, content in (("relay.json", listener_config(read_config(config))), ("access.json", found)):
        made[name] = folder / name
        made[name].write_text(_plain(content), encoding="utf-8")
    return made


def listener_config(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The file's content with the deployment's defaults: JSON logs that report health."""
    value = dict(raw)
    if "loggers" not in value and "loggers" not in (value.get("options") or {}):
        value["loggers"] = [{"type": "CONSOLE", "format": "json"}]
    value["health"] = {"portNumber": HEALTH, **(value.get("health") or {}), "logInterval": HEALTH_INTERVAL}
    return value


def _plain(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> int:
    """The command line; prints the files that it made."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.bundle.gcp", description="Make what Terraform deploys to Google Cloud."
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, default=OUT, help="the folder, ./build by default")
    arguments = parser.parse_args()
    try:
        made = build(arguments.config, arguments.out)
    except ConfigError as mistake:
        print(f"bundle: {mistake}", file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
