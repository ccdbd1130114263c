"""The function's zip: this project's half of the code, the packages it needs, and its configuration.

    python -m infra.bundle.build CONFIG [--python 3.12] [--arch arm64] [--out FILE]

Made without Docker, from wheels for the Lambda platform, with what the configuration's outputs need
and no more. Byte-code is compiled by the runtime's own version of Python, since a start without it is
four times slower. The same inputs give the same bytes, so that a deployment without changes is none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from functions.building import needs_receipts
from functions.config import DeliveryConfig
from functions.errors import ConfigError
from functions.outputs import type_of
from functions.secrets import secrets_of
from infra.bundle.sdk import trim, trim_boto3, trim_powertools, trim_pydantic, trim_urllib3

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".state" / "bundles"


@dataclass(frozen=True, slots=True)
class Linux:
    """The system under a runtime of Lambda. `glibc`: the minor version of its C library, 2.x."""

    name: str
    glibc: int


_LINUX_2: Final = Linux("Amazon Linux 2", 26)
_LINUX_2023: Final = Linux("Amazon Linux 2023", 34)

RUNTIMES: Final[Mapping[str, Linux]] = {
    "3.11": _LINUX_2,
    "3.12": _LINUX_2023,
    "3.13": _LINUX_2023,
    "3.14": _LINUX_2023,
}
"""Python versions that Lambda runs, and on what (docs.aws.amazon.com, "Lambda runtimes")."""

THIS_PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The version of this Python."""

_MACHINES: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
_OLDEST: Final = 5  # manylinux1 is manylinux_2_5 (PEP 600)
_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold
_TASK: Final = "/var/task"  # where Lambda puts the zip's content

_LOCAL: Final = (
    "functions/local.py",
    "functions/local_commits.py",
    "functions/local_deadletter.py",
    "functions/local_flush.py",
    "functions/local_messages.py",
    "functions/local_receipts.py",
    "functions/local_runs.py",
    "functions/local_schedule.py",
    "functions/local_store.py",
    "functions/local_sweep.py",
    "functions/folder.py",
    "functions/kept.py",
)
_FILE: Final = (
    "functions/processors/file.py",
    "functions/processors/landing.py",
    "functions/processors/rename.py",
    "functions/processors/traces.py",
)
_IN_PROCESS: Final = (
    "functions/bucket_local.py",
    "functions/aws/in_process.py",
    "functions/gcp/in_process.py",
    "functions/processors/held.py",
)

LEFT_OUT: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("functions/gcp", *_LOCAL, *_FILE, *_IN_PROCESS),
    "gcp": ("functions/aws", *_LOCAL, *_FILE, *_IN_PROCESS),
}
"""Folders and modules that the function on a cloud does not need: the other cloud's, and those of a
process that delivers by itself. The rest of functions/ is in the bundle."""


@dataclass(frozen=True, slots=True)
class Platform:
    """What the function runs on: a version of Python, and `arm64` or `x86_64`."""

    python: str = THIS_PYTHON
    arch: str = "arm64"

    def __post_init__(self) -> None:
        if self.python not in RUNTIMES or self.arch not in _MACHINES:
            raise ConfigError(f"platform {self.python} {self.arch}", "is not one of Lambda's")

    def __str__(self) -> str:
        linux = RUNTIMES[self.python]
        return f"python{self.python} on {self.arch} ({linux.name}, glibc 2.{linux.glibc})"

    @property
    def tags(self) -> list[str]:
        """Platform tags (PEP 600) of the wheels whose C library is no newer than the runtime's, best
        first. Wheels for a newer one, or for musl, do not load there."""
        machine, newest = _MACHINES[self.arch], RUNTIMES[self.python].glibc
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, _OLDEST - 1, -1)]
        return [*tags, f"manylinux2014_{machine}"]  # pip adds manylinux2010 and manylinux1


def bundle(config: Path, platform: Platform | None = None, *, cache: Path = CACHE) -> Path:
    """The zip for a configuration's outputs. Raises ConfigError, also where the runtime has no wheels."""
    platform = platform or Platform()
    _interpreter(platform)
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
        _compile(work, "functions", platform, ours=True)
        made = zip_tree(work, Path(folder) / "made.zip")
        target = cache / f"{config.stem}-{platform.arch}-{_file_digest(made)[:16]}.zip"
        # Others may be reading the one of before, which is the same.
        with tempfile.NamedTemporaryFile(dir=_made(cache), suffix=".zip", delete=False) as copy:
            copy.write(made.read_bytes())
        Path(copy.name).chmod(0o644)
        Path(copy.name).replace(target)
    return target


def delivery_part(value: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that the function reads: the listener's secrets stay behind."""
    part: dict[str, Any] = {
        name: value[name] for name in ("spool", "delivery", "cachePath", "keepCache") if name in value
    }
    flows = value.get("flows")
    part["flows"] = {
        name: {"outputs": flow.get("outputs", [])}
        for name, flow in (flows.items() if isinstance(flows, Mapping) else ())
    }
    return part


def packages(config: DeliveryConfig) -> dict[str, str]:
    """The distributions that the function imports itself, with their versions: those of this
    environment, which the tests ran with, else the ranges of pyproject.toml."""
    names = ["pydantic", "aws-lambda-powertools", "botocore"]
    if needs_receipts(config):
        names.append("boto3")
    if signs(config):
        names.append("cryptography")
    return {name: pinned(name) for name in names}


def services(config: DeliveryConfig) -> frozenset[str]:
    """The AWS services that the function calls."""
    found = {"s3", "sqs"}
    if needs_receipts(config):
        found.add("dynamodb")
    for flow in config.flows.values():
        for output in flow.outputs:
            if getattr(output, "ses", None) is not None:
                found.add("sesv2")
            if getattr(output, "assume_role", None) is not None:
                found.add("sts")
            found |= {"ssm", "secretsmanager"} & {secret.scheme for _, secret in secrets_of(output)}
    return frozenset(found)


def signs(config: DeliveryConfig) -> bool:
    """Whether an output signs mails."""
    outputs = [output for flow in config.flows.values() for output in flow.outputs]
    mailers = [each for each in outputs if type_of(each) in ("mailer", "nodemailer")]
    return any("dkim" in path.lower() for each in mailers for path, _ in secrets_of(each))


def pinned(name: str) -> str:
    """The version of a distribution, as pip writes it: this environment's, else the project's range."""
    try:
        return f"=={metadata.version(name)}"
    except metadata.PackageNotFoundError:
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        extras = project["optional-dependencies"]
        for line in [*project["dependencies"], *extras["aws"], *extras["gcp"], *extras["listener"]]:
            if line.startswith(name) and not line[len(name)].isalnum():
                return str(line[len(name) :])
        return ""


def read_config(config: Path) -> Mapping[str, Any]:
    """The file as it stands. Raises ConfigError."""
    from listener.config_file import read

    return read(config, {}).value


def _installed(
    platform: Platform, wanted: Mapping[str, str], kept: frozenset[str], cache: Path, stamp: str
) -> Path:
    """A folder with the packages, trimmed and compiled; kept between runs."""
    tree = cache / f"packages-{stamp[:16]}"
    if tree.exists():
        return tree
    with tempfile.TemporaryDirectory(prefix="packages-", dir=_made(cache)) as folder:
        target = Path(folder) / "tree"
        install(platform, wanted, target)
        if "boto3" in wanted:
            trim_boto3(target / "boto3", _installed_version(target, "boto3"))
            shutil.rmtree(target / "s3transfer")
        _strip(target)
        trim_pydantic(target)
        trim_powertools(target / "aws_lambda_powertools")
        trim_urllib3(target / "urllib3")
        trim(target / "botocore", kept)
        _compile(target, ".", platform, ours=False)
        with os.scandir(cache) as entries:
            already = any(entry.name == tree.name for entry in entries)
        if not already:
            target.rename(tree)
    return tree


def install(platform: Platform, wanted: Mapping[str, str], target: Path) -> None:
    """Put wheels that load on the platform, of these distributions and of all that they need, into a
    folder. Raises ConfigError where pip finds none."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--no-compile", "--only-binary=:all:", "--implementation=cp"]
    command += [f"--python-version={platform.python}", f"--target={target}"]
    command += [f"--platform={tag}" for tag in platform.tags]
    command += [f"{name}{version}" for name, version in wanted.items()]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise _no_wheels(platform, done.stderr)


def _no_wheels(platform: Platform, said: str) -> ConfigError:
    """What pip said, in one line."""
    errors = [line.removeprefix("ERROR: ") for line in said.splitlines() if line.startswith("ERROR: ")]
    missing = [line for line in errors if line.startswith("No matching distribution")]
    reason = " ".join([*missing, *errors, said][0].split())
    if not missing or "Retrying (" in said:  # the index does not answer, or there is no pip
        return ConfigError(str(platform), f"pip cannot install the function's packages: {reason}")
    glibc = RUNTIMES[platform.python].glibc
    newer = [f"deploy for python {python}" for python, linux in RUNTIMES.items() if linux.glibc > glibc]
    own = "install a version that has one, since the bundle takes the versions of this environment"
    return ConfigError(str(platform), f"no wheel loads there: {reason}", ", or ".join([*newer[:1], own]))


def _strip(target: Path) -> None:
    """Away with what no import reads."""
    for entry in sorted(target.iterdir()):
        if entry.name.endswith(".dist-info") or entry.name == "bin":
            shutil.rmtree(entry)
    for stub in target.rglob("*.pyi"):
        stub.unlink()


def _installed_version(target: Path, name: str) -> str:
    (found,) = target.glob(f"{name}-*.dist-info")
    return found.name.removesuffix(".dist-info").partition("-")[2]


def copy_functions(work: Path, cloud: str) -> None:
    """The delivering half, without what LEFT_OUT names for a cloud (`aws` or `gcp`)."""
    for source in sorted((ROOT / "functions").rglob("*.py")):
        place = source.relative_to(ROOT)
        if any(place.is_relative_to(each) for each in LEFT_OUT[cloud]):
            continue
        (work / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, work / place)


_COMPILE: Final = """
import importlib.util, pathlib, py_compile, sys
root, folder, task, level = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
for file in sorted((root / folder).rglob("*.py")):
    # A dataclass without a docstring makes one of its signature, which takes longer than to load it.
    documented = b"dataclass" in file.read_bytes()
    py_compile.compile(
        str(file),
        cfile=importlib.util.cache_from_source(str(file), optimization=""),
        dfile=f"{task}/{file.relative_to(root).as_posix()}",
        doraise=True,
        optimize=min(level, 1) if documented else level,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
"""


def _compile(root: Path, folder: str, platform: Platform, *, ours: bool) -> None:
    """Byte-code that is loaded without a look at the source's date. What others wrote loses its
    docstrings and assertions: there is a tenth less to load."""
    interpreter = _interpreter(platform)
    subprocess.run(
        [interpreter, "-I", "-c", _COMPILE, str(root), folder, _TASK, "0" if ours else "2"],
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )


def _interpreter(platform: Platform) -> str:
    """The program that compiles. Raises ConfigError where there is none."""
    if platform.python == THIS_PYTHON:
        return sys.executable
    program = f"python{platform.python}"
    found = shutil.which(program)
    # pyenv has a program of that name for each version, also for those that are not switched on.
    if found is None or subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode:
        raise ConfigError(
            program,
            "is not here, and the function's byte-code needs it",
            f"install it, or deploy for {THIS_PYTHON}",
        )
    return found


def zip_tree(work: Path, target: Path) -> Path:
    """The same files give the same octets."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in _files(work):
            info = zipfile.ZipInfo(file.relative_to(work).as_posix(), _DATE)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.read_bytes())
    return target


def _files(work: Path) -> Iterator[Path]:
    yield from sorted(path for path in work.rglob("*") if path.is_file())


def _digest(platform: Platform, wanted: Mapping[str, str], options: DeliveryConfig) -> str:
    parts = [platform, sorted(wanted.items()), sorted(services(options)), sys.version]
    here = Path(__file__).parent
    text = repr(parts) + "".join((here / name).read_text(encoding="utf-8") for name in ("build.py", "sdk.py"))
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
    parser.add_argument("--python", default=THIS_PYTHON, choices=RUNTIMES)
    parser.add_argument("--arch", default="arm64", choices=sorted(_MACHINES))
    parser.add_argument("--out", type=Path, help="a copy is put there")
    arguments = parser.parse_args()
    try:
        made = bundle(arguments.config, Platform(arguments.python, arguments.arch))
    except ConfigError as mistake:
        print(f"bundle: {mistake}", file=sys.stderr)
        return 2
    if arguments.out is not None:
        shutil.copyfile(made, arguments.out)
    print(arguments.out or made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
