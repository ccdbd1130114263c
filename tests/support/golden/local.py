"""The golden recording of a local spool: its database as SQL, and its files with their links."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.delivery.events import DeliveryEvents
from functions.local.archive import Archive
from functions.local.deadletters import open_dead_letters
from functions.local.layout import Part
from functions.local.messages import Item, Progress, Settings
from functions.local.service import LocalDelivery
from functions.message.mail import BytesContent, FileContent
from functions.processors.context import BuildContext
from functions.processors.registry import build_processor
from functions.spool.deadletters import Selection
from tests.support.golden.recording import (
    MAILS,
    answer,
    content_of,
    copies,
    name_of,
    new_envelope,
    read_json,
    write_json,
)
from tests.support.net import HOST
from tests.support.servers.smarthost import Smarthost, smarthost

CONFIG: Final = {
    "spool": "file://spool",
    "cachePath": "kept/${id}.eml",
    "flows": {
        "in": {
            "outputs": [
                {"type": "file", "path": "received", "filename": "${id}.eml"},
                {"type": "mailer", "nodemailer": {"host": "first.example.net", "port": 2525}},
                {"type": "mailer", "name": "second", "nodemailer": "smtp://second.example.net:2525"},
            ]
        }
    },
}
LARGE: Final = "large"
"""A fresh mail whose body is a file."""

_LONG: Final = 3_600.0
"""Seconds until a further attempt, so long that a recording has none."""


class Doubts(DeliveryEvents):
    """Notes which outputs were in doubt."""

    def __init__(self) -> None:
        self.outputs: list[str] = []

    def in_doubt(self, flow: str, output: str) -> None:
        self.outputs.append(output)


class LocalSite:
    """A folder with one part, delivered to two next servers. The outputs have the identities of the
    configuration, and these servers' ports."""

    def __init__(self, folder: Path, config: Mapping[str, Any], hosts: Mapping[str, Smarthost]) -> None:
        self.folder = folder
        self.raw = config
        self.config = DeliveryConfig.model_validate(config, by_alias=True, by_name=False)
        self.hosts = hosts
        self.servers = {"mailer_1": "first", "second": "second"}
        """Label of an output to its next server."""
        self.part = Part(folder / "spool" / "part-0")
        self.doubts = Doubts()

    def start(self, *, again: float, on_doubt: str = "resend") -> LocalDelivery:
        """Start delivering; `again` is the wait before a further attempt, in seconds."""
        self.part.create()
        keep = Archive(self.config.cache_path, self.folder, durable=True).keep
        settings = Settings(first=again, longest=again, keep=keep)
        local = LocalDelivery(self.part, self._delivery(on_doubt), settings, self.doubts)
        local.start()
        return local

    def _delivery(self, on_doubt: str) -> Delivery:
        context = BuildContext.of(self.folder, {}, staging=self.part.staging)
        outputs = []
        for label, options in self.config.flows["in"].labelled():
            here: Any = options
            if label in self.servers:
                port = self.hosts[self.servers[label]].port
                server = here.nodemailer.model_copy(update={"host": HOST, "port": port})
                here = here.model_copy(update={"nodemailer": server})
            outputs.append(Output(label, options.identity(), build_processor(here, label, context)))
        # The mails are as old as the recording.
        return Delivery({"in": outputs}, give_up_after=1e12, on_doubt=on_doubt)

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that the database returns."""
        with closing(sqlite3.connect(self.part.database)) as db:
            return db.execute(query, values).fetchall()

    def left(self) -> set[str]:
        """The names of the mails that are in the spool."""
        return {name_of(body) for (body,) in self.rows("SELECT body FROM mail")}

    def effects(self) -> Counter[tuple[str, ...]]:
        """The mails that the next servers accepted."""
        return sum((copies(name, host) for name, host in self.hosts.items()), Counter())

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait, a quarter of a minute at most."""
        deadline = time.monotonic() + 15
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited for {what}: {self.rows('SELECT * FROM receipt')}")
            await asyncio.sleep(0.01)

    def files(self) -> list[dict[str, Any]]:
        """The files beside the database: the names of each, below the folder, and its text."""
        found: dict[int, list[Path]] = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and not path.name.startswith("spool.db"):
                found.setdefault(path.stat().st_ino, []).append(path)
        return [
            {
                "names": [str(path.relative_to(self.folder)) for path in paths],
                "text": paths[0].read_bytes().decode(),
            }
            for paths in found.values()
        ]

    def restore_files(self, files: list[dict[str, Any]]) -> None:
        """Make them again, with their links."""
        for each in files:
            first, *others = (self.folder / name for name in each["names"])
            first.parent.mkdir(parents=True, exist_ok=True)
            first.write_bytes(each["text"].encode())
            for other in others:
                other.parent.mkdir(parents=True, exist_ok=True)
                os.link(first, other)


def restore(recording: Path, folder: Path, hosts: Mapping[str, Smarthost]) -> LocalSite:
    """The recorded spool in a folder, as the recording version left it."""
    about = read_json(recording / "local.json")
    site = LocalSite(folder, about["config"], hosts)
    site.part.folder.mkdir(parents=True)
    with closing(sqlite3.connect(site.part.database)) as db:
        db.executescript((recording / "spool.sql").read_text())
    site.restore_files(about["files"])
    return site


async def record(recording: Path, folder: Path) -> None:
    """Record the local spool of this version. The database is the state that a crash at that moment
    leaves."""
    with smarthost(answer("first")) as first, smarthost(answer("second")) as second:
        site = LocalSite(folder, CONFIG, {"first": first, "second": second})
        local = site.start(again=_LONG)
        ids: dict[str, str] = {}

        def submit(name: str, content: BytesContent | FileContent) -> None:
            whole = content.read()
            told = {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
            envelope = new_envelope("fresh" if name == LARGE else name).model_copy(update=told)
            ids[name] = envelope.id
            if content.path is not None:
                content.path = content.path.rename(site.part.large / f"{envelope.id}.eml")
            local.submit(Item(envelope, content, lambda _: None))

        put, done = local._runs._put, threading.Event()

        def put_unless_done(message: Any) -> None:
            if isinstance(message, Progress) and message.mail is not None and message.mail.id == ids["done"]:
                done.set()
            else:
                put(message)

        local._runs._put = put_unless_done
        for name in MAILS:
            if name != "fresh":
                submit(name, BytesContent(content_of(name)))
        left = len(ids) - 1  # one is finished, and kept
        unwritten = 3  # two are being sent, and only the receipts of one are written
        await site.until(
            lambda: (
                site.rows("SELECT count(*) FROM receipt WHERE state = 'claimed'") == [(2,)]
                and done.is_set()
                and site.rows("SELECT count(*) FROM mail") == [(left,)]
                and site.rows("SELECT count(*) FROM mail WHERE attempts = 1") == [(left - unwritten,)]
                and bool(list(folder.glob("kept/*.eml")))
            ),
            "the mails to be where they are wanted",
        )
        # Commits go on; their results are ignored, as if the process died right after them.
        local.stored = lambda items: None  # type: ignore[method-assign]
        with closing(open_dead_letters(site.config, folder, {})) as letters:
            by_id = {record.id: record for record in letters.list(Selection()) if record.flow}
            letters.drop(by_id[ids["dropped"]])
            letters.replay(by_id[ids["replayed"]], now=False)
            letters.replay_kept(ids["kept"], now=False)
        submit("fresh", BytesContent(content_of("fresh")))
        body = folder / "body"
        body.write_bytes(content_of(LARGE))
        submit(LARGE, FileContent(body, body.stat().st_size))
        await site.until(
            lambda: site.rows("SELECT count(*) FROM mail") == [(len(ids),)], "the last mails to be stored"
        )
        _write(recording, site, ids)
    await local.stop(1)


def _write(recording: Path, site: LocalSite, ids: Mapping[str, str]) -> None:
    with closing(sqlite3.connect(site.part.database)) as db:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        text = "\n".join([*db.iterdump(), f"PRAGMA user_version = {version};", ""])
    about = {"config": site.raw, "mails": dict(ids), "files": site.files()}
    write_json(recording / "local.json", about)
    (recording / "spool.sql").write_text(text)
