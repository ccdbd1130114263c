"""Makes the files that Terraform deploys on AWS: the function's zip, and the settings of a
configuration.

    python -m infra.bundle.aws CONFIG --out FOLDER [--python 3.12] [--arch arm64] [--public true|false]

FOLDER then holds `function.zip`, `certificate.zip` (the function that stores a renewed certificate),
`deployment.json` (sizes, ports, the listener's configuration) and
policies as templates of Terraform: `function.policy.json.tftpl`, `listener.policy.json.tftpl`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from functions.errors import ConfigError
from infra.access.aws.statements import Place, Spool, Statement, function_statements, listener_statements
from infra.bundle.build import bundle
from infra.bundle.bytecode import missing_bytecode
from infra.bundle.deployment import Deployment, read_deployment
from infra.bundle.runtime import DEFAULT_PYTHON, RUNTIMES, Platform
from infra.bundle.source import ROOT, zip_tree

HERE: Final = Place("${partition}", "${region}", "${account}")


def write(config: Path, folder: Path, platform: Platform, *, public: bool | None = None) -> Deployment:
    """Make everything. Raises ConfigError."""
    deployment = read_deployment(config, public=public)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(bundle(config, platform), folder / "function.zip")
    with tempfile.TemporaryDirectory() as work:
        shutil.copy(ROOT / "infra" / "certificate" / "index.py", work)
        zip_tree(Path(work), folder / "certificate.zip")
    (folder / "deployment.json").write_text(_json(facts(deployment, platform)))
    encrypted = deployment.spool.sse == "aws:kms"
    spool = Spool(
        bucket="${bucket}",
        prefix=deployment.prefix,
        queue="${queue}",
        table="${table}" if deployment.needs_receipts else None,
        log_group="${log_group}",
        key="${key}" if encrypted else None,
        limits="${limits}" if deployment.needs_limits else None,
    )
    policies = {
        "function": function_statements(deployment.config, spool, HERE),
        "listener": listener_statements(deployment.config, spool, HERE),
    }
    for name, statements in policies.items():
        (folder / f"{name}.policy.json.tftpl").write_text(_json(_policy(statements)))
    return deployment


def facts(deployment: Deployment, platform: Platform) -> dict[str, Any]:
    """The content of `deployment.json`."""
    spool = deployment.spool
    return {
        "prefix": deployment.prefix,
        "kms": spool.sse == "aws:kms",
        "kms_key_id": spool.kms_key_id,
        "bucket_key": spool.bucket_key,
        "receipts": deployment.needs_receipts,
        "limits": deployment.needs_limits,
        "buses": deployment.buses,
        "concurrency": deployment.concurrency,
        "ses_concurrency": deployment.ses_concurrency,
        "public": deployment.public,
        "certificate": deployment.has_certificate,
        "certificate_secret": deployment.certificate_secret,
        "runtime": f"python{platform.python}",
        "architecture": platform.arch,
        "ports": {one.name: {"outside": one.outside, "inside": one.inside} for one in deployment.ports},
        "listener_config": deployment.listener_config,
        "listeners": deployment.listeners,
    }


def _policy(statements: list[Statement]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": statements}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m infra.bundle.aws", description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--python", default=DEFAULT_PYTHON, choices=RUNTIMES)
    parser.add_argument("--arch", default="arm64", choices=("arm64", "x86_64"))
    parser.add_argument("--public", choices=("true", "false"), help="whether strangers reach the listener")
    arguments = parser.parse_args()
    public = None if arguments.public is None else arguments.public == "true"
    try:
        platform = Platform(arguments.python, arguments.arch)
        deployment = write(arguments.config, arguments.out, platform, public=public)
    except ConfigError as mistake:
        print(f"bundle: {mistake}", file=sys.stderr)
        return 2
    without = missing_bytecode(platform)
    for line in (*deployment.warnings, *filter(None, [without])):
        print(f"warning: {line}", file=sys.stderr)
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
