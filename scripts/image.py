"""Builds the listener's image; Python's standard library only.

    image.py [TAG]    with docker or podman if one of them runs; else, for root on Debian,
                      without: on a base image that debootstrap makes

The second way proves the instructions, not the base image. Its results are in .state/image; a build
whose inputs did not change is skipped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
STATE: Final = ROOT / ".state" / "image"

DOCKERFILE: Final = "listener/Dockerfile"
INPUTS: Final = (
    DOCKERFILE,
    "pyproject.toml",
    "config.schema.json",
    "configs",
    "functions",
    "listener",
    "locks",
)

DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}")
BASE: Final = "docker.io/library/python:3.13-slim-trixie"
DEBIAN: Final = "trixie"  # whose python3 has the base image's version
PACKAGES: Final = ("ca-certificates", "python3", "python3-pip", "python3-venv")
LEFT_OUT: Final = ("usr/share/doc", "usr/share/locale", "usr/share/man", "var/cache/apt", "var/lib/apt/lists")

# The settings that make this machine's pip work make it work in the build.
LENT: Final = ("/etc/ssl/certs", "/etc/pip.conf")

NEEDED: Final = ("buildah", "debootstrap")


def say(text: str) -> None:
    print(f"» {text}", flush=True)


def run(*command: str | Path) -> str:
    """Run to the end; returns the standard output. Its errors are shown."""
    parts = [str(part) for part in command]
    done = subprocess.run(
        parts, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.strip()


def engine() -> str | None:
    """docker or podman, if it can build."""
    for name in ("docker", "podman"):
        if shutil.which(name):
            answer = subprocess.run([name, "info"], capture_output=True, check=False)
            if answer.returncode == 0:
                return name
    return None


def missing() -> str:
    """The reason why an image cannot be built without docker; "" if it can."""
    if os.geteuid() != 0:
        return "needs root"
    wanted = [name for name in NEEDED if shutil.which(name) is None]
    return f"needs {' and '.join(wanted)} (Debian packages)" if wanted else ""


class StandIn:
    """Builds without a daemon and without a registry of images."""

    def __init__(self, state: Path = STATE) -> None:
        self.state = state
        self._stamp = state / "built"

    def build(self, tag: str) -> None:
        """Build the image, and its base if that does not exist yet."""
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("w") as lock:
            # A process that builds at the same time waits, and finds the finished build.
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._build(tag)

    def _build(self, tag: str) -> None:
        wanted = digest()
        if self._stamp.exists() and self._stamp.read_text() == wanted and self._has(tag):
            return
        if not self._has(BASE):
            self._make_base()
        say(f"building {DOCKERFILE} as {tag}")
        lent = [f"--volume={path}:{path}:ro" for path in LENT if Path(path).exists()]
        how = ("--pull=never", "--isolation=chroot", "--format=docker", *lent)
        # The base image made here has another digest than the registry's.
        dockerfile = self.state / "Dockerfile"
        dockerfile.write_text(DIGEST.sub("", (ROOT / DOCKERFILE).read_text()))
        command = self._buildah("bud", *how, "--file", dockerfile, "--tag", tag, ".")
        with (self.state / "build.log").open("w") as log:
            done = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            sys.exit((self.state / "build.log").read_text()[-4000:])
        self._stamp.write_text(wanted)

    def root(self, tag: str) -> Path:
        """An image's file system. It is shared: lay another folder over it before writing."""
        name = f"look-{hashlib.sha256(tag.encode()).hexdigest()[:8]}"
        subprocess.run(self._buildah("rm", name), capture_output=True, check=False)
        run(*self._buildah("from", "--pull=never", "--name", name, tag))
        return Path(run(*self._buildah("mount", name)))

    def config(self, tag: str) -> dict[str, Any]:
        """The image's settings for running: Entrypoint, Env, WorkingDir, Healthcheck …"""
        found = json.loads(run(*self._buildah("inspect", "--type=image", tag)))
        config: dict[str, Any] = found["Docker"]["config"]
        return config

    def _has(self, tag: str) -> bool:
        answer = subprocess.run(
            self._buildah("inspect", "--type=image", tag), capture_output=True, check=False
        )
        return answer.returncode == 0

    def _make_base(self) -> None:
        say(f"making a base image of Debian {DEBIAN} with debootstrap, for {BASE}")
        with tempfile.TemporaryDirectory(dir=self.state) as folder:
            base = Path(folder) / "base"
            include = f"--include={','.join(PACKAGES)}"
            run("debootstrap", "--variant=minbase", include, DEBIAN, base)
            for path in LEFT_OUT:
                shutil.rmtree(base / path)
                (base / path).mkdir()
            (base / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            container = run(*self._buildah("from", "scratch"))
            run(*self._buildah("copy", "--quiet", container, base, "/"))
            run(*self._buildah("commit", "--quiet", "--rm", container, BASE))

    def _buildah(self, *arguments: str | Path) -> list[str]:
        return [
            "buildah",
            f"--root={self.state / 'storage'}",
            f"--runroot={self.state / 'run'}",
            "--storage-driver=vfs",
            *map(str, arguments),
        ]


def digest() -> str:
    """A digest of all inputs of the image."""
    found = hashlib.sha256(Path(__file__).read_bytes())
    for name in INPUTS:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and "__pycache__" not in file.parts:
                found.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return found.hexdigest()


def main(arguments: Sequence[str]) -> None:
    tag = arguments[0] if arguments else "smtp-relay"
    if program := engine():
        say(f"building {DOCKERFILE} as {tag} with {program}")
        subprocess.run([program, "build", "--file", DOCKERFILE, "--tag", tag, "."], cwd=ROOT, check=True)
        return
    if reason := missing():
        sys.exit(f"» neither docker nor podman runs here, and a build without them {reason}")
    builder = StandIn()
    builder.build(tag)
    say(f"built; its files: {builder.root(tag)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"» this step failed: {' '.join(map(str, error.cmd))}")
