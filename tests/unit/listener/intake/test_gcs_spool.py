"""The listener's PUT to Cloud Storage, against a server: created once, whatever gets lost."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.message.envelope import Envelope
from functions.message.mail import BytesContent
from functions.options.spool import SpoolOptions
from functions.spool.object import split_object, spool_key
from listener.api.decision import Reply
from listener.intake.bucket_spool import BucketSpool
from listener.intake.capture_folder import CaptureFolder
from listener.intake.object_store import open_object_store
from tests.support.clouds.gcp import FakeGcs
from tests.support.clouds.gcs_xml import XmlFront
from tests.support.mails.spooled import MAIL, envelope_of

BUCKET = "spool-bucket"


class Counts:
    def __init__(self) -> None:
        self.stored = self.errors = 0

    def spool_stored(self, seconds: float) -> None:
        self.stored += 1

    def spool_error(self) -> None:
        self.errors += 1


@pytest.fixture(scope="module")
def gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    server = FakeGcs(tmp_path_factory.mktemp("gcs"), (BUCKET,), None, "", "").start()
    yield server
    server.stop()


@pytest.fixture
def front(gcs: FakeGcs) -> Iterator[XmlFront]:
    server = XmlFront(gcs.url).start()
    yield server
    server.stop()


async def stored(front: XmlFront, folder: Path, envelope: Envelope, **options: Any) -> tuple[Reply, Counts]:
    """The reply to one mail."""
    settings = SpoolOptions(url=f"gs://{options.pop('bucket', BUCKET)}/relay", endpoint=front.url)
    counts = Counts()
    spool = BucketSpool(
        open_object_store(settings, {}, str),
        settings.prefix,
        CaptureFolder(folder),
        counts,
        budget=1_000_000,
        patience=options.pop("patience", 10.0),
        min_free=0,
    )
    reply: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    spool.store(envelope, BytesContent(MAIL), reply.set_result)
    found = await reply
    await spool.stop(1.0)
    return found, counts


async def test_one_object_with_the_envelope_on_top(gcs: FakeGcs, front: XmlFront, tmp_path: Path) -> None:
    envelope = envelope_of()
    reply, counts = await stored(front, tmp_path, envelope)
    assert (reply.code, counts.stored, counts.errors) == (250, 1, 0)
    key = f"relay/{spool_key(envelope.id, envelope.received_at)}"
    assert front.uploads == [key]
    assert split_object(gcs.read(BUCKET, key)) == (envelope, MAIL)
    assert gcs.about(BUCKET, key)["contentType"] == "message/rfc822"


@pytest.mark.parametrize("first", [-1, 429, 500, 503])
async def test_an_upload_that_is_tried_again(front: XmlFront, tmp_path: Path, first: int) -> None:
    """-1: it was stored, and the answer got lost; then its own object is in the way."""
    answers = [first]
    front.fail = lambda key: answers.pop() if answers else None
    reply, _ = await stored(front, tmp_path, envelope_of())
    assert reply.code == 250
    assert len(front.uploads) == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_bucket_that_refuses(front: XmlFront, tmp_path: Path, status: int) -> None:
    front.fail = lambda key: status
    reply, counts = await stored(front, tmp_path, envelope_of())
    assert (reply.code, counts.errors) == (451, 1)
    assert len(front.uploads) == 1


async def test_no_such_bucket(front: XmlFront, tmp_path: Path) -> None:
    reply, _ = await stored(front, tmp_path, envelope_of(), bucket="another-bucket")
    assert reply.code == 451


async def test_refused_for_want_of_the_right_to_overwrite(front: XmlFront, tmp_path: Path) -> None:
    """With create-only rights the answer is 403 if its own earlier upload exists."""
    answers = [403, -1]
    front.fail = lambda key: answers.pop()
    front.words = "listener@p.iam does not have storage.objects.delete access to the object."
    reply, _ = await stored(front, tmp_path, envelope_of())
    assert reply.code == 250


async def test_patience_has_an_end(front: XmlFront, tmp_path: Path) -> None:
    front.fail = lambda key: 503
    reply, counts = await stored(front, tmp_path, envelope_of(), patience=0.5)
    assert (reply.code, counts.errors) == (451, 1)
