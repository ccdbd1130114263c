"""The examples of events, and the type for TypeScript, as the compiler of TypeScript reads it."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts.event_examples import FOLDER, SAMPLES, TYPES, event, files
from tests.support.programs import NODE_MODULES, program


def compiled(folder: Path, events: dict[str, Any]) -> dict[str, str]:
    """What the compiler finds wrong with each event as a value of the type, by the event's name."""
    node, compiler = program("node", "nodejs"), NODE_MODULES / "typescript" / "bin" / "tsc"
    if not compiler.exists():
        pytest.skip("npm's typescript is missing (`make test` installs it)")
    (folder / "cloudevent.d.ts").write_bytes(TYPES.read_bytes())
    for name, value in events.items():
        text = json.dumps(value, ensure_ascii=False)
        head = 'import type { MailEvent } from "./cloudevent";\n'
        (folder / f"{name}.ts").write_text(
            f"{head}export const event: MailEvent = {text};\n", encoding="utf-8"
        )
    names = [f"{name}.ts" for name in events]
    command = [node, compiler, "--noEmit", "--strict", "--pretty", "false", *names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    lines = done.stdout.splitlines()
    assert bool(lines) == bool(done.returncode)
    assert all(line.startswith(tuple(names)) for line in lines), done.stdout
    return {name: "\n".join(line for line in lines if line.startswith(f"{name}.ts")) for name in events}


def test_the_committed_files_are_those_of_today() -> None:
    stale = [path.name for path, text in files() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run scripts/event_examples.py"


def test_there_are_five_examples_and_no_file_without_its_mail() -> None:
    assert len(SAMPLES) == 5
    there = {path.name for path in FOLDER.iterdir()}
    assert there == {TYPES.name} | {f"{name}.{end}" for name in SAMPLES for end in ("eml", "json")}


def test_the_compiler_takes_the_examples_and_refuses_what_is_none(tmp_path: Path) -> None:
    good = event("attachments")
    lacking, mistyped, unknown = (copy.deepcopy(good) for _ in range(3))
    del lacking["data"]["envelope"]["to"]
    mistyped["data"]["email"]["attachments"][0]["size"] = "12"
    unknown["data"]["email"]["colour"] = "red"
    found = compiled(
        tmp_path,
        {name: event(name) for name in SAMPLES}
        | {"lacking": lacking, "mistyped": mistyped, "unknown": unknown},
    )
    assert {name: found[name] for name in SAMPLES} == dict.fromkeys(SAMPLES, "")
    assert "Property 'to' is missing" in found["lacking"]
    assert "Type 'string' is not assignable to type 'number'" in found["mistyped"]
    assert '"colour"\' does not exist' in found["unknown"]
