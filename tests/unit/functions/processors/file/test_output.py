"""Output `file`: whole, once, never over another file, whatever breaks in between."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gc
import hashlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from functions.errors import Permanent, Temporary
from functions.ids import uuid7
from functions.message.envelope import Client, Envelope, FlowNotes, Recipient
from functions.message.mail import BytesContent, FileContent, Mail
from functions.processors.base import Job, Placed
from functions.processors.context import BuildContext
from functions.processors.file import placed as landed_files
from functions.processors.file import placing as landing
from functions.processors.file.cleanup import remove_traces
from functions.processors.file.output import FileOutputOptions, FileProcessor, build

CONTENT = b"Subject: x\r\n\r\n" + b"line\r\n" * 1_000
NAME = "20260102T030405678Z.eml"


def make_mail(
    path: Path | None = None, *, headers: tuple[tuple[str, str], ...] = (), content: bytes = CONTENT
) -> Mail:
    envelope = Envelope(
        id=uuid7(),
        session="s",
        received=1_767_323_045_678,
        reverse_path="a@b.example",
        recipients=(Recipient(address="c@d.example", flows=("f", "g")),),
        client=Client(ip="192.0.2.1"),
        notes={"f": FlowNotes(headers=headers)} if headers else {},
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    if path is None:
        return Mail(envelope, BytesContent(content))
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    path.chmod(0o600)
    return Mail(envelope, FileContent(path, len(content)))


def job(mail: Mail, flow: str = "f", *, shared: bool = False) -> Job:
    def once(part: str, effect: Callable[[], str | None]) -> None:
        effect()

    return Job(mail, flow, mail.envelope.recipients_of(flow), once, lambda: 1e9, shared)


def processor(
    folder: Path, *, staging: Path | None = None, durable: bool = True, **options: Any
) -> FileProcessor:
    if staging is not None:
        staging.mkdir(parents=True, exist_ok=True)
    context = BuildContext.of(folder, {}, durable=durable, staging=staging)
    return build(FileOutputOptions(path="out", **options), "file_0", context)


def deliver(target: FileProcessor, mail: Mail, flow: str = "f") -> None:
    finish(target.process(job(mail, flow)))


def finish(placed: Placed) -> None:
    placed.fsync()
    placed.cleanup()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.exists() else []


@pytest.fixture(params=["memory", "spool file"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Mail]:
    """Mails of both kinds: in memory (copied), in a file of the spool (linked)."""
    count = iter(range(1_000))

    def make(**facts: Any) -> Mail:
        path = tmp_path / "spool" / f"{next(count)}.eml" if request.param == "spool file" else None
        return make_mail(path, **facts)

    return make


@pytest.fixture(params=["hidden in the folder", "in the spool"])
def staging(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "spool" / "staging" if request.param == "in the spool" else None


def test_a_mail_lands_under_its_name(
    tmp_path: Path, source: Callable[..., Mail], staging: Path | None
) -> None:
    placed = processor(tmp_path, staging=staging).process(job(source()))
    out = tmp_path / "out"
    assert (out / NAME).read_bytes() == CONTENT
    finish(placed)
    assert names(out) == [NAME]
    assert staging is None or names(staging) == []
    mask = os.umask(0o022)
    os.umask(mask)
    assert stat.S_IMODE((out / NAME).stat().st_mode) == 0o644 & ~mask
    assert stat.S_IMODE(out.stat().st_mode) == 0o755 & ~mask
    assert placed.folder == out  # type: ignore[attr-defined]


def test_a_spool_file_is_linked_not_copied(tmp_path: Path) -> None:
    mail = make_mail(tmp_path / "spool" / "1.eml")
    deliver(processor(tmp_path), mail)
    assert mail.content.path is not None
    assert (tmp_path / "out" / NAME).samefile(mail.content.path)


def test_a_flow_with_fields_of_its_own_gets_a_copy(tmp_path: Path) -> None:
    mail = make_mail(tmp_path / "spool" / "1.eml", headers=(("X-Flow", "f"),))
    target = processor(tmp_path, filename="${flow}.eml")
    deliver(target, mail, "f")
    deliver(target, mail, "g")
    assert (tmp_path / "out" / "f.eml").read_bytes() == b"X-Flow: f\r\n" + CONTENT
    assert (tmp_path / "out" / "g.eml").read_bytes() == CONTENT
    assert mail.content.read() == CONTENT


def test_a_dot_stands_for_the_folder_itself(tmp_path: Path) -> None:
    deliver(processor(tmp_path, filename="./in/./${flow}.eml"), make_mail(), "f")
    assert (tmp_path / "out" / "in" / "f.eml").read_bytes() == CONTENT


def test_a_large_mail_is_written_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    deliver(processor(tmp_path), make_mail(content=content))
    assert (tmp_path / "out" / NAME).read_bytes() == content


def test_taken_names_get_suffixes(tmp_path: Path, source: Callable[..., Mail]) -> None:
    target = processor(tmp_path, durable=False)
    for number in range(5):
        deliver(target, source(content=b"%d\r\n" % number))
    stem = NAME.removesuffix(".eml")
    files = [tmp_path / "out" / name for name in (NAME, *(f"{stem}-{n}.eml" for n in range(1, 5)))]
    assert [file.read_bytes() for file in files] == [b"%d\r\n" % number for number in range(5)]
    assert len(names(tmp_path / "out")) == 5


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mails come far enough apart for a name to be tried again."""
    monkeypatch.setattr("functions.processors.file.names._MOMENT", -1.0)


@pytest.mark.usefixtures("later")
def test_a_name_that_became_free_is_used_again(tmp_path: Path) -> None:
    target = processor(tmp_path, durable=False)
    deliver(target, make_mail())
    deliver(target, make_mail())
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    deliver(target, make_mail())
    deliver(target, make_mail())
    assert names(tmp_path / "out") == [f"{NAME.removesuffix('.eml')}-1.eml", NAME]


def test_thousands_of_taken_names_cost_few_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = processor(tmp_path, durable=False, filename="same.eml")
    (tmp_path / "out" / "same.eml").touch()
    for number in range(1, 3_001):
        (tmp_path / "out" / f"same-{number}.eml").touch()
    looks: list[str] = []
    real = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: looks.append(path) or real(path))
    deliver(target, make_mail())
    assert (tmp_path / "out" / "same-3001.eml").stat().st_size == len(CONTENT)
    first = len(looks)
    assert first < 30
    deliver(target, make_mail())
    assert (tmp_path / "out" / "same-3002.eml").exists()
    assert len(looks) == first


def test_outputs_of_many_flows_in_one_folder_search_no_free_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.processors.file.names._MOMENT", 3600.0)
    targets = [processor(tmp_path, durable=False) for _ in range(20)]
    mail = make_mail()
    looks: list[str] = []
    tries: list[str] = []
    real = os.link
    monkeypatch.setattr(os.path, "lexists", lambda path: looks.append(path) or False)
    monkeypatch.setattr(os, "link", lambda source, path: tries.append(path) or real(source, path))
    for each, target in enumerate(targets):
        deliver(target, mail, f"flow-{each}")
    assert len(names(tmp_path / "out")) == 20
    assert len(tries) == 20
    assert looks == []


def test_a_template_makes_folders_below_and_never_leaves(tmp_path: Path, source: Callable[..., Mail]) -> None:
    deliver(
        processor(tmp_path, filename="${date:%Y/%m}/${subject}.eml"),
        source(content=b"Subject: ../../x\r\n\r\n"),
    )
    assert (tmp_path / "out" / "2026" / "01" / "_._x.eml").is_file()
    assert names(tmp_path / "out" / "2026" / "01") == ["_._x.eml"]
    assert names(tmp_path / "out") == ["2026"]


@pytest.mark.usefixtures("later")
def test_a_folder_that_went_away_is_made_again(
    tmp_path: Path, source: Callable[..., Mail], staging: Path | None
) -> None:
    target = processor(tmp_path, staging=staging, durable=False)
    deliver(target, source())
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    (tmp_path / "out").rmdir()
    if staging is not None:
        staging.rmdir()
    deliver(target, source())
    assert names(tmp_path / "out") == [NAME]


def test_staging_on_another_file_system_is_not_used(tmp_path: Path) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("this system has no second file system to try")
    other = shm / f"smtp-relay-{uuid7()}"
    try:
        placed = processor(tmp_path, staging=other).process(job(make_mail(other / "1.eml")))
        assert names(other) == ["1.eml"]
        assert len(names(tmp_path / "out")) == 2
        finish(placed)
        assert (tmp_path / "out" / NAME).read_bytes() == CONTENT
    finally:
        for file in other.iterdir():
            file.unlink()
        other.rmdir()


class Crash(BaseException):
    """The process dies here."""


CALLS = ("open", "write", "close", "link", "unlink", "chmod", "fsync", "mkdir")


class Mortal:
    """Lets the process die before or after its n-th call to the operating system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, deadly: int) -> None:
        self.left = deadly
        for name in CALLS:
            monkeypatch.setattr(os, name, self.wrap(getattr(os, name)))
        monkeypatch.setattr(landing, "rename_exclusively", self.wrap(landing.rename_exclusively))

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*args: Any, **kwargs: Any) -> Any:
            if sys._getframe(1).f_code.co_name == "__del__":
                # The collector ends objects of an earlier process in the middle of this one.
                return call(*args, **kwargs)
            self.step()
            result = call(*args, **kwargs)
            self.step()
            return result

        return mortal

    def step(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise Crash


def test_what_the_collector_closes_is_no_step_of_the_process(tmp_path: Path) -> None:
    garbage: list[object] = [landed_files.Directory(tmp_path)]
    garbage.append(garbage)
    del garbage
    with pytest.MonkeyPatch.context() as patch:
        mortal = Mortal(patch, 1)
        gc.collect()
        assert mortal.left == 1


def deaths() -> Iterator[int]:
    yield from range(1, 60)


@pytest.mark.parametrize("flow_fields", [False, True])
def test_dying_at_any_call_neither_loses_nor_repeats_the_file(
    tmp_path: Path,
    source: Callable[..., Mail],
    staging: Path | None,
    flow_fields: bool,
) -> None:
    survived = 0
    for deadly in deaths():
        base = tmp_path / str(deadly)
        base.mkdir()
        (base / "out").mkdir()
        (base / "out" / NAME).write_bytes(b"somebody else's")
        mail = source(headers=(("X", "y"),) if flow_fields else ())
        target = processor(base, staging=staging)
        with pytest.MonkeyPatch.context() as patch:
            Mortal(patch, deadly)
            try:
                target.process(job(mail)).fsync()
                survived += 1
            except Crash:
                pass
        # The next process; its receipt becomes durable, and it tidies up.
        deliver(processor(base, staging=staging), mail)
        stem = NAME.removesuffix(".eml")
        assert names(base / "out") == [f"{stem}-1.eml", NAME], f"died at step {deadly}"
        assert (base / "out" / f"{stem}-1.eml").read_bytes() == mail.raw("f")
        assert (base / "out" / NAME).read_bytes() == b"somebody else's"
        assert staging is None or names(staging) == []
        if survived > 2:
            return
    raise AssertionError("never got through")


@pytest.mark.parametrize("left", [b"", CONTENT[:100], CONTENT + b"more", b"\0" * len(CONTENT)])
@pytest.mark.parametrize("linked", [True, False])
def test_a_file_torn_by_a_power_loss_is_repaired(tmp_path: Path, left: bytes, linked: bool) -> None:
    mail = make_mail()
    out = tmp_path / "out"
    processor(tmp_path).process(job(mail))
    (temporary,) = out.glob(".*.tmp")
    temporary.write_bytes(left)
    if not linked:
        (out / NAME).unlink()
    deliver(processor(tmp_path), mail)
    assert names(out) == [NAME]
    assert (out / NAME).read_bytes() == CONTENT


def test_one_mail_for_two_flows_and_a_replay_are_files_of_their_own(
    tmp_path: Path, source: Callable[..., Mail]
) -> None:
    target = processor(tmp_path)
    mail = source()
    pending = [target.process(job(mail, "f")), target.process(job(mail, "g"))]
    again = Mail(mail.envelope.model_copy(update={"replay": 1}), mail.content)
    pending.append(target.process(job(again, "f")))
    for placed in pending:
        finish(placed)
    assert len(names(tmp_path / "out")) == 3


def test_settling_twice_or_after_a_cleanup_is_nothing(tmp_path: Path) -> None:
    placed = processor(tmp_path).process(job(make_mail()))
    placed.cleanup()
    placed.cleanup()
    assert names(tmp_path / "out") == [NAME]


@pytest.mark.parametrize("supported", ["renameat2", "nothing"])
def test_without_hard_links_a_mail_lands_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: Callable[..., Mail], supported: str
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    def unsupported(old: str, new: str) -> None:
        raise landing.NotSupported

    monkeypatch.setattr(os, "link", refuse)
    if supported == "nothing":
        monkeypatch.setattr(landing, "rename_exclusively", unsupported)
    target = processor(tmp_path)
    deliver(target, source())
    deliver(target, source())
    assert names(tmp_path / "out") == [f"{NAME.removesuffix('.eml')}-1.eml", NAME]
    assert all((tmp_path / "out" / name).read_bytes() == CONTENT for name in names(tmp_path / "out"))


def test_without_renameat2_a_spool_file_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(old: str, new: str) -> None:
        raise landing.NotSupported

    monkeypatch.setattr(landing, "rename_exclusively", unsupported)
    mail = make_mail(tmp_path / "spool" / "1.eml")
    deliver(processor(tmp_path), mail)
    assert names(tmp_path / "out") == [NAME]
    assert mail.content.path is not None
    assert not (tmp_path / "out" / NAME).samefile(mail.content.path)


@pytest.mark.parametrize(
    ("code", "enhanced"),
    [
        (errno.ENOSPC, "4.3.1"),
        (errno.EDQUOT, "4.3.1"),
        (errno.EIO, "4.3.0"),
        (errno.EROFS, "4.3.0"),
        (errno.EACCES, "4.3.0"),
    ],
)
def test_what_the_system_refuses_is_temporary_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, enhanced: str
) -> None:
    target = processor(tmp_path)

    def refuse(fd: int, data: bytes) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(Temporary) as raised:
        target.process(job(make_mail()))
    assert raised.value.enhanced == enhanced
    assert os.strerror(code) in raised.value.reason
    assert errno.errorcode[code] in raised.value.reason
    assert names(tmp_path / "out") == []


def test_a_folder_that_cannot_be_made_defers_until_it_can(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    target = processor(tmp_path)
    mail = make_mail()
    with pytest.raises(Temporary, match="out"):
        target.process(job(mail))
    (tmp_path / "out").unlink()
    deliver(target, mail)
    assert names(tmp_path / "out") == [NAME]


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, bytes(data)[:1_000]))
    deliver(processor(tmp_path), make_mail())
    monkeypatch.undo()
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def test_traces_of_finished_mails_are_cleared_away(tmp_path: Path) -> None:
    target = processor(tmp_path)
    task, finished = make_mail(), make_mail()
    target.process(job(task))
    target.process(job(finished))
    (tmp_path / "out" / ".hidden.tmp").touch()
    assert remove_traces(target.folder, lambda mail_id: mail_id == task.id) == 1
    assert [name.split(".")[1] for name in names(tmp_path / "out") if name.endswith(".tmp")] == [
        task.id,
        "hidden",
    ]
    assert remove_traces(tmp_path / "missing", lambda mail_id: False) == 0


def test_probes_of_processes_that_died_are_cleared_away(tmp_path: Path) -> None:
    staging, out = tmp_path / "staging", tmp_path / "out"
    staging.mkdir()
    program = f"""
import os, signal
from pathlib import Path
from functions.processors.file.placing import TargetFolder
real = os.link
def link(source, target):
    real(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
os.link = link
TargetFolder(Path({str(out)!r}), Path({str(staging)!r})).prepare()
"""
    died = subprocess.run([sys.executable, "-c", program], check=False)
    assert died.returncode == -signal.SIGKILL
    assert len(names(staging)) == len(names(out)) == 1
    (out / f".{os.getppid()}-0123456789abcdef.tmp").touch()  # of a running process
    (out / f".{os.getpid()}-0123456789abcdef.tmp").touch()  # of a process that had this number
    assert remove_traces(staging, lambda mail_id: False) == 1
    assert remove_traces(out, lambda mail_id: False) == 2
    assert names(staging) == []
    assert names(out) == [f".{os.getppid()}-0123456789abcdef.tmp"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "out", "filename": "${isoo}"}, "unknown variable"),
        ({"path": "out", "filename": "/etc/${id}"}, "inside the folder"),
        ({"path": "out", "filename": "../${id}"}, "inside the folder"),
        ({"path": "out", "filename": "${id}/"}, "inside the folder"),
        ({"path": "out", "filename": "."}, "no file"),
        ({"path": "out", "filename": "mails/."}, "no file"),
        ({"path": "out", "filename": "${attachment}"}, "attachment"),
        ({"path": "out", "filename": ""}, "at least 1"),
        ({"path": "", "filename": "x"}, "at least 1"),
        ({"path": "${id}"}, "variables"),
        ({"path": "out", "file": "x"}, "Extra inputs"),
        ({}, "Field required"),
    ],
)
def test_options_that_cannot_work_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        FileOutputOptions.model_validate(options)


def test_the_identity_is_the_destination_or_the_name() -> None:
    assert FileOutputOptions(path="a").identity() == "file:a:${iso8601}.eml"
    assert FileOutputOptions(path="a", name="archive").identity() == "archive"


def test_a_folder_taken_away_before_the_flush_needs_none(tmp_path: Path, source: Callable[..., Mail]) -> None:
    placed = processor(tmp_path).process(job(source()))
    for file in (tmp_path / "out").iterdir():
        file.unlink()
    (tmp_path / "out").rmdir()
    finish(placed)


def test_a_spool_file_that_others_are_to_read_is_copied(tmp_path: Path) -> None:
    """The consumer of the file may change it."""
    mail = make_mail(tmp_path / "spool" / "1.eml")
    finish(processor(tmp_path).process(job(mail, shared=True)))
    (tmp_path / "out" / NAME).write_bytes(b"")
    assert mail.content.read() == CONTENT


@pytest.mark.parametrize("supported", [True, False])
def test_where_the_file_system_can_the_copy_shares_its_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supported: bool
) -> None:
    asked: list[int] = []

    def ioctl(target: int, request: int, source: int) -> int:
        asked.append(request)
        if not supported:
            raise OSError(errno.EOPNOTSUPP, "Operation not supported")
        return os.sendfile(target, source, 0, 1 << 30)

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    target = processor(tmp_path, filename="${flow}-${id}.eml")
    mail = make_mail(tmp_path / "spool" / "1.eml")
    for flow in ("f", "g"):
        finish(target.process(job(mail, flow, shared=True)))
    assert asked == [0x40049409] * (2 if supported else 1)  # FICLONE, ioctl_ficlone(2)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [CONTENT, CONTENT]


class Failing:
    """Makes the next syncs of paths that end so fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.paths: list[str] = []
        real = os.fsync

        def sync(fd: int) -> None:
            path = str(Path(f"/proc/self/fd/{fd}").readlink())
            for each in self.paths:
                if path.endswith(each):
                    self.paths.remove(each)
                    raise OSError(errno.EIO, "Input/output error")
            real(fd)

        monkeypatch.setattr(os, "fsync", sync)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Failing:
    return Failing(monkeypatch)


def lose(path: Path) -> None:
    """The file's content after a power cut when its pages were lost."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.write(b"\0" * size)


@pytest.mark.parametrize("again", ["flushed again", "by the next process"])
@pytest.mark.parametrize("which", [NAME, "/out"])
def test_a_file_whose_sync_failed_is_written_anew(
    tmp_path: Path, staging: Path | None, failing: Failing, which: str, again: str
) -> None:
    mail = make_mail()
    placed = processor(tmp_path, staging=staging).process(job(mail))
    failing.paths = [which, ".new", ".new"]
    for _ in range(2 + (which == NAME)):
        with pytest.raises(Temporary):
            placed.fsync()
    failing.paths = []
    file = tmp_path / "out" / NAME
    before = file.stat().st_ino
    lose(file)
    if again == "flushed again":
        finish(placed)
    else:
        deliver(processor(tmp_path, staging=staging), mail)
    assert file.read_bytes() == CONTENT
    assert file.stat().st_ino != before
    assert names(tmp_path / "out") == [NAME]
    assert staging is None or names(staging) == []


def test_a_folder_s_error_concerns_all_that_landed_there(tmp_path: Path, failing: Failing) -> None:
    """The kernel reports it once, to the first sync."""
    target = processor(tmp_path, filename="${id}.eml")
    mails = [make_mail() for _ in range(3)]
    landings = [target.process(job(mail)) for mail in mails]
    failing.paths = ["/out"]
    with pytest.raises(Temporary):
        landings[0].fsync()
    files = [tmp_path / "out" / f"{mail.id}.eml" for mail in mails]
    before = [file.stat().st_ino for file in files]
    late = make_mail()
    landings.append(target.process(job(late)))
    for landing_ in landings:
        finish(landing_)
    after = [file.stat().st_ino for file in files]
    assert all(old != new for old, new in zip(before, after, strict=True))
    assert len(names(tmp_path / "out")) == 4


def test_a_linked_file_becomes_a_copy_when_a_sync_failed(tmp_path: Path, failing: Failing) -> None:
    mail = make_mail(tmp_path / "spool" / "1.eml")
    placed = processor(tmp_path).process(job(mail))
    failing.paths = ["/out"]
    with pytest.raises(Temporary):
        placed.fsync()
    finish(placed)
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT
    assert mail.content.path is not None
    assert not (tmp_path / "out" / NAME).samefile(mail.content.path)


def test_a_file_is_not_written_anew_from_a_damaged_copy(tmp_path: Path, failing: Failing) -> None:
    mail = make_mail(tmp_path / "spool" / "1.eml")
    placed = processor(tmp_path).process(job(mail, shared=True))
    failing.paths = [NAME]
    with pytest.raises(Temporary):
        placed.fsync()
    assert mail.content.path is not None
    lose(mail.content.path)
    with pytest.raises(Permanent, match="damaged"):
        placed.fsync()
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


def consumers() -> dict[str, Callable[[Path], object]]:
    return {
        "deletes": lambda path: path.unlink(),
        "moves": lambda path: path.rename(path.parent.parent / "taken"),
        "truncates": lambda path: os.truncate(path, 0),
        "edits": lambda path: path.write_bytes(path.read_bytes() + b"seen\r\n"),
        "replaces": lambda path: (path.unlink(), path.write_bytes(b"another")),
    }


@pytest.mark.parametrize("consumer", consumers())
@pytest.mark.parametrize("which", [NAME, "/out"])
def test_what_a_consumer_did_stands_when_the_sync_failed(
    tmp_path: Path, source: Callable[..., Mail], failing: Failing, consumer: str, which: str
) -> None:
    mail = source()
    placed = processor(tmp_path).process(job(mail))
    failing.paths = [which]
    with contextlib.suppress(Temporary):
        placed.fsync()
    file = tmp_path / "out" / NAME
    consumers()[consumer](file)
    before = file.read_bytes() if file.exists() else None
    finish(placed)
    assert (file.read_bytes() if file.exists() else None) == before
    if consumer == "moves":
        assert (tmp_path / "taken").read_bytes() == CONTENT
    assert [name for name in names(tmp_path / "out") if name != NAME] == []


def test_a_moved_file_is_written_over_where_the_kernel_cannot_be_told_to_forget(
    tmp_path: Path, failing: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landed_files, "_CAN_FORGET", False)
    monkeypatch.delattr(os, "posix_fadvise")
    placed = processor(tmp_path).process(job(make_mail()))
    failing.paths = [NAME]
    with pytest.raises(Temporary):
        placed.fsync()
    taken = tmp_path / "taken"
    (tmp_path / "out" / NAME).rename(taken)
    lose(taken)
    finish(placed)
    assert taken.read_bytes() == CONTENT


@pytest.mark.parametrize("consumer", ["deletes", "moves", "replaces"])
def test_a_file_that_a_consumer_took_is_not_placed_again_after_a_crash(
    tmp_path: Path, source: Callable[..., Mail], staging: Path | None, consumer: str
) -> None:
    mail = source()
    placed = processor(tmp_path, staging=staging).process(job(mail))
    placed.placed()  # type: ignore[attr-defined]
    file = tmp_path / "out" / NAME
    consumers()[consumer](file)
    before = file.read_bytes() if file.exists() else None
    deliver(processor(tmp_path, staging=staging), mail)
    assert (file.read_bytes() if file.exists() else None) == before
    assert [name for name in names(tmp_path / "out") if name != NAME] == []
    assert staging is None or names(staging) == []


def test_no_earlier_attempt_is_looked_for_at_a_mail_that_was_just_received(
    tmp_path: Path, source: Callable[..., Mail], staging: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: looks.append(path) or real(path, mode))
    stored = source()
    target = processor(tmp_path, staging=staging)
    placed = target.process(job(Mail(stored.envelope, stored.stored, received_here=True)))
    assert looks == []
    # One that is read back from the spool is looked for, and found.
    finish(processor(tmp_path, staging=staging).process(job(stored)))
    assert looks
    placed.cleanup()
    assert names(tmp_path / "out") == [NAME]
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("cut", ["not at all", "before the name"])
def test_an_attempt_that_may_link_and_one_that_may_not_make_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, staging: Path | None, first: bool, cut: str
) -> None:
    mail = make_mail(tmp_path / "spool" / "1.eml")
    target = processor(tmp_path, staging=staging)
    if cut == "before the name":

        def die(*args: object) -> None:
            raise Crash

        with monkeypatch.context() as patch:
            patch.setattr(landing, "rename_exclusively", die)
            patch.setattr(landing.TargetFolder, "_link", die)
            with pytest.raises(Crash):
                target.process(job(mail, shared=first))
    else:
        target.process(job(mail, shared=first))
    finish(processor(tmp_path, staging=staging).process(job(mail, shared=not first)))
    assert names(tmp_path / "out") == [NAME]
    assert (tmp_path / "out" / NAME).read_bytes() == CONTENT
    assert staging is None or names(staging) == []


@pytest.mark.parametrize("shared", [False, True])
def test_dying_again_while_it_is_written_anew_neither_loses_nor_repeats(
    tmp_path: Path, source: Callable[..., Mail], staging: Path | None, shared: bool
) -> None:
    survived = 0
    for deadly in range(1, 120):
        base = tmp_path / str(deadly)
        base.mkdir()
        mail = source()
        placed = processor(base, staging=staging).process(job(mail, shared=shared))
        placed.placed()  # type: ignore[attr-defined]
        target = processor(base, staging=staging)
        with pytest.MonkeyPatch.context() as patch:
            mortal = Mortal(patch, deadly)
            patch.setattr(os, "rename", mortal.wrap(os.rename))
            patch.setattr(landed_files, "rename_exchange", mortal.wrap(landed_files.rename_exchange))
            try:
                target.process(job(mail, shared=shared)).fsync()
                survived += 1
            except Crash:
                pass
        deliver(processor(base, staging=staging), mail)
        assert names(base / "out") == [NAME], f"died at step {deadly}"
        assert (base / "out" / NAME).read_bytes() == CONTENT
        assert staging is None or names(staging) == []
        if survived > 2:
            return
    raise AssertionError("never got through")
