"""Finds, builds or installs the programs of the peers, in .state/peers.

Nothing else installs them: neither `make setup` nor `make test`. npm's packages have their versions and
digests in bench/peers/npm; scripts of packages do not run. After a change of a version there:
`npm install --package-lock-only --omit-lockfile-registry-resolved`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

PEERS: Final = Path(__file__).resolve().parent
INSTALLED: Final = PEERS.parent.parent / ".state" / "peers"
DEBIAN_GO: Final = Path("/usr/share/gocode/src/github.com/emersion/go-smtp")
GO_PACKAGES: Final = "golang-go golang-github-emersion-go-smtp-dev golang-github-emersion-go-sasl-dev"
"""Debian's packages of the peer on go-smtp."""


class Missing(Exception):
    """A program is not here; the text says what it needs, in one line."""


def go_smtp() -> Path:
    """The receiver on go-smtp, built of bench/peers/gosmtp/. Raises Missing."""
    source = PEERS / "gosmtp" / "main.go"
    binary = INSTALLED / "gosmtp"
    go = shutil.which("go")
    if go is None or not DEBIAN_GO.is_dir():
        raise Missing(f"it needs Debian's packages {GO_PACKAGES}")
    if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
        environ = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(INSTALLED / "cache")}
        run([go, "build", "-o", str(binary), str(source)], environ=environ)
    return binary


def package(name: str) -> Path:
    """The folder of an npm package of bench/peers/npm, all of which are installed if they are not there or
    the lock file changed. Raises Missing."""
    source, target = PEERS / "npm", INSTALLED / "npm"
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise Missing("it needs Node.js with npm (Debian's packages nodejs and npm)")
    lock = target / "package-lock.json"
    # npm writes the hidden lock file last.
    whole = (target / "node_modules" / ".package-lock.json").exists()
    if not whole or lock.read_bytes() != (source / lock.name).read_bytes():
        print("installing npm's packages of bench/peers/npm into .state/peers/npm", file=sys.stderr)
        target.mkdir(parents=True, exist_ok=True)
        for each in ("package.json", lock.name):
            shutil.copy(source / each, target / each)
        options = ["--omit=optional", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]
        run([npm, "ci", *options], folder=target)
    return target / "node_modules" / name


def package_version(name: str) -> str:
    """The version of an npm package and that of Node.js."""
    described = json.loads((package(name) / "package.json").read_text(encoding="utf-8"))
    return f"{described['version']} on Node.js {printed('node', '--version').lstrip('v')}"


def debian_version(name: str) -> str:
    """The version of an installed Debian package; "unknown" elsewhere."""
    return printed("dpkg-query", "-W", "-f=${Version}", name)


def on_path(name: str, hint: str, *, path: str | None = None) -> str:
    """A program on the path. Raises Missing with the hint."""
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"the path has no {name}: {hint}")
    return found


def printed(*command: str) -> str:
    """The first line that a program prints; "unknown" if it fails or is not here."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.splitlines() or ["unknown"])[0].strip()


def run(command: list[str], *, folder: Path = PEERS, environ: dict[str, str] | None = None) -> None:
    """Run an installer. Raises Missing with its last line if it fails."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **(environ or {})},
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(f"{Path(command[0]).name} {command[1]} fails: {error}") from None
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise Missing(f"{Path(command[0]).name} {command[1]} fails: {lines[-1] if lines else 'no message'}")
