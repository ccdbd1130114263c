"""Renews the pins of the dependencies: versions with hashes in locks/, and digests of base images.

    lock.py            renew all: the newest versions that pyproject.toml allows
    lock.py --keep     write the locks for a changed pyproject.toml, and keep the other versions

`uv` resolves for all platforms and for Python 3.11 and newer. Where no container registry answers, base
images keep the digests that they have. Python's standard library only.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCKS: Final = ROOT / "locks"
IMAGES: Final = LOCKS / "images.json"
UV: Final = ROOT / ".venv" / "bin" / "uv"

DEPLOYABLES: Final[dict[str, tuple[str, ...]]] = {
    "dev": ("dev",),
    "listener": ("listener", "inbox"),
    "listener-aws": ("listener", "inbox", "aws"),
    "listener-aws-gcp": ("listener", "inbox", "aws", "gcp"),
    "listener-aws-cdk": ("listener", "inbox", "aws", "cdk"),
    "function-aws": ("aws", "mailer"),
    "function-gcp": ("gcp", "mailer"),
    "release": ("release",),
}
"""Extras of pyproject.toml that each lock holds. `dev` comes first: the others take its versions, which the
tests use."""

DOCKERFILES: Final = ("listener/Dockerfile", "infra/terraform/gcp/examples/sidecar/Dockerfile")

_HEADER: Final = "# Made by `make lock` from pyproject.toml: {}.\n"
_FROM: Final = re.compile(r"^(FROM\s+(?:--\S+\s+)*)([^\s@]+)(@sha256:[0-9a-f]{64})?", re.MULTILINE)
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MANIFESTS: Final = ", ".join(
    ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
)
"""Lists of images, one for each processor, so that a digest holds for all of them."""

_AUTH: Final = "https://auth.docker.io/token?service=registry.docker.io&scope=repository:{}:pull"
_REGISTRY: Final = "https://registry-1.docker.io/v2/{}/manifests/{}"
_TIMEOUT: Final = 20.0


def say(text: str) -> None:
    print(f"» {text}", flush=True)


# --- packages ------------------------------------------------------------------------------


def lock_packages(*, keep: bool) -> None:
    for name, extras in DEPLOYABLES.items():
        say(f"locks/{name}.txt")
        wanted = [f"--extra={extra}" for extra in extras]
        _compile(LOCKS / f"{name}.txt", f"extras {', '.join(extras)}", ["pyproject.toml", *wanted], keep=keep)
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    with tempfile.TemporaryDirectory() as folder:
        needed = Path(folder) / "build-system"
        needed.write_text("\n".join(build))
        say("locks/build.txt")
        command = [str(needed), "--no-annotate"]
        _compile(LOCKS / "build.txt", "build-system.requires", command, keep=keep)


def _compile(lock: Path, about: str, what: list[str], *, keep: bool) -> None:
    """Resolve into a lock. `--no-config` and `--no-emit-…` keep this machine's package index out of it."""
    command = [str(UV), "pip", "compile", *what, "--universal", "--python-version=3.11", "--generate-hashes"]
    command += ["--no-config", "--no-header", "--no-emit-index-url", "--no-emit-find-links", "--quiet"]
    if lock.name != "dev.txt":
        command += ["--constraint=locks/dev.txt"]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / lock.name
        if keep and lock.exists():
            shutil.copyfile(lock, made)  # uv keeps the versions that it finds there
        subprocess.run([*command, f"--output-file={made}"], cwd=ROOT, stdout=subprocess.DEVNULL, check=True)
        text = made.read_text()
    # Not a reason why the package is here: uv adds this line because `dev.txt` pins it too.
    text = re.sub(r"^    #( via)?\s+-c locks/dev\.txt\n", _kept_via, text, flags=re.MULTILINE)
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(_HEADER.format(about) + _sources(text))


def _kept_via(line: re.Match[str]) -> str:
    return "    # via\n" if line[1] else ""


def _sources(text: str) -> str:
    """uv writes one source on the line of `via`, and several below it; here all are below."""
    return re.sub(r"^    # via (\S.*)$", r"    # via\n    #   \1", text, flags=re.MULTILINE)


# --- base images ---------------------------------------------------------------------------


def lock_images() -> None:
    """Ask the registry for the digest of each base image, and write it into every Dockerfile."""
    known: dict[str, str] = json.loads(IMAGES.read_text()) if IMAGES.exists() else {}
    texts = {path: (ROOT / path).read_text() for path in DOCKERFILES}
    for image in dict.fromkeys(image for text in texts.values() for image in base_images(text)):
        try:
            known[image] = registry_digest(image)
            say(f"{image}: {known[image]}")
        except (OSError, ValueError) as error:
            say(f"{image}: its digest stays {known.get(image, 'unknown')}: no registry answers ({error})")
    if known:
        IMAGES.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    for path, text in texts.items():
        (ROOT / path).write_text(with_digests(text, known))


def base_images(dockerfile: str) -> Iterator[str]:
    """The images, with tag and without digest, that a Dockerfile builds on; its own stages do not count."""
    stages = set(re.findall(r"^FROM\s.*\sAS\s+(\S+)", dockerfile, re.MULTILINE | re.IGNORECASE))
    for match in _FROM.finditer(dockerfile):
        if match[2] not in stages and match[2] != "scratch":
            yield match[2]


def with_digests(dockerfile: str, known: dict[str, str]) -> str:
    """The Dockerfile with the digests of these images; an empty mapping changes nothing."""

    def pinned(match: re.Match[str]) -> str:
        digest = known.get(match[2])
        return match[0] if digest is None else f"{match[1]}{match[2]}@{digest}"

    return _FROM.sub(pinned, dockerfile)


def faults_of_images(dockerfile: str, known: dict[str, str]) -> list[str]:
    """Base images that lack their locked digest, or have another one."""
    return [
        f"{match[2]}: {match[3] or 'no digest'} instead of {known[match[2]]}"
        for match in _FROM.finditer(dockerfile)
        if match[2] in known and match[3] != f"@{known[match[2]]}"
    ]


def registry_digest(image: str) -> str:
    """The digest of an image of Docker Hub. Raises OSError, or ValueError for an answer without one."""
    name, _, tag = image.partition(":")
    repository = name if "/" in name else f"library/{name}"
    with urllib.request.urlopen(_AUTH.format(repository), timeout=_TIMEOUT) as answer:
        token = json.load(answer)["token"]
    request = urllib.request.Request(
        _REGISTRY.format(repository, tag or "latest"),
        method="HEAD",
        headers={"Authorization": f"Bearer {token}", "Accept": _MANIFESTS},
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
        digest = answer.headers.get("Docker-Content-Digest", "")
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"the registry gave no digest of {image}")
    return digest


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="lock.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--keep", action="store_true", help="keep the versions that still fit")
    chosen = parser.parse_args(arguments)
    lock_packages(keep=chosen.keep)
    lock_images()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"» this step failed: {' '.join(map(str, error.cmd))}")
