"""Builds the listener's image; Python's standard library only.

    image.py [TAG]              for this machine: with docker or podman if one of them runs; else, for
                                root on Debian, without: on a base image that debootstrap makes
    image.py --multi [TAG]      for both processors, as .state/image/smtp-relay.oci.tar: with docker's
                                buildx, else as above
    --release                   refuses a base image without a digest, and other ways than docker's

Without docker the instructions are proven, not the base image. Results are in .state/image; a build whose
inputs did not change is skipped.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    "scripts/sbom.py",
    "smtp_relay.py",
)

DIGEST: Final = re.compile(r"@sha256:[0-9a-f]{64}")
BASE: Final = "docker.io/library/python:3.13-slim-trixie"
PROCESSORS: Final = ("amd64", "arm64")
HERE: Final = "arm64" if platform.machine() in ("aarch64", "arm64") else "amd64"
ARCHIVE: Final = STATE / "smtp-relay.oci.tar"
_FROM: Final = re.compile(r"^FROM\s+(?P<here>--platform=\$BUILDPLATFORM\s+)?[^\s@]+(@\S+)?", re.MULTILINE)
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

    def build(self, tag: str, processor: str = HERE) -> None:
        """Build the image for a processor, and its base if that does not exist yet."""
        with self._alone():
            self._build(tag, processor)

    def pack(self, tags: Mapping[str, str], archive: Path = ARCHIVE) -> None:
        """Write an OCI archive with one index of images, which are built if their inputs changed: `tags` has
        the name of each processor's image."""
        with self._alone():
            for processor, tag in tags.items():
                self._build(tag, processor)
            wanted = "\n".join(self._built(tag).read_text() for tag in tags.values())
            stamp = self.state / f"{archive.name}.built"
            if archive.exists() and stamp.exists() and stamp.read_text() == wanted:
                return
            name = "smtp-relay-index"
            subprocess.run(self._buildah("manifest", "rm", name), capture_output=True, check=False)
            run(*self._buildah("manifest", "create", name))
            for tag in tags.values():
                run(*self._buildah("manifest", "add", name, f"localhost/{tag}"))
            unfinished = archive.with_suffix(".unfinished")
            unfinished.unlink(missing_ok=True)
            to = f"oci-archive:{unfinished}"
            run(*self._buildah("manifest", "push", "--quiet", "--all", "--format=oci", name, to))
            unfinished.rename(archive)
            stamp.write_text(wanted)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """A process that builds at the same time waits, and finds the finished build."""
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _built(self, tag: str) -> Path:
        return self.state / f"built-{tag.replace('/', '-').replace(':', '-')}"

    def _build(self, tag: str, processor: str) -> None:
        wanted = f"{digest()} {processor}"
        stamp = self._built(tag)
        if stamp.exists() and stamp.read_text() == wanted and self._has(tag):
            return
        for name in (base(processor), *([] if processor == HERE else [_on(processor)])):
            if not self._has(name):
                self._make_base(processor)
                break
        say(f"building {DOCKERFILE} as {tag} for {processor}")
        lent = [f"--volume={path}:{path}:ro" for path in LENT if Path(path).exists()]
        how = [
            "--pull=never",
            "--isolation=chroot",
            "--format=docker",
            f"--platform=linux/{processor}",
            *lent,
        ]
        given = arguments_of_build()
        how += [f"--timestamp={given.pop('SOURCE_DATE_EPOCH')}"]
        how += [f"--build-arg={name}={value}" for name, value in given.items()]
        dockerfile = self.state / "Dockerfile"
        dockerfile.write_text(with_stand_ins((ROOT / DOCKERFILE).read_text(), processor))
        command = self._buildah("bud", *how, "--file", dockerfile, "--tag", tag, ".")
        with (self.state / "build.log").open("w") as log:
            done = subprocess.run(
                command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            sys.exit((self.state / "build.log").read_text()[-4000:])
        stamp.write_text(wanted)

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

    def _make_base(self, processor: str) -> None:
        say(f"making a base image of Debian {DEBIAN} for {processor} with debootstrap, for {BASE}")
        with tempfile.TemporaryDirectory(dir=self.state) as folder:
            files = Path(folder) / "base"
            include = f"--include={','.join(PACKAGES)}"
            foreign = [] if processor == HERE else ["--foreign", f"--arch={processor}"]
            run("debootstrap", "--variant=minbase", *foreign, include, DEBIAN, files)
            if foreign:
                self._unpack(files)
            for path in LEFT_OUT:
                shutil.rmtree(files / path, ignore_errors=True)
                (files / path).mkdir()
            (files / "usr/local/bin").mkdir(parents=True, exist_ok=True)
            (files / "usr/local/bin/python").symlink_to("/usr/bin/python3")
            container = run(*self._buildah("from", "--arch", processor, "scratch"))
            run(*self._buildah("copy", "--quiet", container, files, "/"))
            run(*self._buildah("config", "--arch", processor, container))
            run(*self._buildah("commit", "--quiet", "--rm", container, base(processor)))
        if foreign:
            # buildah 1.28 takes all stages for one processor, so this machine's base is named the other's.
            container = run(*self._buildah("from", "--pull=never", BASE))
            run(*self._buildah("config", "--arch", processor, container))
            run(*self._buildah("commit", "--quiet", "--rm", container, _on(processor)))

    def _unpack(self, files: Path) -> None:
        """Finish what `debootstrap --foreign` began: another processor's programs do not run here, so no
        package's script ran. What those would make of certificates, users and byte-code is as in our base."""
        shutil.rmtree(files / "debootstrap")
        if (files / "proc").is_symlink():  # debootstrap leaves it so
            (files / "proc").unlink()
            (files / "proc").mkdir()
        for package in sorted((files / "var/cache/apt/archives").glob("*.deb")):
            content = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
            with content:
                # Debian's merged /usr: /bin and /lib are links, which tar must not replace.
                command = ["tar", "--extract", "--keep-directory-symlink", "--directory", files]
                subprocess.run(command, stdin=content.stdout, check=True)
        if not self._has(BASE):
            self._make_base(HERE)
        ours = self.root(BASE)
        for name in ("passwd", "group"):
            shutil.copyfile(ours / "etc" / name, files / "etc" / name)
        byte_code = [path.relative_to(ours) for path in (ours / "usr/lib").glob("python3*/**/__pycache__")]
        for path in (Path("etc/ssl/certs"), *byte_code):
            shutil.copytree(ours / path, files / path, symlinks=True, dirs_exist_ok=True)

    def _buildah(self, *arguments: str | Path) -> list[str]:
        return [
            "buildah",
            f"--root={self.state / 'storage'}",
            f"--runroot={self.state / 'run'}",
            "--storage-driver=vfs",
            *map(str, arguments),
        ]


def base(processor: str) -> str:
    """The name of the base image that is made here for a processor."""
    return BASE if processor == HERE else f"{BASE}-{processor}"


def _on(processor: str) -> str:
    """The name of the base image of the stage that runs on this machine, for a processor."""
    return BASE if processor == HERE else f"{BASE}-for-{processor}"


def tags_of(tag: str) -> dict[str, str]:
    """The name of each processor's image."""
    return {one: tag if one == HERE else f"{tag}-{one}" for one in PROCESSORS}


def with_stand_ins(dockerfile: str, processor: str) -> str:
    """The Dockerfile with the base images that are made here; the registry's have other digests."""
    return _FROM.sub(lambda found: f"FROM {_on(processor) if found['here'] else base(processor)}", dockerfile)


def unpinned(dockerfile: str) -> list[str]:
    """The lines FROM of base images that have no digest."""
    stages = set(re.findall(r"^FROM\s.*\sAS\s+(\S+)", dockerfile, re.MULTILINE | re.IGNORECASE))
    lines = [found[0] for found in _FROM.finditer(dockerfile) if not DIGEST.search(found[0])]
    return [line for line in lines if line.split()[-1] not in {*stages, "scratch"}]


def arguments_of_build() -> dict[str, str]:
    """The Dockerfile's arguments for its labels, and SOURCE_DATE_EPOCH: of the workflow's variables, else of
    the last commit that changed an input (`-dirty` if a file differs from it), else of now."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct", "--", *INPUTS)
    seconds = int(epoch or time.time())
    commit, changed = (
        _git("log", "-1", "--format=%H", "--", *INPUTS),
        _git("status", "--short", "--", *INPUTS),
    )
    server, name = os.environ.get("GITHUB_SERVER_URL"), os.environ.get("GITHUB_REPOSITORY")
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("urls", {})
    version = re.search(r'^__version__.*"(.+)"', (ROOT / "functions/__init__.py").read_text(), re.MULTILINE)
    return {
        "VERSION": version[1] if version else "",
        "REVISION": os.environ.get("GITHUB_SHA") or commit + ("-dirty" if commit and changed else ""),
        "SOURCE": f"{server}/{name}" if server and name else urls.get("Source", urls.get("Repository", "")),
        "CREATED": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds)),
        "SOURCE_DATE_EPOCH": str(seconds),
    }


def _git(*arguments: str) -> str:
    """git's answer; "" where git or its folder is missing."""
    if shutil.which("git") is None:
        return ""
    command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()


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
    parser = argparse.ArgumentParser(prog="image.py", description=__doc__.partition("\n")[0])
    parser.add_argument("tag", nargs="?", default="smtp-relay")
    parser.add_argument("--multi", action="store_true", help="for both processors, into one OCI archive")
    parser.add_argument("--release", action="store_true", help="refuse base images without a digest")
    chosen = parser.parse_args(arguments)
    bare = unpinned((ROOT / DOCKERFILE).read_text())
    if chosen.release and bare:
        sys.exit(f"» {DOCKERFILE}: {'; '.join(bare)}: no digest. Run `make lock` where a registry answers")
    program = engine()
    if program and not (chosen.multi and program != "docker"):
        _build_with(program, chosen.tag, multi=chosen.multi)
        return
    if chosen.release:
        sys.exit("» a release is built by docker, on the registry's base images: no docker runs here")
    if reason := missing():
        sys.exit(f"» neither docker nor podman runs here, and a build without them {reason}")
    builder = StandIn()
    if chosen.multi:
        builder.pack(tags_of(chosen.tag))
        say(f"built for {' and '.join(PROCESSORS)}: {ARCHIVE}")
    else:
        builder.build(chosen.tag)
        say(f"built; its files: {builder.root(chosen.tag)}")


def _build_with(program: str, tag: str, *, multi: bool) -> None:
    """Build with docker or podman; `multi`: with docker's buildx, whose builder must be able to write OCI
    archives (the driver docker-container)."""
    say(f"building {DOCKERFILE} as {tag} with {program}")
    given = [f"--build-arg={name}={value}" for name, value in arguments_of_build().items()]
    how = ["build", *given, "--file", DOCKERFILE, "--tag", tag]
    if multi:
        STATE.mkdir(parents=True, exist_ok=True)
        platforms = ",".join(f"linux/{one}" for one in PROCESSORS)
        output = f"--output=type=oci,dest={ARCHIVE}"
        how = ["buildx", *how, f"--platform={platforms}", "--provenance=false", output]
    subprocess.run([program, *how, "."], cwd=ROOT, check=True)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"» this step failed: {' '.join(map(str, error.cmd))}")
