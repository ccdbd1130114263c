"""The fixture `mailbox` in a project whose own modules have our names."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support import process
from tests.support.net import wait_until
from tests.support.pytest_project import Project
from tests.support.servers.relay import ROOT


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_a_test_expects_a_mail_and_reads_it(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import re


        def test_it(mailbox, send):
            send("Welcome,\\n  Ann", text="Your code is 4711: https://shop.example/confirm?a=1")
            mail = mailbox.expect(to="Ann <ANN@example.com>", subject="welcome, ann", within=5)
            assert mail.code == mailbox.code == "4711"
            assert mail.links == mailbox.links == ["https://shop.example/confirm?a=1"]
            assert (mail.sender, mail.to) == ("shop@example.com", ["ann@example.com"])
            assert (mail.cc, mail.bcc) == ([], [])
            assert mail.text.startswith("Your code")
            assert mail.headers["From"] == ["Shop <shop@example.com>"]
            assert mailbox.expect(sender="bounces@example.com").id == mail.id
            assert mailbox.expect(subject=re.compile("^Wel"), text="CODE IS").id == mail.id
            assert mailbox.url == f"smtp://{mailbox.username}:{mailbox.password}@127.0.0.1:{mailbox.port}"
        """,
    )
    project.run(passed=1)


def test_every_mail_that_was_sent_is_there_at_once(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_it(mailbox, send):
            for number in range(20):
                send(f"{number}")
                assert mailbox.last.subject == f"{number}"
            assert [mail.subject for mail in mailbox.messages] == [f"{number}" for number in range(20)]
            mailbox.clear()
            assert mailbox.messages == []
            mailbox.expect_none(within=0)
        """,
    )
    project.run(passed=1)


def test_a_mail_that_comes_later_is_waited_for(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import threading, time


        def test_it(mailbox, send, monkeypatch):
            send("First")
            first = mailbox.expect(subject="First")
            thread = threading.Timer(0.3, send, ["Second"])
            thread.start()
            monkeypatch.setattr(time, "time", lambda: 0.0)  # as tools that stop the clock do
            monkeypatch.setattr(time, "monotonic", lambda: 0.0)
            assert mailbox.expect(to="ann@example.com", after=first, within=20).subject == "Second"
            assert mailbox.expect(to="ann@example.com").subject == "Second"
            mailbox.expect_none(subject="Third", within=0.2)
            thread.join()
        """,
    )
    project.run(passed=1)


def test_a_failed_test_shows_its_mails_and_what_each_missed(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        def test_expected(mailbox, send):
            send("Welcome", to="bob@example.com", text="Hello " + "Bob")
            mailbox.expect(to="ann@example.com", subject="Welcome", within=0.1)


        def test_not_expected(mailbox, send):
            send("Welcome", text="Hello " + "Ann")
            mailbox.expect_none(to="ann@example.com")


        def test_nothing(mailbox):
            mailbox.last
        """,
    )
    output = project.run(failed=3)
    assert "no mail to ann@example.com with subject 'Welcome' came within 0.1 s; the nearest:" in output
    assert "to is bob@example.com, not ann@example.com" in output
    first, second, third = output.split("Mails of ")[1:]
    assert "from shop@example.com to bob@example.com: 'Welcome'" in first
    assert "Hello Bob" in first
    assert "Hello Ann" not in first
    assert "no mail to ann@example.com should have come" in output
    assert "Hello Ann" in second
    assert "Hello Bob" not in second
    assert "no mail came" in third


def test_tests_do_not_see_the_mails_of_others(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        late = []


        @pytest.mark.parametrize("login", [True, False])
        @pytest.mark.parametrize("number", range(3))
        def test_it(mailbox, send, number, login):
            assert mailbox.messages == []
            for send_late in late:
                send_late("late")
            late[:] = [send]
            send(f"{number}", login=login)
            assert [mail.subject for mail in mailbox.messages] == [f"{number}"]
        """,
    )
    project.run(passed=6)


def test_each_worker_of_xdist_has_its_server(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest


        @pytest.mark.parametrize("number", range(12))
        def test_it(mailbox, send, number):
            send(f"{number}", login=number % 2)
            assert mailbox.expect(to="ann@example.com").subject == f"{number}"
            assert len(mailbox.messages) == 1
        """,
    )
    project.run("-n", "4", passed=12)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_a_server_ends_with_a_process_that_is_killed(project: Project, arguments: tuple[str, ...]) -> None:
    project.write(
        "test_it.py",
        """
        import os, time


        def test_it(mailbox, send):
            send("One")
            mailbox.expect(to="ann@example.com")
            with open("pid.new", "w") as file:
                print(os.getpid(), file=file)
            os.rename("pid.new", "pid")
            time.sleep(600)
        """,
    )
    run = project.start(*arguments)
    written = project.folder / "pid"
    try:
        wait_until(lambda: written.exists() or run.poll() is not None, seconds=60, what="the test")
        worker = int(written.read_text())
        started = process.tree(worker)[1:]
        assert len(started) == 2  # the server and its inbox
        os.kill(worker, signal.SIGKILL)
        wait_until(
            lambda: not any(map(process.command_line, started)), seconds=30, what="the end of the server"
        )
    finally:
        run.terminate()
        run.communicate()


def test_nothing_is_left_of_the_server_and_its_folder(project: Project, tmp_path: Path) -> None:
    project.write(
        "test_it.py",
        """
        import os


        def test_it(mailbox, send):
            send("One")
            print(f"pid {os.getpid()} ends")
            assert mailbox.messages == []
        """,
    )
    project.run(f"--basetemp={tmp_path / 'temporary'}", failed=1)
    left = [path for path in (tmp_path / "temporary").rglob("*") if path.is_file()]
    assert left == []


def test_a_run_without_a_mailbox_loads_only_the_hooks(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import sys


        def test_it():
            import functions, listener

            assert (listener.OWN, functions.OWN) == ("the project's listener", "the project's functions")
            assert {name for name in sys.modules if name.startswith("smtp_relay_testing")} == {
                "smtp_relay_testing", "smtp_relay_testing.plugin"
            }


        def test_with_a_mailbox_too(mailbox):
            import functions, listener

            assert (listener.OWN, functions.OWN) == ("the project's listener", "the project's functions")
            loaded = {name for name in sys.modules if name.partition(".")[0] in ("listener", "functions")}
            assert loaded == {"listener", "functions"}
        """,
    )
    project.run(passed=2)


def test_variables_of_the_product_do_not_change_the_server(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_RELAY_PORT", "25")
    monkeypatch.setenv("SMTP_RELAY_CONFIG_JSON", "{}")
    project.write("test_it.py", "def test_it(mailbox, send):\n    send('One')\n    assert mailbox.last\n")
    project.run(passed=1)


def test_the_fixture_of_a_project_goes_first(project: Project) -> None:
    project.write("conftest.py", "import pytest\n\n\n@pytest.fixture\ndef mailbox():\n    return 'own'\n")
    project.write("test_it.py", "def test_it(mailbox):\n    assert mailbox == 'own'\n    assert 0\n")
    assert "Mails of" not in project.run(failed=1)


def test_the_wheel_holds_the_plugin_and_installs_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    source = tmp_path / "source"
    source.mkdir()
    held = ("functions", "listener", "smtp_relay_testing")
    for name in ("pyproject.toml", "README.md", "LICENSE", "smtp_relay.py", *held):
        (source / name).symlink_to(ROOT / name)
    subprocess.run([*build, "--wheel-dir", tmp_path / "dist", source], check=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = home.glob("lib/python*/site-packages")
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if name.startswith("smtp_relay_testing/")}
        assert names == {
            f"smtp_relay_testing/{path.name}"
            for path in (ROOT / "smtp_relay_testing").iterdir()
            if path.name != "__pycache__"
        }
        assert "smtp_relay_testing/py.typed" in names
        archive.extractall(packages)
    (packages / "others.pth").write_text(f"{Path(pytest.__file__).parents[1]}\n")
    project = Project(tmp_path / "project", home / "bin" / "python")
    project.write(
        "test_it.py",
        f"""
        import smtp_relay_testing


        def test_it(mailbox, send):
            assert smtp_relay_testing.__file__.startswith({str(packages)!r})
            send("One")
            mailbox.expect(subject="One")
        """,
    )
    project.run(passed=1)
