"""Makes the files that Terraform deploys to Google Cloud, before `terraform apply`.

    python -m infra.bundle.gcp CONFIG [--out FOLDER] [--public true|false]

The folder then holds `function.zip` (the function's source: this project's half of the code, its
requirements, its configuration; Google installs the packages), `relay.json` (the listener's
configuration as plain JSON, with the logs that alerts need), `access.json` (the outputs' targets and each
half's secrets, from which Terraform makes the permissions) and `deployment.json` (sizes, and what the
configuration needs of the network). The same inputs give the same bytes, so a deployment without changes
does nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.config import DeliveryConfig
from functions.errors import ConfigError
from infra.access.gcp import access
from infra.bundle.deployment import CLIENTS_PER_ADDRESS, concurrency, examine, sends_mail, with_limit
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
from listener.checks.finding import Setting
from listener.config.load import load

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig

OUT: Final = Path("build")

ENTRY_POINT: Final = "handle"

HEALTH: Final = 9090

_ANY: Final = "0.0.0.0"  # noqa: S104 - the container's own address

HEALTH_INTERVAL: Final = 60_000
"""Milliseconds between the listener's log lines about health, which the alert `healthy` counts."""

THREADS: Final = 8
"""Requests that one instance of the function handles at a time, if concurrency allows two such instances."""

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


def build(config: Path, folder: Path, *, public: bool | None = None) -> dict[str, Path]:
    """Everything that Terraform reads, by file name. `public` says if strangers reach the listener; None
    means yes, and is refused if an output sends mail on. Warnings go to stderr. Raises ConfigError."""
    found = access(config)
    whole = load(config, {**os.environ, "SMTP_RELAY_SPOOL": "gs://spool", "SMTP_RELAY_DEFAULT_BIND": _ANY})
    reached = _reached(config, whole, public)
    contents = {
        "relay.json": listener_config(read_config(config), public=reached),
        "access.json": found,
        "deployment.json": facts(whole, public=reached),
    }
    made = {"function.zip": source(config, folder / "function.zip")}
    for name, content in contents.items():
        made[name] = folder / name
        made[name].write_text(_plain(content), encoding="utf-8")
    return made


def facts(config: RelayConfig, *, public: bool) -> dict[str, Any]:
    """The content of `deployment.json`. Threads times instances are at most `delivery.concurrency`, and there
    are two instances, so that a replaced one stops no deliveries."""
    most = concurrency(config)
    threads = min(THREADS, most // 2)
    return {
        "public": public,
        "threads": threads,
        "max_instances": most // threads,
        # Machines without public addresses reach servers on the internet by Cloud NAT.
        "nat": any(one.asks_others for flow in config.flows.values() for one in flow.filters),
    }


def _reached(path: Path, config: RelayConfig, public: bool | None) -> bool:
    """True if strangers reach the listener. Prints warnings. Raises ConfigError if it is not said and has to
    be, or for a configuration that must not be deployed so."""
    if public is None and sends_mail(config):
        raise ConfigError(
            str(path),
            "an output sends mail on, and it is not said whether strangers may reach the listener",
            "say --public false, or --public true for listener=external",
        )
    reached = public is not False
    config = with_limit(config) if reached else config
    setting = Setting.of(path.parent, {}, public=reached, offline=True)
    for line in examine(path, config, setting):
        print(f"warning: {line}", file=sys.stderr)
    return reached


def listener_config(raw: Mapping[str, Any], *, public: bool = False) -> dict[str, Any]:
    """The file's content with the deployment's defaults: JSON logs that report health, and a limit for the
    connections of one stranger."""
    value = dict(raw)
    if public and "maxClientsPerIp" not in (value.get("options") or {}):
        value["options"] = {**(value.get("options") or {}), "maxClientsPerIp": CLIENTS_PER_ADDRESS}
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
    parser.add_argument("--public", choices=("true", "false"), help="whether strangers reach the listener")
    arguments = parser.parse_args()
    public = None if arguments.public is None else arguments.public == "true"
    try:
        made = build(arguments.config, arguments.out, public=public)
    except ConfigError as mistake:
        print(f"bundle: {mistake}", file=sys.stderr)
        return 2
    print("\n".join(str(path) for path in made.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
