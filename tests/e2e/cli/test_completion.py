"""Real shells read the script of `completion`, and complete with it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from listener.cli.completion.scripts import SHELLS
from listener.cli.main import COMMANDS
from tests.support.net import PATIENCE
from tests.support.programs import program
from tests.support.servers.relay import ROOT


@pytest.fixture(scope="module", params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the script of each shell, and a file and a folder to complete."""
    folder = tmp_path_factory.mktemp("completion")
    for name in SHELLS:
        done = subprocess.run(
            [sys.executable, "-m", "listener.cli.main", "completion", name],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        )
        (folder / f"script.{name}").write_text(done.stdout)
    (folder / "relay.jsonc").touch()
    (folder / "my mails").mkdir()
    return folder


def test_the_shell_reads_it_without_complaint(shell: str, scripts: Path) -> None:
    done = subprocess.run(
        [program(shell, shell), "-n", scripts / f"script.{shell}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


COMPLETED = {
    "dead": "deadletter",
    "--por": "--port",
    "completion z": "zsh",
    "check --on f": "fargate",
    "-v deadletter rep": "replay",
    "send --att": "--attach",
    "serve rel": "relay.jsonc",
    "rel": "relay.jsonc",
    "check --public rel": "relay.jsonc",
    "serve -c rel": "relay.jsonc",
    "hash-password --alg": "--algorithm",
}


@pytest.mark.parametrize("typed", COMPLETED)
def test_bash_completes(typed: str, scripts: Path) -> None:
    assert in_terminal(["bash", "--norc", "-i"], "bash", typed, scripts) == COMPLETED[typed]


@pytest.mark.parametrize("typed", COMPLETED)
def test_zsh_completes(typed: str, scripts: Path) -> None:
    assert in_terminal([program("zsh", "zsh"), "-f", "-i"], "zsh", typed, scripts) == COMPLETED[typed]


@pytest.mark.parametrize("typed", COMPLETED)
def test_fish_completes(typed: str, scripts: Path) -> None:
    assert COMPLETED[typed] in fish(typed, scripts)


def test_fish_has_every_command_with_its_help(scripts: Path) -> None:
    done = subprocess.run(
        [program("fish", "fish"), "--no-config", "-c", "source script.fish; complete -C 'smtp-relay '"],
        cwd=scripts,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert {f"{name}\t{text}" for name, (_, text) in COMMANDS.items()} <= set(lines)


def test_bash_lists_every_command(scripts: Path) -> None:
    code = (
        "source script.bash; COMP_WORDS=(smtp-relay ''); COMP_CWORD=1; _smtp_relay; echo ${COMPREPLY[@]}; "
        "COMP_WORDS=(smtp-relay check --on = c); COMP_CWORD=4; _smtp_relay; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", code], cwd=scripts, capture_output=True, text=True, check=True
    )
    listed, value = done.stdout.splitlines()
    assert {*COMMANDS, "--port", "-v"} <= set(listed.split())
    assert value == "cloud-run"


def fish(typed: str, folder: Path) -> list[str]:
    done = subprocess.run(
        [
            program("fish", "fish"),
            "--no-config",
            "-c",
            f"source script.fish; complete -C 'smtp-relay {typed}'",
        ],
        cwd=folder,
        env={**os.environ, "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


def in_terminal(command: list[str], shell: str, typed: str, folder: Path) -> str:
    """What the shell makes of the last typed word when the user presses the tab key: a function with the
    program's name tells its words."""
    start = "autoload -U compinit; compinit -u -D; " if shell == "zsh" else ""
    tell = "smtp-relay() { printf '%s|' got \"$@\" end; }"
    lines = f"{start}source ./script.{shell}; {tell}; PS1='>'; echo rea''dy\n"
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(folder)
        os.execvpe(command[0], command, {**os.environ, "TERM": "dumb", "HOME": str(folder)})
    try:
        os.write(terminal, lines.encode())
        until(terminal, "\nready")
        os.write(terminal, f"smtp-relay {typed}\t\n".encode())
        words = until(terminal, r"got\|(.*)\|end\|")
        return words.split("|")[-1].strip()
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def until(terminal: int, pattern: str) -> str:
    """The first group, or all, of what the terminal shows when it matches."""
    shown, deadline = "", time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            shown += os.read(terminal, 65_536).decode(errors="replace").replace("\r", "")
            if found := re.search(pattern, shown):
                return found[found.lastindex or 0]
    raise TimeoutError(shown)
