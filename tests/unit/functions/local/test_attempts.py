"""Mails that never enter the spool, because all their outputs are local and need no power loss survived."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from functions.delivery.engine import Delivery, Output, State
from functions.errors import Permanent, Temporary
from functions.local import attempts
from functions.local.attempts import FirstTry
from functions.local.layout import Part
from functions.local.messages import Item, Settings, SpoolReply
from functions.local.service import LocalDelivery
from functions.message.envelope import Envelope, Refused
from functions.message.mail import Mail
from functions.processors.base import Job, Placed, Processor
from functions.processors.context import BuildContext
from functions.processors.file.output import FileOutputOptions, build
from functions.processors.log import LogOutputOptions, LogProcessor
from tests.unit.functions.local.test_service import Sink, item, rows, until

TEXT = b"Subject: x\r\n\r\n"
QUICKLY = Settings(durable=False, first=0.05, longest=0.2)


class Local(Processor):
    """An output that needs no spool. First it raises the faults of the script, one entry a call."""

    quick = True
    needs_spool = False

    def __init__(self, *script: Exception) -> None:
        self.script = list(script)
        self.mails: list[str] = []

    def place(self, mail: Mail, flow: str, *, shared: bool) -> None:
        if self.script:
            raise self.script.pop(0)
        self.mails.append(mail.id)

    def process(self, job: Job) -> Placed | None:
        self.place(job.mail, job.flow, shared=job.shared)
        return None


class Served:
    """A part at work with these outputs of the flow `in`, and the answers to its clients."""

    def __init__(self, folder: Path, *outputs: Processor, settings: Settings = QUICKLY) -> None:
        made = [Output(f"test_{i}", f"identity-{i}", one) for i, one in enumerate(outputs)]
        self.folder = folder
        self.local = LocalDelivery(Part(folder / "part-0"), Delivery({"in": made}), settings)
        self.answers: list[SpoolReply] = []
        self.local.start()

    def send(
        self, content: bytes | Path = b"Subject: x\r\n\r\n", **more: Any
    ) -> tuple[Item, FirstTry | None]:
        """Send a mail as the listener does."""
        one = item(self.answers.append, content)
        one.envelope = one.envelope.model_copy(update=more)
        tried = self.local.unspooled(one.envelope, one.content)
        if tried is None or tried.outcomes:
            one.tried = () if tried is None else tried.outcomes
            self.local.submit(one)
        return one, tried


async def test_a_mail_whose_outputs_are_all_done_at_once_never_enters_the_database(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    file = build(FileOutputOptions(path=str(folder)), "file_0", BuildContext.of(tmp_path, {}))
    served = Served(tmp_path, file, LogProcessor(LogOutputOptions(), "log_1"))
    (served.folder / "part-0" / "spool.db").chmod(0o400)
    _, tried = served.send(b"Subject: x\r\n\r\nhello\r\n")
    assert tried is not None
    assert not tried.outcomes
    (placed,) = folder.iterdir()
    assert [str(placed)] == list(tried.files)
    assert placed.read_bytes() == b"Subject: x\r\n\r\nhello\r\n"
    assert rows(tmp_path) == 0
    assert served.local._commits.store.db.total_changes == 0
    await served.local.stop(5)


async def test_an_output_that_is_done_is_recorded_before_the_answer_if_another_failed(tmp_path: Path) -> None:
    done, later = Local(), Local(Temporary("not now", enhanced="4.0.0"))
    served = Served(tmp_path, done, later)
    settled: list[list[tuple[str, str]]] = []
    one = item(lambda answer: settled.append(_settled(tmp_path)) or served.answers.append(answer))
    tried = served.local.unspooled(one.envelope, one.content)
    assert tried is not None
    assert [outcome.state for outcome in tried.outcomes] == [State.DONE, State.RETRY]
    one.tried = tried.outcomes
    served.local.submit(one)
    await until(lambda: bool(served.answers))
    assert served.answers[0].code == 250
    assert settled[0] == [(tried.outcomes[0].task.key, "done")]
    await until(lambda: later.mails == [one.envelope.id] and rows(tmp_path) == 0)
    assert done.mails == [one.envelope.id]
    await served.local.stop(5)


async def test_what_is_done_is_not_repeated_after_a_crash(tmp_path: Path) -> None:
    done = Local()
    served = Served(tmp_path, done, Local(*[Temporary("not now", enhanced="4.0.0")] * 100))
    one, _ = served.send()
    await until(lambda: bool(served.answers))
    served.local._schedule.cancel()
    served.local._commits.close()  # nothing else is written: the process is gone
    again, rest = Local(), Local()
    next_one = Served(tmp_path, again, rest)
    await until(lambda: rest.mails == [one.envelope.id])
    assert again.mails == []
    await until(lambda: rows(tmp_path) == 0)
    await next_one.local.stop(5)


async def test_a_mail_that_is_done_in_part_and_cannot_be_kept_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(tmp_path, Local(), Local(Temporary("not now", enhanced="4.0.0")))

    def full(write: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(served.local._commits.store, "commit", full)
        one, _ = served.send()
        await until(lambda: bool(served.answers))
    assert [answer.code for answer in served.answers] == [452]
    (told,) = [record.__dict__ for record in caplog.records if "its client keeps" in record.getMessage()]
    assert (told["id"], told["outputs"], told["reply"]) == (one.envelope.id, "test_0", 452)
    assert rows(tmp_path) == 0
    await served.local.stop(5)


async def test_a_mail_that_every_output_refuses_leaves_nothing(tmp_path: Path) -> None:
    served = Served(tmp_path, *(Local(Permanent("never", enhanced="5.2.2")) for _ in range(2)))
    large = tmp_path / "0191c2c8-7c0e-7c3e-8c3e-0191c2c87c0e.eml"
    large.write_bytes(b"Subject: x\r\n\r\n" * 10)
    served.send(large)
    assert [(answer.code, answer.enhanced) for answer in served.answers] == [(554, "5.2.2")]
    assert not large.exists()
    assert rows(tmp_path) == 0
    await served.local.stop(5)


async def test_a_mail_that_no_output_takes_now_is_kept_and_tried_again(tmp_path: Path) -> None:
    later = Local(Temporary("full", enhanced="4.3.1"))
    served = Served(tmp_path, later)
    one, _ = served.send()
    await until(lambda: bool(served.answers))
    assert served.answers[0].code == 250
    await until(lambda: later.mails == [one.envelope.id] and rows(tmp_path) == 0)
    await served.local.stop(5)


async def test_an_unexpected_error_is_logged_with_the_mails_id_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    later = Local(ZeroDivisionError("a fault"))
    served = Served(tmp_path, later)
    one, _ = served.send()
    await until(lambda: later.mails == [one.envelope.id])
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.__dict__["id"] == one.envelope.id
    await served.local.stop(5)


async def test_a_large_mails_file_is_moved_to_a_single_output_and_copied_for_several(tmp_path: Path) -> None:
    for name, count in (("one", 1), ("several", 2)):
        folder = tmp_path / name
        files = [
            build(
                FileOutputOptions(path=str(folder), filename=f"{n}-${{id}}.eml"),
                "f",
                BuildContext.of(folder, {}),
            )
            for n in range(count)
        ]
        served = Served(folder, *files)
        large = folder / "part-0" / "large" / "0191c2c8-7c0e-7c3e-8c3e-0191c2c87c0e.eml"
        large.write_bytes(b"Subject: x\r\n\r\n" + b"a" * 100_000)
        inode = large.stat().st_ino
        _, tried = served.send(large)
        assert tried is not None
        assert not tried.outcomes
        assert [Path(path).stat().st_size for path in tried.files] == [100_014] * count
        assert (inode in {Path(path).stat().st_ino for path in tried.files}) is (count == 1)
        await served.local.stop(5)


async def test_a_mail_whose_file_lost_bytes_stays_with_its_client(tmp_path: Path) -> None:
    folder = tmp_path / "mails"
    file = build(FileOutputOptions(path=str(folder)), "file_0", BuildContext.of(tmp_path, {}))
    served = Served(tmp_path, file)
    large = tmp_path / "0191c2c8-7c0e-7c3e-8c3e-0191c2c87c0e.eml"
    large.write_bytes(b"Subject: x\r\n\r\n")
    served.send(large, size=1_000)
    assert [answer.code for answer in served.answers] == [451]
    assert list(folder.iterdir()) == []
    assert not large.exists()
    await served.local.stop(5)


def _settled(folder: Path) -> list[tuple[str, str]]:
    with closing(sqlite3.connect(folder / "part-0" / "spool.db")) as db:
        return list(db.execute("SELECT key, state FROM settled"))


async def _none(served: Served, **more: Any) -> None:
    _, tried = served.send(**more)
    assert tried is None
    await until(lambda: bool(served.answers))
    assert served.answers[0].code == 250
    await until(lambda: rows(served.folder) == 0 or bool(more))
    await served.local.stop(5)


async def test_a_mail_that_must_survive_a_power_loss_goes_through_the_spool(tmp_path: Path) -> None:
    await _none(Served(tmp_path, Local(), settings=replace(QUICKLY, durable=True)))


async def test_a_mail_that_is_kept_after_its_delivery_goes_through_the_spool(tmp_path: Path) -> None:
    kept: list[Mail] = []
    served = Served(tmp_path, Local(), settings=replace(QUICKLY, keep=kept.append))
    await _none(served)
    assert len(kept) == 1


async def test_a_mail_for_an_output_that_is_not_local_goes_through_the_spool(tmp_path: Path) -> None:
    await _none(Served(tmp_path, Local(), Sink()))


async def test_a_mail_for_a_folder_with_limits_goes_through_the_spool(tmp_path: Path) -> None:
    options = FileOutputOptions.model_validate({"path": str(tmp_path / "m"), "retention": {"count": 5}})
    await _none(Served(tmp_path, build(options, "file_0", BuildContext.of(tmp_path, {}))))


async def test_a_mail_with_recipients_that_were_refused_after_data_goes_through_the_spool(
    tmp_path: Path,
) -> None:
    served = Served(tmp_path, Local())
    await _none(served, refused=(Refused(address="b@x.example", reason="no", code="5.1.1"),))
    with closing(sqlite3.connect(tmp_path / "part-0" / "spool.db")) as db:
        assert db.execute("SELECT count(*) FROM dead").fetchone() == (1,)


async def test_a_slow_folder_does_not_hold_up_the_event_loop_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "SLOW", -1.0)
    monkeypatch.setattr(attempts, "HANGING", -1.0)
    served = Served(tmp_path, Local())
    _, tried = served.send()
    assert tried is not None
    await _none(served)


def test_an_envelope_that_is_not_checked_equals_one_that_is() -> None:
    checked: Envelope = item(lambda _: None).envelope
    made = Envelope.made(dict(checked.__dict__))
    assert made == checked
    assert made.to_json() == checked.to_json()
    assert set(checked.__dict__) == set(Envelope.model_fields)
    assert made.hashed("ab").sha256 == "ab"
    assert made.sha256 == ""
