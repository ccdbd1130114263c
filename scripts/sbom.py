"""Writes the bill of materials of an installation, as CycloneDX 1.6 in JSON (ECMA-424).

    sbom.py [--lock LOCK] [--site FOLDER] [--files FOLDER] [--out FILE]

It names the distributions of the lock that are installed in the folder (without one: where this Python
looks), with versions, licenses and dependencies. With the folder of the downloaded files, as the image has
it, each component has its file's SHA-256, and a distribution that the lock does not name is a mistake. The
same installation gives the same bytes; `SOURCE_DATE_EPOCH` (seconds) adds a time. Standard library only.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any, Final, NamedTuple

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "locks" / "listener-aws.txt"
OUR_NAME: Final = "smtp-relay"

_ENTRY: Final = re.compile(
    r"^([A-Za-z0-9._-]+)==([^\s;]+)([^\n]*\n(?:    --hash=\S+[^\n]*\n)*)", re.MULTILINE
)
_HASH: Final = re.compile(r"sha256:([0-9a-f]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9._-]+")
_LONGEST_LICENSE: Final = 80  # characters; some distributions give the whole text


class Locked(NamedTuple):
    """One distribution of a lock. `conditional`: not for every platform."""

    version: str
    hashes: frozenset[str]
    conditional: bool


def canonical(name: str) -> str:
    """A distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(path: Path) -> dict[str, Locked]:
    """The distributions of a lock by their canonical names."""
    return {
        canonical(name): Locked(version, frozenset(_HASH.findall(rest)), ";" in rest.partition("\n")[0])
        for name, version, rest in _ENTRY.findall(path.read_text(encoding="utf-8"))
    }


def installed(site: Path | None) -> dict[str, Distribution]:
    """The distributions in a folder, or those that this Python would import, by their canonical names."""
    found: dict[str, Distribution] = {}
    for one in distributions() if site is None else distributions(path=[str(site)]):
        found.setdefault(canonical(one.metadata["Name"]), one)
    return found


def faults(lock: dict[str, Locked], here: dict[str, Distribution], *, exact: bool) -> list[str]:
    """What the lock and the installation disagree about. `exact`: nothing else is installed."""
    wrong = [f"{OUR_NAME} is not installed"] if OUR_NAME not in here else []
    for name, one in lock.items():
        if name in here and here[name].version != one.version:
            wrong.append(f"{name} has version {here[name].version}, and the lock has {one.version}")
        elif name not in here and not one.conditional:
            wrong.append(f"{name} is not installed")
    if exact:
        wrong += [f"{name} is not in the lock" for name in sorted({*here} - {*lock, OUR_NAME})]
    return wrong


def file_hashes(lock: dict[str, Locked], files: Iterable[Path]) -> dict[str, str]:
    """The SHA-256 of the file of each distribution: the one that its lock has."""
    names = {digest: name for name, one in lock.items() for digest in one.hashes}
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    return {names[digest]: digest for digest in found if digest in names}


def licenses(one: Distribution) -> list[dict[str, Any]]:
    """CycloneDX's list, empty if the distribution does not say."""
    if expression := one.metadata.get("License-Expression"):
        return [{"expression": expression}]
    classifiers = one.metadata.get_all("Classifier") or []
    named = [line.rpartition(" :: ")[2] for line in classifiers if line.startswith("License ::")]
    named = [name for name in named if name != "OSI Approved"]
    text = (one.metadata.get("License") or "").strip()
    if not named and text and "\n" not in text and len(text) <= _LONGEST_LICENSE:
        named = [text]
    return [{"license": {"name": name}} for name in named]


def component(one: Distribution, kind: str, digest: str | None = None) -> dict[str, Any]:
    """One distribution as CycloneDX's component, of the type `kind`."""
    name = canonical(one.metadata["Name"])
    purl = f"pkg:pypi/{name}@{one.version.replace('+', '%2B')}"
    made: dict[str, Any] = {"type": kind, "bom-ref": purl, "name": name, "version": one.version, "purl": purl}
    if summary := one.metadata.get("Summary"):
        made["description"] = summary
    if digest is not None:
        made["hashes"] = [{"alg": "SHA-256", "content": digest}]
    if found := licenses(one):
        made["licenses"] = found
    return made


def dependencies(here: dict[str, Distribution], refs: dict[str, str]) -> list[dict[str, Any]]:
    """What each distribution needs, of those that have a reference. Our own needs all that nothing else
    needs, because its metadata do not record the chosen extras."""
    needs: dict[str, set[str]] = {}
    for name in refs:
        lines = [line for line in here[name].requires or () if name == OUR_NAME or "extra ==" not in line]
        names = {canonical(found[0]) for line in lines if (found := _NAME.match(line))}
        needs[name] = (names & refs.keys()) - {name}
    needed = set().union(*needs.values())
    needs[OUR_NAME] |= refs.keys() - needed - {OUR_NAME}
    order = sorted(refs)
    return [{"ref": refs[name], "dependsOn": sorted(refs[each] for each in needs[name])} for name in order]


def bill(here: dict[str, Distribution], names: Iterable[str], digests: dict[str, str]) -> dict[str, Any]:
    """The bill of materials of our own program with these distributions."""
    own = component(here[OUR_NAME], "application")
    parts = [component(here[name], "library", digests.get(name)) for name in sorted(names)]
    made: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": parts,
        "dependencies": dependencies(here, {one["name"]: one["bom-ref"] for one in (own, *parts)}),
    }
    content = json.dumps(made, sort_keys=True)
    made["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}"
    if epoch := os.environ.get("SOURCE_DATE_EPOCH"):
        made["metadata"]["timestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(epoch)))
    return made


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="sbom.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--lock", type=Path, default=LOCK)
    parser.add_argument("--site", type=Path, help="the folder of the installed distributions")
    parser.add_argument("--files", type=Path, help="the folder of the downloaded files")
    parser.add_argument("--out", type=Path, help="without it the standard output")
    chosen = parser.parse_args(arguments)
    lock, here = read_lock(chosen.lock), installed(chosen.site)
    wrong = faults(lock, here, exact=chosen.files is not None)
    digests = file_hashes(lock, sorted(chosen.files.iterdir())) if chosen.files else {}
    names = lock.keys() & here.keys()
    if chosen.files:
        strange = sorted(names - digests.keys())
        wrong += [f"{name} was not installed from a file of the lock" for name in strange]
    if wrong:
        sys.exit("sbom: " + "; ".join(wrong))
    text = json.dumps(bill(here, names, digests), indent=2, ensure_ascii=False) + "\n"
    if chosen.out is None:
        sys.stdout.write(text)
    else:
        chosen.out.parent.mkdir(parents=True, exist_ok=True)
        chosen.out.write_text(text, encoding="utf-8")
        print(f"» {chosen.out}: {len(names)} components of {chosen.lock.name}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
