"""Builds the wheel and the source distribution; the same sources give the same bytes.

    distributions.py [FOLDER]    into dist/, or FOLDER

It runs `python -m build` on a copy of the sources, in which the links of README.md and pyproject.toml are
addresses, because a package index shows both without the files beside them. GITHUB_REPOSITORY names the
repository. Files have the time SOURCE_DATE_EPOCH, else that of the last commit. `python -m build` alone
works too.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCES: Final = (
    "pyproject.toml",
    "smtp_relay.py",
    "functions",
    "listener",
    "smtp_relay_testing",
    "README.md",
    "LICENSE",
    "config.schema.json",
    "cloudevent.schema.json",
)

PLACEHOLDER: Final = "YOU/smtp-relay"
OLDEST: Final = 315_532_800
"""1980 in seconds since 1970: a wheel is a zip, which knows no earlier time."""

_REPOSITORY: Final = re.compile(r"[A-Za-z0-9-]+/[\w.-]+")
_LINK: Final = re.compile(r"(?P<image>!?)(?P<text>\[(?:[^\[\]]|\[[^\]]*\])*\])\((?P<target>[^()\s]+)\)")
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def say(text: str) -> None:
    print(f"» {text}", flush=True)


def build(folder: Path) -> list[Path]:
    """Build both into `folder`, which keeps nothing of earlier builds. Returns the files, the wheel first."""
    epoch = time_of_sources()
    with tempfile.TemporaryDirectory() as place:
        copy, made = Path(place) / "source", Path(place) / "dist"
        stage(copy, repository(), version(), epoch)
        # Of the copy it makes the source distribution, and of that the wheel.
        command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", made, copy]
        done = subprocess.run(
            command,
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stdout)
        folder.mkdir(parents=True, exist_ok=True)
        for old in (*folder.glob("smtp_relay-*.whl"), *folder.glob("smtp_relay-*.tar.gz")):
            old.unlink()
        (wheel,), (archive,) = made.glob("*.whl"), made.glob("*.tar.gz")
        shutil.copyfile(wheel, folder / wheel.name)
        repack(archive, folder / archive.name, epoch)
        return [folder / wheel.name, folder / archive.name]


def stage(folder: Path, repository: str, version: str, epoch: int) -> None:
    """Copy the sources, with the same rights and times on every machine."""
    folder.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        else:
            shutil.copyfile(source, folder / name)
    readme, project = folder / "README.md", folder / "pyproject.toml"
    readme.write_text(with_addresses(readme.read_text(), repository, version))
    project.write_text(project.read_text().replace(PLACEHOLDER, repository))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (epoch, epoch))


def with_addresses(page: str, repository: str, version: str) -> str:
    """A page whose links to files are addresses of this version. docs-check marks and pictures stay."""

    def moved(link: re.Match[str]) -> str:
        target = link["target"]
        if _ELSEWHERE.match(target):
            return link[0]
        host = (
            "https://raw.githubusercontent.com/{}/v{}/{}"
            if link["image"]
            else "https://github.com/{}/blob/v{}/{}"
        )
        text = _LINK.sub(moved, link["text"][1:-1])
        return f"{link['image']}[{text}]({host.format(repository, version, target)})"

    return _LINK.sub(moved, page)


def repack(archive: Path, target: Path, epoch: int) -> None:
    """Write a tar again, without the owners, rights and times of the machine that made it."""
    with (
        tarfile.open(archive) as source,
        target.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as made,
    ):
        for member in sorted(source, key=lambda one: one.name):
            content = source.extractfile(member)
            plain = tarfile.TarInfo(member.name)
            plain.type, plain.size, plain.mtime = member.type, member.size, epoch
            plain.mode = 0o755 if member.isdir() else 0o644
            made.addfile(plain, content)


def version() -> str:
    """The version, which stands in one file only."""
    found = re.search(
        r'^__version__ = "(.+)"$', (ROOT / "functions" / "__init__.py").read_text(), re.MULTILINE
    )
    if found is None:
        sys.exit("functions/__init__.py: there is no __version__")
    return found[1]


def repository() -> str:
    """The repository at GitHub, as OWNER/NAME; the placeholder of the documentation if none is known."""
    given = os.environ.get("GITHUB_REPOSITORY") or PLACEHOLDER
    if not _REPOSITORY.fullmatch(given):
        sys.exit(f"GITHUB_REPOSITORY: {given!r} is no repository: write OWNER/NAME")
    return given


def time_of_sources() -> int:
    """SOURCE_DATE_EPOCH, or the time of the last commit; in seconds since 1970."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is None:
        command = ["git", "-C", str(ROOT), "log", "-1", "--format=%ct"]
        try:
            given = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except FileNotFoundError:
            given = ""
    if given and not given.isdecimal():
        sys.exit(f"SOURCE_DATE_EPOCH: {given!r} is no number of seconds: write one, as `date +%s` does")
    return max(int(given or OLDEST), OLDEST)


def main(arguments: Sequence[str]) -> None:
    folder = Path(arguments[0]) if arguments else ROOT / "dist"
    made = build(folder)
    subprocess.run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", *made], check=True)
    for path in made:
        say(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"» this step failed: {' '.join(map(str, error.cmd))}")
