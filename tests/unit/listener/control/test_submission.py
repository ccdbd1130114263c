"""Mails that other processes submit: what is left of one that is given up, and the bound of recipients."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

from functions.message.headers import HeaderEdits
from listener.api.decision import ACCEPT, Decision
from listener.control.submission import Submission
from listener.filters.pattern import Values
from listener.flows.flow import Flow, Flows
from listener.intake.accept import Acceptor
from listener.intake.captures import Captures
from listener.intake.refusals import Refusals
from listener.intake.stamp import Intake
from listener.monitoring.events import NULL
from tests.support.net import HOST
from tests.support.scripted import Scripted

SIZE = 500_000
"""Bytes of a mail whose capture is a file."""


class Broken:
    """A spool that fails."""

    hashes = True

    def store(self, *_: Any) -> None:
        raise OSError(5, "the disk fails")

    def full(self) -> bool:
        return False


def submission(folder: Path, captures: Captures, data: Any = ACCEPT) -> Submission:
    flows = Flows([Flow("in", (Scripted(connect=ACCEPT, data=data),), "OR")], auth_optional=True)
    intake = Intake(
        folder,
        HeaderEdits({}),
        hostname="mx.server.example",
        received=True,
        max_size=1_000_000,
        max_header=100_000,
        config_digest="abc",
        captures=captures,
    )
    refusals = Refusals("inbox", NULL, log_addresses=False)
    spool: Any = Broken()
    acceptor = Acceptor(intake, spool, refusals, NULL, asyncio.get_running_loop())
    return Submission(lambda names: flows, Values(()), acceptor, "mx.server.example", 2)


async def submitted(to: Submission, *recipients: str) -> Any:
    reader = asyncio.StreamReader()
    reader.feed_data(b"Subject: x\r\n\r\n" + b"x" * (SIZE - 14))
    reader.feed_eof()
    request = {"client": HOST, "from": "a@h.example", "to": recipients, "release": False, "size": SIZE}
    return await to.handle(request, reader)


async def test_a_mail_that_is_given_up_while_filters_decide_leaves_nothing(tmp_path: Path) -> None:
    asked = asyncio.Event()

    def never(*_: Any) -> Awaitable[Decision]:
        asked.set()
        return asyncio.get_running_loop().create_future()

    captures = Captures(tmp_path)
    task = asyncio.ensure_future(submitted(submission(tmp_path, captures, never), "b@h.example"))
    await asked.wait()
    assert list(tmp_path.iterdir()) != []
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (list(tmp_path.iterdir()), captures.space, captures.memory) == ([], 0, 0)


async def test_a_mail_that_the_spool_fails_on_leaves_nothing(tmp_path: Path) -> None:
    captures = Captures(tmp_path)
    with pytest.raises(OSError, match="the disk fails"):
        await submitted(submission(tmp_path, captures), "b@h.example")
    assert (list(tmp_path.iterdir()), captures.space, captures.memory) == ([], 0, 0)


async def test_more_recipients_than_a_mail_may_have_are_refused_before_any_filter(tmp_path: Path) -> None:
    taker = submission(tmp_path, Captures(tmp_path))
    reply = await submitted(taker, "b@h.example", "c@h.example", "d@h.example")
    assert (reply["code"], "at most 2 recipients" in reply["text"]) == (552, True)
