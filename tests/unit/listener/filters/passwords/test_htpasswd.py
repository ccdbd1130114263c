"""The htpasswd file: read at start, read again when it changes, never used in part."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from pathlib import Path

import pytest

from functions.errors import ConfigError
from listener.filters.passwords import htpasswd
from listener.filters.passwords.htpasswd import Htpasswd


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def line(name: str, password: str = "secret") -> str:
    digest = hashlib.sha1(password.encode(), usedforsecurity=False).digest()
    return f"{name}:{{SHA}}{base64.b64encode(digest).decode()}\n"


def write(path: Path, *lines: str, age: float = 60) -> None:
    """Write the file so that it looks changed `age` seconds ago."""
    path.write_text("".join(lines))
    when = time.time() - age
    os.utime(path, (when, when))


def names(file: Htpasswd) -> list[str] | None:
    return None if file.users is None else sorted(file.users)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


def test_comments_empty_lines_and_odd_line_ends_are_fine(path: Path) -> None:
    path.write_bytes(b"# users\n\n  \n" + line("ann").rstrip().encode() + b"\r\n" + line("böb").encode())
    file = Htpasswd(path)
    assert names(file) == ["ann", "böb"]
    assert file.users is not None
    assert file.users["ann"].matches(b"secret")


def test_an_empty_file_has_no_users(path: Path) -> None:
    path.touch()
    assert names(Htpasswd(path)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense\n", "users, line 1: is not USER:HASH"),
        (line("ann") + ":x\n", "users, line 2: is not USER:HASH"),
        (line("ann") + "\n" + line("ann"), "users, line 3: user 'ann' stands there already"),
        ("ann:hunter2\n", "users, line 1: the password of 'ann': its form is not known here"),
    ],
)
def test_mistakes_name_the_line_and_not_the_password(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")) as caught:
        Htpasswd(path)
    assert "hunter2" not in str(caught.value)


def test_files_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        Htpasswd(path)
    path.write_bytes(b"\xff:x")
    with pytest.raises(ConfigError, match="is not UTF-8 text"):
        Htpasswd(path)
    path.write_bytes(b"#" * (htpasswd.MAX_SIZE + 1))
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        Htpasswd(path)


def test_a_change_is_seen_after_a_second_at_the_latest(path: Path) -> None:
    clock = Clock()
    write(path, line("ann"))
    file = Htpasswd(path, clock)
    write(path, line("ann"), line("bob"), age=30)
    assert not file.refresh()
    assert names(file) == ["ann"]
    clock.now += 1
    assert file.refresh()
    assert names(file) == ["ann", "bob"]


def test_a_file_that_did_not_change_is_not_read_again(path: Path) -> None:
    clock = Clock()
    write(path, line("ann"))
    file = Htpasswd(path, clock)
    before = file.users
    clock.now += 10
    assert not file.refresh()
    assert file.users is before


def test_a_replaced_file_of_the_same_age_and_size_is_another(path: Path) -> None:
    clock = Clock()
    write(path, line("ann"))
    file = Htpasswd(path, clock)
    when = path.stat().st_mtime_ns
    other = path.with_name("new")
    write(other, line("bob"))
    os.utime(other, ns=(when, when))
    other.rename(path)
    clock.now += 1
    assert file.refresh()
    assert names(file) == ["bob"]


def test_a_second_change_within_the_clocks_grain_is_not_missed(path: Path) -> None:
    clock = Clock()
    write(path, line("ann"), age=0)
    when = path.stat().st_mtime_ns
    file = Htpasswd(path, clock)
    path.write_text(line("bob"))
    os.utime(path, ns=(when, when))
    clock.now += 1
    assert file.refresh()
    assert names(file) == ["bob"]


@pytest.mark.parametrize("mishap", ["nonsense", "gone"])
def test_a_broken_file_is_not_believed_and_told_once(
    path: Path, mishap: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    write(path, line("ann"))
    content = path.read_text()
    file = Htpasswd(path, clock)
    if mishap == "gone":
        path.unlink()
    else:
        write(path, "nonsense\n", age=30)
    for _ in range(3):
        clock.now += 1
        file.refresh()
        assert file.users is None
    assert len(caplog.records) == 1
    assert "its users are deferred until it is fixed" in caplog.text
    write(path, content)
    clock.now += 1
    assert file.refresh()
    assert names(file) == ["ann"]
