"""The installed command, far from a clone: in an empty folder, and beside packages of our names."""

from __future__ import annotations

import json
import smtplib
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import functions
from tests.e2e.install.conftest import Environment, clean
from tests.support.servers.relay import ROOT

NAMES: Final = ("listener", "functions", "infra", "tests", "bench", "scripts", "smtp_relay_testing")
"""Top-level packages of this repository."""

CONFIG: Final = {
    "flows": {
        "mails": {
            "filters": [{"type": "whitelist", "subnets": ["127.0.0.1/32"]}],
            "outputs": [{"type": "file", "path": "mails", "filename": "${id}.eml", "addRawHeaders": True}],
        }
    },
    "port": 0,
    "options": {"authOptional": True},
    "inbox": {"port": 0},
}


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with packages of all our names, which leave a file when they are imported."""
    folder = tmp_path / "project"
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"import pathlib\npathlib.Path({str(tmp_path)!r}, 'imported-{name}').touch()\n"
        )
    (folder / "relay.json").write_text(json.dumps(CONFIG))
    return folder


def imported(project: Path) -> list[str]:
    return sorted(path.name for path in project.parent.glob("imported-*"))


def send(port: int, subject: str) -> None:
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.sendmail("a@b.example", ["c@d.example"], f"Subject: {subject}\n\nhi\n")


def subjects(inbox: str) -> list[str]:
    with urllib.request.urlopen(f"{inbox}/api/v1/messages", timeout=30) as answer:
        return [one["Subject"] for one in json.load(answer)["messages"]]


def test_the_command_says_its_version(installed: Environment, empty: Path) -> None:
    assert installed.run("--version", cwd=empty).stdout == f"smtp-relay {functions.__version__}\n"


def test_the_command_serves_in_an_empty_folder_and_its_inbox_shows_the_mail(
    installed: Environment, empty: Path
) -> None:
    with installed.serving(
        [installed.command, "--port", "0"], empty, "stop with Ctrl-C", SMTP_RELAY_INBOX='{"port": 0}'
    ) as said:
        send(int(said(r"listening on 127\.0\.0\.1:(\d+)")), "first")
        assert subjects(said(r"inbox: (http://\S+)")) == ["first"]
        (stored,) = (empty / "received_emails").glob("*.eml")
        assert b"Subject: first" in stored.read_bytes()


def test_check_says_what_the_embedded_configuration_does(installed: Environment, empty: Path) -> None:
    done = installed.run("check", cwd=empty)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "received_emails" in done.stdout
    assert list(empty.iterdir()) == []


@pytest.mark.parametrize(
    "environ",
    [{}, {"PYTHONPATH": "."}, {"PYTHONPATH": ".:", "PYTHONSAFEPATH": "1"}, {"PYTHONPATH": "../project"}],
    ids=str,
)
def test_a_project_s_packages_of_our_names_stay_out_of_the_server_and_its_inbox(
    installed: Environment, project: Path, environ: dict[str, str]
) -> None:
    with installed.serving([installed.command, "relay.json"], project, "listening on", **environ) as said:
        send(int(said(r"listening on 127\.0\.0\.1:(\d+)")), "theirs")
        assert subjects(said(r"inbox: (http://\S+)")) == ["theirs"]
    assert imported(project) == []


def test_the_processes_for_a_preview_and_for_a_certificate_import_none_of_them(
    installed: Environment, project: Path
) -> None:
    with installed.serving(
        [installed.command, "relay.json"], project, "listening on", PYTHONPATH=str(project)
    ) as said:
        long = "<p>word</p>\n" * 20_000
        with smtplib.SMTP("127.0.0.1", int(said(r"listening on 127\.0\.0\.1:(\d+)"))) as client:
            client.starttls()  # with a certificate that a process of its own makes
            client.sendmail(
                "a@b.example",
                ["c@d.example"],
                f"Subject: long\nMIME-Version: 1.0\nContent-Type: text/html\n\n{long}\n",
            )
        inbox = said(r"inbox: (http://\S+)")
        with urllib.request.urlopen(f"{inbox}/view/latest.html", timeout=60) as answer:
            assert answer.read().count(b"word") == 20_000
    assert imported(project) == []


@pytest.mark.parametrize(
    "arguments", [["check", "relay.json"], ["schema"], ["mails", "list", "-c", "relay.json"]]
)
def test_python_m_runs_the_same_command_in_such_a_project(
    installed: Environment, project: Path, arguments: list[str]
) -> None:
    done = subprocess.run(
        [installed.python, "-m", "smtp_relay", *arguments],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported(project) == []


def test_a_path_file_of_the_environment_brings_no_package_of_our_names(
    installed: Environment, project: Path
) -> None:
    path = installed.packages / "first.pth"
    path.write_text(f"import sys; sys.path.insert(0, {str(project)!r})\n")
    try:
        done = installed.run("check", "relay.json", cwd=project)
    finally:
        path.unlink()
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported(project) == []


def test_a_plugin_of_the_working_folder_is_found_as_python_finds_it(
    installed: Environment, project: Path
) -> None:
    plugin = ROOT / "docs" / "examples" / "plugin"
    (project / "smtp_relay_example").symlink_to(plugin / "smtp_relay_example")
    about = project / "smtp_relay_example-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: smtp-relay-example\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[smtp_relay.outputs]\nmbox = smtp_relay_example.mbox\n")
    config = {"flows": {"in": {"outputs": [{"type": "mbox", "path": "mails.mbox"}]}}}
    (project / "plugin.json").write_text(json.dumps(config))
    done = installed.run("check", "plugin.json", cwd=project, PYTHONPATH=str(project))
    assert done.returncode == 0, done.stdout + done.stderr
    assert imported(project) == []


# -- extras ---------------------------------------------------------------------------------------


def test_without_the_extras_one_line_says_what_to_install(
    with_extra: Callable[[str], Environment], empty: Path
) -> None:
    bare = with_extra("")
    done = bare.run("--port", "0", cwd=empty)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "is not installed (pip install 'smtp-relay[listener,inbox]')" in done.stderr
    assert bare.run("--version", cwd=empty).returncode == 0
    assert json.loads(bare.run("schema", "--event", cwd=empty).stdout)["$id"]


def test_the_extra_listener_serves_without_an_inbox(
    with_extra: Callable[[str], Environment], empty: Path
) -> None:
    listener = with_extra("listener")
    with listener.serving([listener.command, "--port", "0"], empty, "stop with Ctrl-C") as said:
        assert said("(no inbox: .+)")
        send(int(said(r"listening on 127\.0\.0\.1:(\d+)")), "plain")
        assert len(list((empty / "received_emails").glob("*.eml"))) == 1


@pytest.mark.parametrize(
    ("extra", "modules"),
    [
        ("mailer", "functions.processors.mailer.output, functions.processors.mailer.dkim"),
        ("aws", "functions.aws.handler, functions.aws.output.processor"),
        ("gcp", "functions.gcp.main, functions.gcp.output.processor"),
    ],
)
def test_an_extra_brings_all_that_its_modules_import(
    with_extra: Callable[[str], Environment], empty: Path, extra: str, modules: str
) -> None:
    made = with_extra(extra)
    # The function reads the configuration that its bundle holds.
    (made.packages / "relay.json").write_text('{"flows": {"in": {"outputs": [{"type": "log"}]}}}')
    environ = {"SMTP_RELAY_SPOOL": "s3://mails" if extra == "aws" else "gs://mails"}
    subprocess.run(
        [made.python, "-W", "ignore", "-c", f"import {modules}"],
        cwd=empty,
        env=clean(**environ),
        check=True,
    )
