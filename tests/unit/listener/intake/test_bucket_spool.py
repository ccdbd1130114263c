"""The bucket as a spool: the requests, and the replies to the client, whatever the store answers."""

from __future__ import annotations

import asyncio
import hashlib
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from functions.ids import uuid7
from functions.message.envelope import Refused
from functions.message.mail import BytesContent, Content, FileContent
from functions.options.spool import SpoolOptions
from functions.spool.object import split_object
from listener.api.decision import Reply
from listener.intake.bucket_spool import BUSY, UNSTORED, BucketSpool, Budget
from listener.intake.capture_folder import CaptureFolder
from listener.intake.object_store import open_object_store, open_uploads
from tests.support.mails.damage import DAMAGES
from tests.support.mails.spooled import MAIL, envelope_of
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint

ENVIRON = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"}

TAKEN = Says(412, b"<Error><Code>PreconditionFailed</Code></Error>")
CONFLICT = Says(409, b"<Error><Code>ConditionalRequestConflict</Code></Error>")
DOWN = Says(503, b"<Error><Code>SlowDown</Code></Error>")
DENIED = Says(403, b"<Error><Code>AccessDenied</Code><Message>secret detail</Message></Error>")
NO_BUCKET = Says(404, b"<Error><Code>NoSuchBucket</Code></Error>")


class Counted:
    """Counts as metrics would."""

    def __init__(self) -> None:
        self.stored = 0
        self.errors = 0

    def spool_stored(self, seconds: float) -> None:
        self.stored += 1

    def spool_error(self) -> None:
        self.errors += 1


Spools = Callable[..., BucketSpool]


@pytest.fixture
def api() -> Iterator[Endpoint]:
    with endpoint() as served:
        served.url = served.url.partition("/ask")[0]
        yield served


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture(params=["obstore", "short way"])
async def spool(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    api: Endpoint,
    counted: Counted,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Spools]:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    made: list[BucketSpool] = []

    def make(
        store: Any = None, *, budget: int = 1_048_576, patience: float = 5.0, **options: Any
    ) -> BucketSpool:
        uploads = None
        if store is None:
            text = {"url": "s3://mail/relay", "endpoint": api.url, "timeout": 1_000, **options}
            read = SpoolOptions.model_validate(text, by_alias=True, by_name=False)
            store = open_object_store(read, ENVIRON, lambda secret: secret)
            if request.param == "short way":
                uploads = open_uploads(read, ENVIRON, lambda secret: secret)
                assert uploads is not None
        folder = CaptureFolder(tmp_path / "captures")
        made.append(
            BucketSpool(store, "relay/", folder, counted, budget=budget, patience=patience, min_free=0)
        )
        made[-1].uploads = uploads
        return made[-1]

    yield make
    for each in made:
        await each.stop(1)


async def stored(spool: BucketSpool, content: Content | bytes = MAIL, **about: Any) -> Reply:
    """Store a mail and wait for the reply."""
    body = BytesContent(content) if isinstance(content, bytes) else content
    done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    spool.store(envelope_of(body.read(), **about), body, done.set_result)
    return await asyncio.wait_for(done, 20)


def says(api: Endpoint, *answers: Says) -> None:
    left = list(answers)
    api.answer = lambda asked: left.pop(0) if left else Says(headers={"ETag": '"e"'})


async def test_one_create_only_put_with_a_checksum(spool: Spools, api: Endpoint, counted: Counted) -> None:
    says(api)
    reply = await stored(spool())
    assert reply.code == 250
    (put,) = api.asked
    assert put.method == "PUT"
    assert put.headers["if-none-match"] == "*"
    assert put.headers["content-type"] == "message/rfc822"
    assert put.headers["x-amz-checksum-sha256"] == b64encode(hashlib.sha256(put.body).digest()).decode()
    envelope, content = split_object(put.body)
    assert content == MAIL
    received = envelope.received_at
    assert put.path == (f"/mail/relay/spool/{envelope.id[-1]}/{received:%Y/%m/%d/%H}/{envelope.id}.eml")
    assert envelope.id in reply.text
    assert (counted.stored, counted.errors) == (1, 0)


async def test_encryption_is_asked_for(spool: Spools, api: Endpoint) -> None:
    says(api)
    await stored(spool(sse="aws:kms", kmsKeyId="arn:aws:kms:eu-west-1:1:key/k"))
    headers = api.asked[0].headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "arn:aws:kms:eu-west-1:1:key/k"
    assert headers["x-amz-server-side-encryption-bucket-key-enabled"] == "true"


async def test_static_credentials_of_the_file(spool: Spools, api: Endpoint) -> None:
    says(api)
    await stored(spool(accessKeyId="own", secretAccessKey="s", sessionToken="token"))
    assert "Credential=own/" in api.asked[0].headers["authorization"]
    assert api.asked[0].headers["x-amz-security-token"] == "token"


@pytest.mark.parametrize("answers", [(DOWN,), (CONFLICT, DOWN), (Says(raw=b""),)])
async def test_tries_again_within_the_clients_patience(
    spool: Spools, api: Endpoint, answers: tuple[Says, ...]
) -> None:
    says(api, *answers)
    assert (await stored(spool())).code == 250
    assert len(api.asked) == len(answers) + 1
    assert len({asked.path for asked in api.asked}) == 1, "the key is fixed before the first try"


async def test_our_own_key_taken_is_success(spool: Spools, api: Endpoint) -> None:
    says(api, Says(raw=b""), TAKEN)
    assert (await stored(spool())).code == 250


async def test_a_conflict_is_no_success(spool: Spools, api: Endpoint) -> None:
    says(api, *[CONFLICT] * 100)
    reply = await stored(spool(patience=0.5))
    assert reply == UNSTORED


@pytest.mark.parametrize("answer", [DENIED, NO_BUCKET])
async def test_a_refusal_defers_at_once_and_tells_the_client_nothing(
    spool: Spools, api: Endpoint, counted: Counted, answer: Says
) -> None:
    says(api, *[answer] * 10)
    started = time.monotonic()
    reply = await stored(spool())
    assert reply == UNSTORED
    assert time.monotonic() - started < 2
    assert len(api.asked) == 1
    assert counted.errors == 1


async def test_a_store_that_is_down_defers_in_time(spool: Spools, api: Endpoint) -> None:
    says(api, *[DOWN] * 1000)
    started = time.monotonic()
    assert await stored(spool(patience=0.6)) == UNSTORED
    assert time.monotonic() - started < 2


async def test_a_store_that_hangs_is_left_after_its_timeout(spool: Spools, api: Endpoint) -> None:
    said: list[bool] = []

    def answer(asked: Asked) -> Says:
        said.append(True)
        return Says(hang=api.closing) if len(said) == 1 else Says(headers={"ETag": '"e"'})

    api.answer = answer
    assert (await stored(spool(patience=10))).code == 250
    assert len(said) == 2


async def test_a_large_mail_comes_from_its_file_which_then_goes(
    spool: Spools, api: Endpoint, tmp_path: Path
) -> None:
    says(api)
    made = spool(budget=100_000)
    mail = MAIL + b"z" * 2_000_000
    path = made.capture_folder / f"{uuid7()}.eml"
    path.write_bytes(mail)
    assert (await stored(made, FileContent(path, len(mail)))).code == 250
    assert split_object(api.asked[0].body)[1] == mail
    assert not path.exists()


@pytest.mark.parametrize("size", [70_000, 2_000_000])
@pytest.mark.parametrize("how", DAMAGES)
async def test_a_file_that_the_disk_spoiled_is_not_stored(
    spool: Spools, api: Endpoint, caplog: pytest.LogCaptureFixture, how: str, size: int
) -> None:
    """Only the client has the mail, and the reply asks it to try again."""
    says(api)
    made = spool()
    mail = MAIL + b"z" * size + b"\r\n"
    path = made.capture_folder / f"{uuid7()}.eml"
    path.write_bytes(DAMAGES[how](mail))
    done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    made.store(envelope_of(mail), FileContent(path, len(mail)), done.set_result)
    assert await asyncio.wait_for(done, 20) == UNSTORED
    assert not api.asked
    assert not path.exists()
    assert not [record for record in caplog.records if record.exc_info]


async def test_waiting_for_a_turn_counts_against_the_patience(spool: Spools, api: Endpoint) -> None:
    says(api)
    made = spool(budget=2_000, patience=0.3)
    async with made._budget.use(1_500):
        assert await stored(made) == BUSY
    assert not api.asked
    assert (await stored(made)).code == 250


async def test_a_query_goes_on_after_its_first_waiter_is_gone(spool: Spools, api: Endpoint) -> None:
    says(api)
    made = spool()
    body = BytesContent(MAIL)
    made.store(envelope_of(), body, lambda reply: None)
    await made.stop(5)
    assert len(api.asked) == 1


async def test_refused_recipients_travel_in_the_envelope(spool: Spools) -> None:
    import obstore
    from obstore.store import MemoryStore

    store = MemoryStore()
    made = spool(store)
    told = Refused(address="no@example.com", reason="550 no", code="5.7.1")
    done: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
    made.store(envelope_of(refused=(told,)), BytesContent(MAIL), done.set_result)
    assert (await done).code == 250
    (page,) = obstore.list(store)
    (meta,) = page
    data = bytes(obstore.get(store, meta["path"]).bytes())
    (refused,) = split_object(data)[0].refused
    assert (refused.address, refused.reason, refused.code) == ("no@example.com", "550 no", "5.7.1")


async def test_the_probe_is_an_object_made_once(spool: Spools, api: Endpoint) -> None:
    says(api, Says(headers={"ETag": '"e"'}), TAKEN, DENIED)
    made = spool()
    await made.probe()
    await made.probe()
    assert len(api.asked) == 1, "an answer holds for a while"
    made._stored_at -= 100
    await made.probe()
    made._stored_at -= 100
    with pytest.raises(OSError, match=r"denied|Denied|403"):
        await made.probe()
    assert {asked.path for asked in api.asked} == {"/mail/relay/spool/probe"}


async def test_cloud_storage_by_the_same_path(spool: Spools, api: Endpoint) -> None:
    says(api, DOWN, TAKEN)
    options = SpoolOptions.model_validate({"url": "gs://mail/relay", "endpoint": api.url})
    made = spool(open_object_store(options, {}, lambda secret: secret))
    assert (await stored(made)).code == 250
    first, second = api.asked
    assert first.method == "PUT"
    assert first.path == second.path
    assert first.headers["x-goog-if-generation-match"] == "0"
    assert split_object(first.body)[1] == MAIL


async def test_bytes_in_flight_are_first_come_first_served() -> None:
    budget = Budget(10)
    order: list[int] = []
    used = 0

    async def take(number: int, octets: int) -> None:
        async with budget.use(octets):
            nonlocal used
            used += min(octets, 10)
            order.append(number)
            await asyncio.sleep(0)
            assert used <= 10
            used -= min(octets, 10)

    await asyncio.gather(take(0, 8), take(1, 8), take(2, 1), take(3, 100), take(4, 1))
    assert order == [0, 1, 2, 3, 4]
    async with asyncio.timeout(1), budget.use(10):
        pass


async def test_bytes_in_flight_are_given_back_by_cancelled_uploads() -> None:
    budget = Budget(10)
    async with budget.use(10):
        waiting = [asyncio.ensure_future(_use(budget, 5)) for _ in range(4)]
        await asyncio.sleep(0)
        for task in waiting[:2]:
            task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(1), budget.use(10):
        pass


async def _use(budget: Budget, octets: int) -> None:
    async with budget.use(octets):
        await asyncio.sleep(0)


def test_captures_of_dead_processes_are_cleared_and_of_living_ones_kept(tmp_path: Path) -> None:
    living = CaptureFolder(tmp_path)
    (living.path / "a.eml").write_bytes(b"x")
    dead = tmp_path / "capture-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "b.eml").write_bytes(b"x")
    other = CaptureFolder(tmp_path)
    assert (living.path / "a.eml").exists()
    assert not dead.exists()
    living.close()
    other.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="large mails"):
        CaptureFolder(tmp_path / "file" / "below")


def test_no_region_is_a_mistake_in_the_configuration() -> None:
    options = SpoolOptions(url="s3://mail/relay")
    with pytest.raises(ConfigError, match="region"):
        open_object_store(options, {}, lambda secret: secret)
