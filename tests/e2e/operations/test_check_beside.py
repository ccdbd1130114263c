"""`check` where it is used: beside a running server, without a package, and on files of any content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.faulty import Case, cases, check, environment, serve
from tests.support.servers.relay import ROOT, Relay

BLOCKED = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("boto3", "botocore"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder, with its size and time of change."""
    found = {}
    for path in folder.rglob("*"):
        stat = path.stat()
        found[str(path.relative_to(folder))] = (stat.st_size if path.is_file() else 0, stat.st_mtime_ns)
    return found


def test_it_is_good_beside_the_running_server_and_touches_nothing(tmp_path: Path) -> None:
    value: dict[str, Any] = {
        "flows": {
            "in": {
                "filters": [{"type": "whitelist", "ips": "127.0.0.1"}],
                "outputs": [{"type": "file", "path": "received"}],
            }
        },
        "options": {"authOptional": True},
        "loggers": [{"type": "CONSOLE"}, {"type": "FILE", "filepath": "relay.log"}],
    }
    relay = Relay(tmp_path / "relay", value)
    relay.start()
    try:
        command = ["check" if word == "serve" else word for word in relay.command()]
        before = listing(relay.folder)
        said = subprocess.run(
            command,
            cwd=relay.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert said.returncode == 0, said.stdout + said.stderr
        assert said.stdout.splitlines()[-1].endswith(": good")
        after = listing(relay.folder)
        # The server itself writes its log and its spool at any time.
        ours = ("relay.log", ".smtp-relay", "output.log")
        changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
        assert not [name for name in changed if not name.startswith(ours)]
        assert before.keys() == after.keys()
        assert relay.alive
    finally:
        assert relay.stop() == 0


@pytest.mark.parametrize("command", [["check"], ["serve"], []])
def test_the_quick_starts_next_step_without_boto3_is_one_line(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    (tmp_path / "mail2s3.jsonc").write_text((ROOT / "configs" / "mail2s3.jsonc").read_text())
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", *command, "mail2s3.jsonc"],
        cwd=tmp_path,
        env=environment(tmp_path, {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    line = "mail2s3.jsonc: flows.inbound.outputs[0]: type 'aws' needs boto3: pip install 'smtp-relay[aws]'"
    printed = done.stdout if command == ["check"] else done.stderr
    assert done.returncode == 2
    assert printed.count(line) == 1
    assert "Traceback" not in done.stdout + done.stderr


CORPUS = [case for case in cases() if not case.apart and case.encoding == "utf-8"]

VALUES = st.sampled_from(
    [None, True, 0, -1, 1e400, 70_000, "", "x", [], {}, [None], {"type": "log"}, "env:X", "file://x", "10MB"]
)


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places in a value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(each for key, item in inner for each in paths(item, (*path, key)))]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[Case, str]:
    """A file of the corpus with one place changed: a value replaced, or characters of the text."""
    case = draw(st.sampled_from(CORPUS))
    text = case.content
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if value is not None and draw(st.booleans()):
        place = draw(st.sampled_from(paths(value)))
        if place:
            holder = value
            for step in place[:-1]:
                holder = holder[step]
            holder[place[-1]] = draw(VALUES)
        return case, json.dumps(value)
    start = draw(st.integers(0, len(text)))
    length = draw(st.integers(0, 8))
    new = draw(st.sampled_from(["", ",", "}", '"', "[", "'", "\t", ":", "no", "\n", "\x00", "é", "${", "-"]))
    return case, text[:start] + new + text[start + length :]


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_no_file_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, changed: tuple[Case, str]
) -> None:
    case, text = changed
    folder = tmp_path_factory.mktemp("mutated")
    environ = case.write(folder)
    (folder / case.file).write_text(text, encoding="utf-8")
    said = check(case, folder, environ)
    assert said.status in (0, 2), said.text
    assert (said.status == 2) is any(line.startswith("error: ") for line in said.text.splitlines())


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(mutated())
def test_serve_agrees_on_changed_files(
    tmp_path_factory: pytest.TempPathFactory, changed: tuple[Case, str]
) -> None:
    case, text = changed
    folder = tmp_path_factory.mktemp("agreed")
    environ = case.write(folder)
    (folder / case.file).write_text(text, encoding="utf-8")
    said = check(case, folder, environ)
    served = serve(case, folder, environ)
    assert said.status == served.status, (text, said.text, served.text)
