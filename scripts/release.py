"""The steps of a release; each one is a target of the Makefile. Python's standard library only.

    release.py check      the version is that of the tag, and CHANGELOG.md has a section about it
    release.py audit      no locked package has a known vulnerability; asks the package index
    release.py assets     adds to dist/: schemas, documentation, bill of materials, SHA256SUMS
    release.py push       pushes the image of `make image-multi` to ghcr.io
    release.py publish    makes GitHub's release with the files of dist/

Only GitHub's workflow pushes and publishes; elsewhere the last two print what they would do.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.distributions import repository, say, version  # noqa: E402 - found by the line above

DIST: Final = ROOT / "dist"
IMAGE: Final = ROOT / ".state" / "image" / "smtp-relay.oci.tar"
BILL: Final = ROOT / ".state" / "sbom.cdx.json"
SCHEMAS: Final = ("config.schema.json", "cloudevent.schema.json")
AUDITED: Final = ("dev", "build", "release")
"""Locks that together name every package: the versions of the others are those of `dev`."""

_FINAL: Final = re.compile(r"\d+\.\d+\.\d+")


def in_workflow() -> bool:
    return os.environ.get("GITHUB_ACTIONS") == "true"


def run(*command: str | Path, given: str = "") -> None:
    """Run to the end with `given` as input; outside a workflow only print the command."""
    parts = [str(part) for part in command]
    if in_workflow():
        subprocess.run(parts, cwd=ROOT, input=given, text=True, check=True)
    else:
        say(f"not in a workflow, so this is not run: {' '.join(parts)}")


# --- before ----------------------------------------------------------------------------------


def check() -> None:
    """Refuse a tag that is not the version's, a version that is not final, one without its changes."""
    here, tag = version(), os.environ.get("GITHUB_REF_NAME") if in_workflow() else None
    if tag is not None and tag != f"v{here}":
        sys.exit(f"the tag is {tag}, functions/__init__.py says {here}: make them the same")
    if not _FINAL.fullmatch(here):
        sys.exit(f"functions/__init__.py: {here} is no version to release: write one like 3.0.0")
    notes()
    say(f"version {here} can be released")


def notes() -> str:
    """What CHANGELOG.md says about this version."""
    page = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(version())}\b.*\n(?P<text>(?:(?!## ).*\n)*)", page, re.MULTILINE)
    if found is None or not found["text"].strip():
        sys.exit(f"CHANGELOG.md: no section is about {version()}: write `## {version()}` and what changed")
    return found["text"].strip() + "\n"


def audit() -> None:
    """Ask about every locked package. Ends with 1 for a vulnerability, with 2 if nothing could be asked."""
    locks = [word for name in AUDITED for word in ("--requirement", str(ROOT / "locks" / f"{name}.txt"))]
    how = ["--strict", "--progress-spinner", "off", "--require-hashes", "--disable-pip"]
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *how, *locks],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        say("no locked package has a known vulnerability")
    elif re.search(r"^Name +Version +ID", done.stdout, re.MULTILINE):
        sys.exit(f"{done.stdout}» renew these packages: make lock")
    else:
        reason = (done.stderr.strip().splitlines() or ["pip-audit says nothing"])[-1]
        print(f"» nothing was audited: the package index does not answer as pypi.org does: {reason}")
        sys.exit(2)


# --- files -----------------------------------------------------------------------------------


def assets() -> None:
    """Everything that is downloaded, beside the wheel and the source distribution of `make build`."""
    if not list(DIST.glob(f"smtp_relay-{version()}*.whl")):
        sys.exit(f"dist/ has no wheel of {version()}: run make build first")
    for name in SCHEMAS:
        (DIST / name).write_bytes((ROOT / name).read_bytes())
    if BILL.exists():
        (DIST / f"smtp-relay-{version()}.cdx.json").write_bytes(BILL.read_bytes())
    _write_documentation(DIST / f"smtp-relay-{version()}-docs.zip")
    sums = DIST / "SHA256SUMS"
    files = sorted(path for path in DIST.iterdir() if path.is_file() and path != sums)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in files]
    sums.write_text("".join(lines))
    say(f"{len(files)} files and their SHA256SUMS are in dist/")


def _write_documentation(target: Path) -> None:
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "SECURITY.md", "LICENSE")]
    pages += sorted(path for path in (ROOT / "docs").rglob("*") if path.is_file())
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in pages:
            if "__pycache__" not in path.parts:
                # ZipInfo's time is 1980: the same pages give the same bytes.
                about = zipfile.ZipInfo(str(Path(f"smtp-relay-{version()}") / path.relative_to(ROOT)))
                about.external_attr, about.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
                archive.writestr(about, path.read_bytes())


# --- publishing ------------------------------------------------------------------------------


def push() -> None:
    """Push the image for both processors under its tags, and tell the workflow its name and digest."""
    if in_workflow() and not IMAGE.exists():
        sys.exit(f"{IMAGE.relative_to(ROOT)} does not exist: run make image-multi first")
    name = f"ghcr.io/{repository().lower()}"
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "digest"
        how = ("copy", "--all", f"--digestfile={written}")
        for tag in (version(), ".".join(version().split(".")[:2]), "latest"):
            run("skopeo", *how, f"oci-archive:{IMAGE}", f"docker://{name}:{tag}")
        if in_workflow():
            with Path(os.environ["GITHUB_OUTPUT"]).open("a") as output:
                output.write(f"name={name}\ndigest={written.read_text().strip()}\n")


def publish() -> None:
    """Make GitHub's release of the tag, with the changes of this version and the files of dist/."""
    files = sorted(path for path in DIST.glob("*") if path.is_file())
    if not files:
        sys.exit("dist/ is empty: run make build and make release-assets first")
    about = (f"v{version()}", "--verify-tag", f"--title=smtp-relay {version()}", "--notes-file=-")
    run("gh", "release", "create", *about, *files, given=notes())


STEPS: Final = {"check": check, "audit": audit, "assets": assets, "push": push, "publish": publish}


def main(arguments: Sequence[str]) -> None:
    if len(arguments) != 1 or arguments[0] not in STEPS:
        sys.exit(__doc__)
    STEPS[arguments[0]]()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except subprocess.CalledProcessError as error:
        sys.exit(f"» this step failed: {' '.join(map(str, error.cmd))}")
