"""The function's zip: this project's half of the code, the packages it needs, and its configuration.

    python -m infra.bundle.build CONFIG [--python 3.12] [--arch arm64] [--out FILE]

The build needs no Docker: it takes wheels for the Lambda platform, and only those that the
configuration's outputs need. The runtime's own version of Python compiles byte-code, because a
start without it is four times slower; where that version is missing, a warning says so. The same
inputs give the same bytes, so a deployment without changes does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from functions.config import DeliveryConfig
from functions.delivery.build import needs_receipts
from functions.errors import ConfigError
from functions.options.secrets import secrets_of
from infra.bundle.bytecode import compile_all, missing_bytecode, version
from infra.bundle.lock import with_dependencies
from infra.bundle.runtime import DEFAULT_PYTHON, MACHINES, RUNTIMES, Platform
from infra.bundle.sdk import trim, trim_boto3, trim_powertools, trim_pydantic, trim_urllib3
from infra.bundle.source import (
    ROOT,
    copy_functions,
    delivery_part,
    locked,
    read_config,
    signs,
    writes_addresses,
    zip_tree,
)
from infra.bundle.wheels import install

CACHE: Final = ROOT / ".state" / "bundles"


def bundle(config: Path, platform: Platform | None = None, *, cache: Path = CACHE) -> Path:
    """The zip for a configuration's outputs. Raises ConfigError, also if there are no wheels for the
    runtime."""
    platform = platform or Platform()
    part = delivery_part(read_config(config))
    options = DeliveryConfig.model_validate(part, by_alias=True, by_name=False)
    wanted = packages(options)
    stamp = _digest(platform, wanted, options)
    tree = _installed(platform, wanted, services(options), cache, stamp)
    with tempfile.TemporaryDirectory(prefix="bundle-") as folder:
        work = Path(folder) / "task"
        shutil.copytree(tree, work, symlinks=False)
        copy_functions(work, "aws")
        (work / "relay.json").write_text(json.dumps(part, indent=1, sort_keys=True, ensure_ascii=False))
        compile_all(work, "functions", platform, ours=True)
        made = zip_tree(work, Path(folder) / "made.zip")
        target = cache / f"{config.stem}-{platform.arch}-{_file_digest(made)[:16]}.zip"
        # Another process may be reading the previous zip, which is the same.
        with tempfile.NamedTemporaryFile(dir=_made(cache), suffix=".zip", delete=False) as copy:
            copy.write(made.read_bytes())
        Path(copy.name).chmod(0o644)
        Path(copy.name).replace(target)
    return target


def packages(config: DeliveryConfig) -> dict[str, str]:
    """The distributions that the function itself imports, with their locked versions, whatever this
    environment has installed."""
    names = ["pydantic", "webencodings", "aws-lambda-powertools", "botocore"]
    if needs_receipts(config):
        names.append("boto3")
    if signs(config):
        names.append("cryptography")
    if writes_addresses(config):
        names.append("idna")
    lock = locked("aws")
    return {name: f"=={lock[name].version}" for name in names}


def services(config: DeliveryConfig) -> frozenset[str]:
    """The AWS services that the function calls."""
    found = {"s3", "sqs"}
    if needs_receipts(config):
        found.add("dynamodb")
    for flow in config.flows.values():
        for output in flow.outputs:
            found |= output.aws_services
            found |= {"ssm", "secretsmanager"} & {secret.scheme for _, secret in secrets_of(output)}
    return frozenset(found)


def _installed(
    platform: Platform, wanted: Mapping[str, str], kept: frozenset[str], cache: Path, stamp: str
) -> Path:
    """A folder with the packages, trimmed and compiled; kept between runs."""
    tree = cache / f"packages-{stamp[:16]}"
    if tree.exists():
        return tree
    with tempfile.TemporaryDirectory(prefix="packages-", dir=_made(cache)) as folder:
        target = Path(folder) / "tree"
        install(platform, with_dependencies(locked("aws"), wanted), target)
        if "boto3" in wanted:
            trim_boto3(target / "boto3", _installed_version(target, "boto3"))
            shutil.rmtree(target / "s3transfer")
        _strip(target)
        trim_pydantic(target)
        trim_powertools(target / "aws_lambda_powertools")
        trim_urllib3(target / "urllib3")
        trim(target / "botocore", kept)
        compile_all(target, ".", platform, ours=False)
        with os.scandir(cache) as entries:
            already = any(entry.name == tree.name for entry in entries)
        if not already:
            target.rename(tree)
    return tree


def _strip(target: Path) -> None:
    """Remove files that no import reads."""
    for entry in sorted(target.iterdir()):
        if entry.name.endswith(".dist-info") or entry.name == "bin":
            shutil.rmtree(entry)
    for stub in target.rglob("*.pyi"):
        stub.unlink()


def _installed_version(target: Path, name: str) -> str:
    (found,) = target.glob(f"{name}-*.dist-info")
    return found.name.removesuffix(".dist-info").partition("-")[2]


def _digest(platform: Platform, wanted: Mapping[str, str], options: DeliveryConfig) -> str:
    requirements = sorted(with_dependencies(locked("aws"), wanted).items())
    parts = [platform, requirements, sorted(services(options)), version(platform)]
    code = sorted(Path(__file__).parent.glob("*.py"))
    text = repr(parts) + "".join(file.read_text(encoding="utf-8") for file in code)
    return hashlib.sha256(text.encode()).hexdigest()


def _file_digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> int:
    """The command line; prints the zip's path."""
    parser = argparse.ArgumentParser(
        prog="python -m infra.bundle.build", description="Make the function's zip."
    )
    parser.add_argument("config", type=Path)
    parser.add_argument("--python", default=DEFAULT_PYTHON, choices=RUNTIMES)
    parser.add_argument("--arch", default="arm64", choices=sorted(MACHINES))
    parser.add_argument("--out", type=Path, help="a copy is put there")
    arguments = parser.parse_args()
    try:
        made = bundle(arguments.config, Platform(arguments.python, arguments.arch))
    except ConfigError as mistake:
        print(f"bundle: {mistake}", file=sys.stderr)
        return 2
    if arguments.out is not None:
        shutil.copyfile(made, arguments.out)
    if warning := missing_bytecode(Platform(arguments.python, arguments.arch)):
        print(f"warning: {warning}", file=sys.stderr)
    print(arguments.out or made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
