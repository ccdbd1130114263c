"""Verifiers of DKIM signatures that share nothing with the code under test: npm's mailauth, and
Debian's OpenDKIM if it is installed."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.support.programs import NODE_MODULES, PATH, program, run
from tests.support.servers.relay import ROOT

Verifier = Callable[[bytes, Mapping[str, str], Path], list[str]]
"""Gives the domains whose signatures are good, from a mail, TXT records by name, and a folder."""

_OPENDKIM: Final = """\
TestPublicKeys {folder}/keys
Mode v
Syslog no
UserID root
InternalHosts 192.0.2.1
"""


def mailauth(mail: bytes, records: Mapping[str, str], folder: Path) -> list[str]:
    """npm's mailauth."""
    node = program("node", "nodejs")
    if not (NODE_MODULES / "mailauth").exists():
        pytest.skip("npm's mailauth is missing (`make test` installs it)")
    (folder / "mail.eml").write_bytes(mail)
    (folder / "records.json").write_text(json.dumps(dict(records)))
    script = ROOT / "tests" / "support" / "mails" / "verify.cjs"
    done = run(
        [node, script, folder / "mail.eml", folder / "records.json"], env={"NODE_MODULES": str(NODE_MODULES)}
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    return [each["signingDomain"] for each in results if each["result"] == "pass"]


def opendkim(mail: bytes, records: Mapping[str, str], folder: Path) -> list[str]:
    """Debian's OpenDKIM, one mail on the command line."""
    (folder / "mail.eml").write_bytes(mail)
    (folder / "keys").write_text("".join(f"{name} {value}\n" for name, value in records.items()))
    (folder / "opendkim.conf").write_text(_OPENDKIM.format(folder=folder))
    command = program("opendkim", "opendkim")
    done = run([command, "-x", folder / "opendkim.conf", "-t", folder / "mail.eml", "-vv"])
    said = (done.stdout + done.stderr).decode(errors="replace")
    return [name.split("_domainkey.")[1] for name in records if _succeeded(said, name)]


def _succeeded(said: str, name: str) -> bool:
    selector, _, domain = name.partition("._domainkey.")
    return any(
        f"(s={selector}, d={domain}," in line and line.endswith("succeeded") for line in said.splitlines()
    )


VERIFIERS: Final[list[Verifier]] = [
    mailauth,
    # Installing it would start a daemon, so it is used only if it is installed already.
    *([opendkim] if shutil.which("opendkim", path=PATH) else []),
]
