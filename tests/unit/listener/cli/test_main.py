"""The command line: which command runs, with what, and how it ends."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from functions import __version__
from functions.errors import ConfigError, ConfigErrors
from listener.cli import main as cli
from tests.support.servers.relay import ROOT


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of the server, instead of starting it."""
    calls: list[Any] = []

    def run(config: Any, reload: Any = None) -> int:
        calls.append((config, reload))
        return 0

    monkeypatch.setattr("listener.server.run.run", run)
    return calls


class TestServe:
    @pytest.mark.parametrize("command", [["relay.json"], ["serve", "relay.json"]])
    def test_with_or_without_its_name(self, served: list[Any], command: list[str]):
        Path("relay.json").write_text('{"flows": {}, "port": 7}')
        assert cli.main(command) == 0
        config, reload = served[0]
        assert config.port == 7
        Path("relay.json").write_text('{"flows": {}, "port": 8}')
        assert reload().port == 8

    @pytest.mark.parametrize("command", [[], ["serve"]])
    def test_without_a_file(self, served: list[Any], command: list[str]):
        assert cli.main(command) == 0
        assert served[0][0].source == "the embedded default"

    def test_a_mistake_is_2_and_no_traceback(self, served: list[Any], capsys: pytest.CaptureFixture[str]):
        Path("relay.json").write_text('{"flows": {}, "prot": 7, "binding": 1}')
        assert cli.main(["relay.json"]) == 2
        assert served == []
        out, err = capsys.readouterr()
        assert out == ""
        lines = err.splitlines()
        assert len(lines) == 2
        assert all(line.startswith("smtp-relay: relay.json: unknown key") for line in lines)

    def test_a_fault_is_1_and_a_log(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
        def broken(*_: Any, **__: Any) -> int:
            raise RuntimeError("boom")

        monkeypatch.setattr("listener.server.run.run", broken)
        assert cli.main([]) == 1
        assert "unexpected fault" in caplog.text

    def test_control_c(self, monkeypatch: pytest.MonkeyPatch):
        def interrupted(*_: Any, **__: Any) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr("listener.server.run.run", interrupted)
        assert cli.main([]) == 130


class TestOthers:
    def test_check(self, capsys: pytest.CaptureFixture[str]):
        Path("relay.json").write_text('{"flows": {"in": {}}}')
        assert cli.main(["check", "relay.json", "--from-loopingz"]) == 0
        out, _ = capsys.readouterr()
        assert "relay.json: good" in out
        assert "every mail: 250" in out
        assert cli.main(["check", "relay.json", "--on", "fargate"]) == 2

    def test_schema(self, capsys: pytest.CaptureFixture[str]):
        assert cli.main(["schema"]) == 0
        assert json.loads(capsys.readouterr().out)["title"] == "smtp-relay configuration"

    def test_dkim_generate(self, capsys: pytest.CaptureFixture[str]):
        assert cli.main(["dkim-generate", "example.com", "jan2026", "--ed25519"]) == 0
        assert "jan2026._domainkey.example.com v=DKIM1; k=ed25519; p=" in capsys.readouterr().out
        assert cli.main(["dkim-generate", "exa mple", "jan2026"]) == 2

    def test_sweep_and_deadletter_name_missing_parts(self, capsys: pytest.CaptureFixture[str]):
        environ = {"flows": {}, "spool": "gs://bucket"}
        Path("smtp-relay.json").write_text(json.dumps(environ))
        for command in (["sweep"], ["deadletter", "list"]):
            status = cli.main(command)
            assert status in {1, 2}
            assert capsys.readouterr().err.startswith("smtp-relay: ")

    def test_a_misspelt_command(self, served: list[Any], capsys: pytest.CaptureFixture[str]):
        assert cli.main(["chekc", "relay.json"]) == 2
        assert "did you mean 'check'?" in capsys.readouterr().err
        Path("chekc").write_text('{"flows": {}}')
        assert cli.main(["chekc"]) == 0
        assert served[0][0].source == "chekc"

    def test_unknown_arguments_are_2(self, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["check", "--publik"])
        assert caught.value.code == 2
        assert "--publik" in capsys.readouterr().err

    def test_help_names_every_command(self, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit) as caught:
            cli.main(["--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert all(command in text for command in cli.COMMANDS)


def test_version_is_quick_and_imports_next_to_nothing():
    script = (
        "import sys; from listener.cli import main as cli\n"
        "try: cli.main(['--version'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('pydantic', 'asyncio', 'aiosmtpd', 'json') if name in sys.modules])"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"smtp-relay {__version__}", "[]"]
    assert time.monotonic() - began < 5


def test_a_reader_that_goes_away_is_no_fault():
    script = "from listener.cli.main import entry; entry()"
    with subprocess.Popen(
        [sys.executable, "-c", script, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_several_problems_are_a_line_each():
    several = ConfigErrors([ConfigError("a", "is wrong", "mend it"), ConfigError("b", "is too")])
    assert str(several) == "a: is wrong (mend it)\nb: is too"
    assert (several.where, several.what, several.cure) == ("a", "is wrong", "mend it")


@pytest.mark.parametrize(
    ("shell", "status", "told"),
    [
        ("exec {relay} schema >&-", 0, ""),
        ("exec {relay} schema >/dev/full", 1, "No space left"),
        ("exec {relay} init smarthost <&-", 0, "Prove it"),
        ("exec {relay} hash-password <&-", 2, "is empty"),
        ("exec {relay} check --json k\u00e4se", 2, '"k\\u00e4se"'),
        ("mkdir x; cd x; rmdir ../x; exec {relay} check", 2, "the working folder does not exist"),
        ("mkdir x; cd x; rmdir ../x; exec {relay} serve", 2, "the working folder does not exist"),
    ],
)
def test_odd_surroundings_cause_no_traceback(shell: str, status: int, told: str, tmp_path: Path):
    done = subprocess.run(
        ["sh", "-c", shell.replace("{relay}", f"{sys.executable} -m listener.cli.main")],
        cwd=tmp_path,
        env={
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "PYTHONIOENCODING": "ascii",
            "LANG": "C.UTF-8",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == status, done.stderr
    assert told in done.stdout + done.stderr
