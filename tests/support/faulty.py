"""Users' mistakes in configurations (`tests/data/faulty_configurations/`): the corpus, and trying a case."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from unittest import mock

import yaml

from tests.support.servers.relay import ROOT

FOLDER: Final = ROOT / "tests" / "data" / "faulty_configurations"

READY: Final = "listening on "

_PATIENCE: Final = 60.0

_LOCAL: Final = '{"type": "whitelist", "ips": "127.0.0.1"}'
_LOG: Final = '{"type": "log"}'

_BLOCKER: Final = """
import os, sys

class Absent:
    names = tuple(os.environ.get("TEST_WITHOUT", "").split())

    def find_spec(self, name, path=None, target=None):
        if any(name == each or name.startswith(each + ".") for each in self.names):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
"""


class Ended(NamedTuple):
    """One command: its exit status (0 for a server that became ready) and all it printed."""

    status: int
    text: str


@dataclass(frozen=True)
class Case:
    """One faulty file; README.md beside the corpus describes the fields."""

    name: str
    kind: str
    verdict: str
    place: str
    says: list[str]
    cure: list[str]
    text: str | None = None
    top: str = ""
    flow: str = ""
    filters: str = _LOCAL
    outputs: str = _LOG
    file: str = "relay.jsonc"
    encoding: str = "utf-8"
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes] = field(default_factory=dict)
    fix: list[list[str]] = field(default_factory=list)
    fix_environ: Mapping[str, str | None] = field(default_factory=dict)
    fix_files: Mapping[str, str | bytes] = field(default_factory=dict)

    @property
    def content(self) -> str:
        """The whole faulty file."""
        if self.text is not None:
            return self.text
        more = f", {self.flow}" if self.flow else ""
        port = "" if '"port"' in self.top or '"listeners"' in self.top else '"port": 0'
        top = ", ".join(filter(None, (self.top, port)))
        flow = f'"filters": [{self.filters}], "outputs": [{self.outputs}]{more}'
        return f'{{{top}, "flows": {{"in": {{{flow}}}}}}}\n'

    @property
    def apart(self) -> bool:
        """True if `check` needs a process of its own, because the case changes what can be imported."""
        return "TEST_WITHOUT" in self.environ or any(name.endswith(".py") for name in self.files)

    def write(self, folder: Path) -> dict[str, str]:
        """The faulty file and what is around it, in an empty folder. Returns its environment variables."""
        (folder / self.file).write_bytes(self.content.encode(self.encoding))
        for name, content in self.files.items():
            _write(folder / name, name, content)
        if "TEST_WITHOUT" in self.environ:
            (folder / "sitecustomize.py").write_text(_BLOCKER)
        return dict(self.environ)

    def cured(self, folder: Path) -> dict[str, str]:
        """Carry out the cure in a folder of the faulty file. Returns the environment variables."""
        text = self.content
        for old, new in self.fix:
            assert old in text, (old, text)
            text = text.replace(old, new) if old else new
        (folder / self.file).write_text(text, encoding="utf-8")
        for name, content in self.fix_files.items():
            _write(folder / name, name, content)
        changed = {**self.environ, **self.fix_environ}
        return {name: value for name, value in changed.items() if value is not None}


@cache
def cases() -> tuple[Case, ...]:
    """The whole corpus."""
    found = []
    for path in sorted(FOLDER.glob("*.yaml")):
        found += [Case(**each) for each in yaml.load(path.read_bytes(), yaml.CSafeLoader)]
    return tuple(found)


def environment(folder: Path, more: Mapping[str, str]) -> dict[str, str]:
    """A process's environment: a clean one, where packages of the folder can be imported."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "PYTHONUNBUFFERED": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        **more,
    }


def check(case: Case, folder: Path, environ: Mapping[str, str], *arguments: str) -> Ended:
    """`smtp-relay check` on the case's file, in this process unless the case needs another."""
    command = ["check", *arguments, case.file]
    whole = environment(folder, environ)
    if case.apart:
        done = subprocess.run(
            [sys.executable, "-m", "listener.cli.main", *command],
            cwd=folder,
            env=whole,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout)
    from listener.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        mock.patch.dict(os.environ, whole, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        status = main(command)
    assert err.getvalue() == ""
    return Ended(status, out.getvalue())


def serve(case: Case, folder: Path, environ: Mapping[str, str]) -> Ended:
    """`smtp-relay serve` as a process of its own, until it is ready or has ended."""
    output = folder / ".output"
    with output.open("wb") as stream:
        started = subprocess.Popen(
            [sys.executable, "-m", "listener.cli.main", "serve", case.file],
            cwd=folder,
            env=environment(folder, environ),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return _outcome(output, started.poll, started.pid)


def serve_quickly(case: Case, folder: Path, environ: Mapping[str, str]) -> Ended:
    """The same in a process forked from one that has imported the server already."""
    output = folder / ".output"
    output.unlink(missing_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["listener.server.run", "listener.cli.serve", "listener.config.load"])
    started = context.Process(target=_serve, args=(str(folder), environment(folder, environ), case.file))
    started.start()
    assert started.pid is not None

    def poll() -> int | None:
        started.join(0)
        return started.exitcode

    ended = _outcome(output, poll, started.pid)
    started.join()
    return ended


def _serve(folder: str, environ: Mapping[str, str], file: str) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environ)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    descriptor = os.open(".output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    from listener.cli.main import main

    sys.exit(main(["serve", file]))


def _outcome(output: Path, poll: Any, pid: int) -> Ended:
    deadline = time.monotonic() + _PATIENCE
    try:
        while time.monotonic() < deadline:
            status = poll()
            text = output.read_text(errors="replace") if output.exists() else ""
            if status is not None:
                return Ended(status, output.read_text(errors="replace"))
            # A server that logs to a file alone says there that it listens.
            if READY in text or any(READY in log.read_text() for log in output.parent.glob("*.log")):
                return Ended(0, text)
            time.sleep(0.01)
        raise AssertionError(f"neither ready nor ended:\n{text}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            # The process leads a group of its own from the time when it prints something.
            os.killpg(pid, signal.SIGKILL)
        while poll() is None:
            time.sleep(0.005)


def _write(path: Path, name: str, content: str | bytes) -> None:
    if name.endswith("/"):
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, str) and content.startswith("@"):
        content = material()[content[1:]]
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@cache
def material() -> dict[str, bytes]:
    """Keys and certificates by name."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, rsa
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        pkcs12,
    )

    key, other = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name.from_rfc4514_string("CN=localhost")

    def certificate(days: int) -> x509.Certificate:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        made = made.serial_number(x509.random_serial_number())
        made = made.not_valid_before(now - datetime.timedelta(days=400))
        return made.not_valid_after(now + datetime.timedelta(days=days)).sign(key, hashes.SHA256())

    def private(one: Any, how: Any = None) -> bytes:
        written: bytes = one.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how or NoEncryption())
        return written

    good = certificate(300)
    return {
        "key": private(key),
        "other-key": private(other),
        "encrypted-key": private(key, BestAvailableEncryption(b"sesame")),
        "rsa-key": private(signing),
        "cert": good.public_bytes(Encoding.PEM),
        "der": good.public_bytes(Encoding.DER),
        "expired-cert": certificate(-10).public_bytes(Encoding.PEM),
        "pfx": pkcs12.serialize_key_and_certificates(None, key, good, None, NoEncryption()),
    }


def messages(ended: Ended, severity: str) -> Iterator[str]:
    """The findings of that severity in the output of `check`."""
    for line in ended.text.splitlines():
        if line.startswith(f"{severity}: "):
            yield line.removeprefix(f"{severity}: ")


def as_json(ended: Ended) -> Any:
    """The value that `check --json` printed."""
    return json.loads(ended.text)
