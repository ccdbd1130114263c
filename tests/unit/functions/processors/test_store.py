"""Storing as objects: keys, raw headers, parts, and the owner of a used key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.aws.output.options import PublishTarget
from functions.aws.output.request_options import SendMessageOptions
from functions.aws.output.sqs import Queue
from functions.delivery.engine import Delivery, Output, State, Task
from functions.errors import Damaged, Temporary
from functions.message.envelope import FlowNotes, Recipient
from functions.message.event.objects import StoredMail
from functions.message.mail import BytesContent, Content, FileContent
from functions.message.mime import Leaf, Limits
from functions.options.storage import PublishOptions, StorageOptions
from functions.processors.base import Job
from functions.processors.publish import Publication
from functions.processors.store import ID, Blob, CloudProcessor, Contents, PrefixedFile, Storage, suffixed
from tests.support.mails.damage import DAMAGES
from tests.support.mails.jobs import fault_of, job_of
from tests.support.mails.spooled import MAIL, envelope_of

MULTIPART = (
    b"From: a@example.com\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain\r\n\r\nplain\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>html</p>\r\n"
    b"--b\r\nContent-Type: application/pdf\r\nContent-Disposition: attachment; filename=a.pdf\r\n"
    b"Content-Transfer-Encoding: base64\r\n\r\nUERG\r\n"
    b"--b\r\nContent-Type: image/png\r\nContent-Disposition: attachment; filename=a.pdf\r\n\r\npng\r\n"
    b'--b\r\nContent-Type: x/y; name="../../etc/passwd"\r\n\r\nroot\r\n--b--\r\n'
)


class Bucket:
    """`functions.processors.store.Target` in memory."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.types: dict[str, str] = {}
        self.notes: dict[str, Mapping[str, str]] = {}
        self.secretive = False

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        if key in self.objects:
            return False
        with blob.open() as stream:
            self.objects[key] = stream.read()
        self.types[key] = blob.content_type
        self.notes[key] = metadata
        return True

    def metadata(self, key: str) -> Mapping[str, str] | None:
        return None if self.secretive else self.notes.get(key, {})

    def url(self, key: str) -> str:
        return f"s3://bucket/{key}"

    def link(self, key: str, seconds: int) -> str:
        return f"https://bucket.example/{key}?{seconds}"


def stored(made: Storage, job: Job) -> str | None:
    """Stores, and returns the URL of the first object."""
    found = made.store(job)
    return None if found is None or found.first is None else found.first.url


@pytest.fixture
def bucket() -> Bucket:
    return Bucket()


def storage(bucket: Bucket, identity: str = "one", **options: Any) -> Storage:
    read = StorageOptions.model_validate({"bucket": "bucket", **options}, by_alias=True, by_name=False)
    return Storage(read, identity, bucket)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "{iso}_{id}.eml"),
        ("in/", "in/{iso}_{id}.eml"),
        ("${flow}/${domain}/${id}", "in/example.com/{id}"),
        ("${date:%Y/%m}/${subject}.eml", None),
    ],
)
def test_keys(bucket: Bucket, path: str, expected: str | None) -> None:
    job = job_of(b"Subject: a/../b\r\n\r\n")
    url = stored(storage(bucket, path=path), job)
    (key,) = bucket.objects
    assert url == f"s3://bucket/{key}"
    if expected is not None:
        received = job.mail.envelope.received_at
        iso = f"{received:%Y%m%dT%H%M%S}{received.microsecond // 1000:03d}Z"
        assert key == expected.format(iso=iso, id=job.mail.id)
    else:
        assert key.count("/") == 2
        assert ".." not in key


def test_raw_headers_stand_on_top_of_the_mail_as_stored(bucket: Bucket) -> None:
    recipients = ("bob@example.com", "carol@example.com")
    envelope = envelope_of(recipients=recipients, user="ada\r\nBcc: x", helo="mx.example.com")
    storage(bucket).store(job_of(envelope=envelope))
    (data,) = bucket.objects.values()
    assert data == (
        b"X-smtp-relay-RCPT_TO: bob@example.com\r\n"
        b"X-smtp-relay-RCPT_TO: carol@example.com\r\n"
        b"X-smtp-relay-MAIL_FROM: ada@example.com\r\n"
        b"X-smtp-relay-USER: adaBcc: x\r\n"
        b"X-smtp-relay-CLIENT_HOSTNAME: client.example.com\r\n"
        b"X-smtp-relay-HELO: mx.example.com\r\n" + MAIL
    )


def test_without_raw_headers_byte_for_byte(bucket: Bucket) -> None:
    mail = bytes(range(256)) * 10
    storage(bucket, addRawHeaders=False).store(job_of(mail))
    assert list(bucket.objects.values()) == [mail]
    assert list(bucket.types.values()) == ["message/rfc822"]


def test_fields_over_a_mail_without_header_end_in_an_empty_line(bucket: Bucket) -> None:
    storage(bucket).store(job_of(b"no header here\r\n"))
    (data,) = bucket.objects.values()
    assert data.endswith(b"HELO: client.example.com\r\n\r\nno header here\r\n")


def test_the_flows_fields_come_after_the_raw_ones(bucket: Bucket) -> None:
    notes = {"in": FlowNotes(headers=(("Authentication-Results", "us; spf=pass"),))}
    storage(bucket).store(job_of(envelope=envelope_of(notes=notes)))
    (data,) = bucket.objects.values()
    assert b"HELO: client.example.com\r\nAuthentication-Results: us; spf=pass\r\nFrom: Ada" in data


def test_a_large_mail_is_read_from_its_file(bucket: Bucket, tmp_path: Path) -> None:
    mail = MAIL + b"x" * 3_000_000
    path = tmp_path / "mail.eml"
    path.write_bytes(mail)
    storage(bucket).store(job_of(FileContent(path, len(mail))))
    (data,) = bucket.objects.values()
    assert data.endswith(mail)


@pytest.mark.parametrize("kind", ["raw", "attachments", "text", "html", "parts"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_mail_is_not_stored(bucket: Bucket, tmp_path: Path, how: str, kind: str) -> None:
    mail = MULTIPART + b"x" * 300_000 + b"\r\n"
    path = tmp_path / "mail.eml"
    path.write_bytes(DAMAGES[how](mail))
    contents: list[Content] = [BytesContent(path.read_bytes()), FileContent(path, len(mail))]
    for content in contents:
        job = job_of(content, envelope=envelope_of(mail))
        assert isinstance(fault_of(lambda job=job: storage(bucket, type=kind).store(job)), Damaged)  # type: ignore[misc]
    assert not bucket.objects


def test_what_was_stored_before_the_damage_is_done(bucket: Bucket) -> None:
    envelope = envelope_of()
    url = stored(storage(bucket, path="same.eml"), job_of(envelope=envelope))
    assert stored(storage(bucket, path="same.eml"), job_of(b"spoiled", envelope=envelope)) == url
    other = job_of(b"spoiled", envelope=envelope_of())
    assert isinstance(fault_of(lambda: storage(bucket, path="same.eml").store(other)), Damaged)
    bucket.secretive = True
    assert isinstance(fault_of(lambda: storage(bucket).store(other)), Damaged), "it may be nobody's"
    assert len(bucket.objects) == 1


def test_attachments_one_object_each_names_made_safe(bucket: Bucket) -> None:
    job = job_of(MULTIPART)
    storage(bucket, type="attachments", path="att/").store(job)
    found = {key.removeprefix(f"att/{job.mail.id}/"): data for key, data in bucket.objects.items()}
    assert (found["a.pdf"], found["a-2.pdf"]) == (b"PDF", b"png")
    assert set(found.values()) == {b"PDF", b"png", b"root"}
    assert all("/" not in name and ".." not in name.split("/") for name in found)
    assert bucket.types[f"att/{job.mail.id}/a.pdf"] == "application/pdf"


def test_attachments_under_a_path_without_their_name_are_kept_apart(bucket: Bucket) -> None:
    storage(bucket, type="attachments", path="${id}.bin").store(job_of(MULTIPART))
    assert len(bucket.objects) == 3


@pytest.mark.parametrize(("kind", "data"), [("text", b"plain\nhtml"), ("html", b"<p>plain</p>\n<p>html</p>")])
def test_bodies(bucket: Bucket, kind: str, data: bytes) -> None:
    storage(bucket, type=kind).store(job_of(MULTIPART))
    assert list(bucket.objects.values()) == [data]
    assert next(iter(bucket.types.values())).endswith("charset=utf-8")


@pytest.mark.parametrize("kind", ["attachments", "html"])
def test_no_such_part_stores_nothing(bucket: Bucket, kind: str) -> None:
    assert storage(bucket, type=kind).store(job_of()) is None
    assert not bucket.objects


def test_storing_again_gives_the_same_url_and_no_second_object(bucket: Bucket) -> None:
    job = job_of()
    first = storage(bucket, path="same.eml").store(job)
    assert storage(bucket, path="same.eml").store(job) == first
    assert len(bucket.objects) == 1


def test_anothers_key_gets_the_id(bucket: Bucket) -> None:
    one, two = job_of(), job_of()
    storage(bucket, path="same.eml").store(one)
    assert stored(storage(bucket, path="same.eml"), two) == f"s3://bucket/same-{two.mail.id}.eml"
    assert stored(storage(bucket, path="same.eml"), two) == f"s3://bucket/same-{two.mail.id}.eml"
    assert len(bucket.objects) == 2


def test_a_strangers_object_is_never_overwritten(bucket: Bucket) -> None:
    bucket.objects["same.eml"] = b"not ours"
    storage(bucket, path="same.eml").store(job_of())
    assert bucket.objects["same.eml"] == b"not ours"
    assert len(bucket.objects) == 2


def test_two_flows_that_store_one_mail_under_one_key(bucket: Bucket) -> None:
    envelope = envelope_of(flows=("x", "y"))
    x = job_of(envelope=envelope)
    y = type(x)(x.mail, "y", x.recipients, x.once, x.seconds_left)
    for job in (x, y, x, y):
        storage(bucket, path="same.eml").store(job)
    assert len(bucket.objects) == 2
    assert {notes[ID] for notes in bucket.notes.values()} == {envelope.id}


def test_a_replay_finds_what_is_stored(bucket: Bucket) -> None:
    envelope = envelope_of()
    storage(bucket).store(job_of(envelope=envelope))
    storage(bucket).store(job_of(envelope=envelope.model_copy(update={"replay": 1})))
    assert len(bucket.objects) == 1


def test_where_objects_may_not_be_looked_at_our_own_id_is_enough(bucket: Bucket) -> None:
    job = job_of()
    first = storage(bucket).store(job)
    bucket.secretive = True
    assert storage(bucket).store(job) == first


def test_no_part_starts_with_too_little_of_the_run_left(bucket: Bucket) -> None:
    job = job_of(MULTIPART, seconds_left=20)
    assert isinstance(fault_of(lambda: storage(bucket, type="attachments").store(job)), Temporary)
    assert len(bucket.objects) == 1


@pytest.mark.parametrize(
    ("key", "expected"),
    [("a/b.eml", "a/b-X.eml"), ("a.b/c", "a.b/c-X"), (".x", ".x-X"), ("a.tar.gz", "a.tar-X.gz")],
)
def test_suffixes(key: str, expected: str) -> None:
    assert suffixed(key, "X") == expected


def test_a_prefixed_file_reads_like_the_whole(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"defgh")
    with PrefixedFile(b"abc", path) as stream:
        assert stream.read() == b"abcdefgh"
        for at in range(9):
            stream.seek(at)
            assert stream.tell() == at
            assert stream.read(3) == b"abcdefgh"[at : at + 3]
        assert stream.seek(0, 2) == 8


@given(
    st.text("a./-", max_size=12),
    st.sampled_from(["", "${id}", "${user}", "/${id}", ".${user}", "${id}.eml"]),
    st.text("x.", min_size=1, max_size=6),
)
def test_every_key_begins_as_permissions_say(start: str, rest: str, value: str) -> None:
    """Also keys with a suffix, which follows a used name."""
    options = StorageOptions(bucket="b", path=start + rest)
    key = options.key.replace("${id}", "0").replace("${user}", value).replace("${iso8601}", "2026")
    assert key.startswith(options.key_start)
    assert suffixed(key, "0-1").startswith(options.key_start)


# -- parts --------------------------------------------------------------------------------------

NAMES = [
    "a.pdf",
    "a.pdf",
    "A.PDF",
    "../../etc/passwd",
    "",
    "manifest.json",
    "x/../y.txt",
    ".hidden",
    "ü" * 300,
]


def with_attachments(names: list[str]) -> bytes:
    parts = b"".join(
        b'--b\r\nContent-Type: a/b\r\nContent-Disposition: attachment; filename="%s"\r\n\r\n%d\r\n'
        % (name.encode(), number)
        for number, name in enumerate(names)
    )
    return b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + parts + b"--b--\r\n"


def manifest_of(bucket: Bucket, folder: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bucket.objects[f"{folder}manifest.json"])
    return found


def test_parts_are_stored_below_one_prefix_and_the_manifest_names_them_all(bucket: Bucket) -> None:
    job = job_of(MULTIPART)
    found = storage(bucket, type="parts", path="in/").store(job)
    folder = f"in/{job.mail.id}/"
    assert [key.removeprefix(folder) for key in bucket.objects] == [
        "raw.eml",
        "text.txt",
        "html.html",
        "attachments/a.pdf",
        "attachments/a-2.pdf",
        "attachments/_._etc_passwd",
        "manifest.json",
    ]
    manifest = manifest_of(bucket, folder)
    named = [manifest["raw"], manifest["text"], manifest["html"], *manifest["attachments"]]
    assert {each["key"] for each in named} == set(bucket.objects) - {f"{folder}manifest.json"}
    for each in named:
        data = bucket.objects[each["key"]]
        assert (each["size"], each["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert (each["bucket"], each["url"]) == ("bucket", f"s3://bucket/{each['key']}")
    assert bucket.objects[manifest["raw"]["key"]].endswith(MULTIPART)
    assert bucket.objects[manifest["text"]["key"]] == b"plain\nhtml"
    assert [each["filename"] for each in manifest["attachments"]][:2] == ["a.pdf", "a.pdf"]
    assert manifest["envelope"]["to"] == ["bob@example.com"]
    assert (manifest["id"], manifest["flow"]) == (job.mail.id, "in")
    assert bucket.types[f"{folder}manifest.json"] == "application/json"
    assert found is not None
    assert found.first is not None
    assert found.first.key == f"{folder}raw.eml"
    assert sorted(found.attachments) == [0, 1, 2]


def test_parts_again_give_the_same_objects(bucket: Bucket) -> None:
    job = job_of(MULTIPART)
    first = storage(bucket, type="parts").store(job)
    before = dict(bucket.objects)
    assert storage(bucket, type="parts").store(job) == first
    assert bucket.objects == before


@pytest.mark.parametrize("stop", range(7))
def test_parts_that_were_interrupted_are_completed_and_the_manifest_comes_last(
    bucket: Bucket, stop: int
) -> None:
    whole = Bucket()
    job = job_of(MULTIPART)
    storage(whole, type="parts").store(job)

    def put_new(key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        if len(bucket.objects) == stop:
            raise Temporary("as ordered")
        return Bucket.put_new(bucket, key, blob, metadata)

    bucket.put_new = put_new  # type: ignore[method-assign]
    assert isinstance(fault_of(lambda: storage(bucket, type="parts").store(job)), Temporary)
    assert not any(key.endswith("manifest.json") for key in bucket.objects)
    del bucket.put_new  # type: ignore[method-assign]
    storage(bucket, type="parts").store(job)
    assert bucket.objects == whole.objects
    assert list(bucket.objects)[-1].endswith("manifest.json")


def test_names_of_stored_attachments_are_safe_and_unique(bucket: Bucket) -> None:
    job = job_of(with_attachments(NAMES))
    storage(bucket, type="parts").store(job)
    start = f"{job.mail.id}/attachments/"
    keys = [key.removeprefix(start) for key in bucket.objects if key.startswith(start)]
    assert len(keys) == len({key.casefold() for key in keys}) == len(NAMES)
    for key in keys:
        assert "/" not in key
        assert key not in ("", ".", "..")
        assert not key.startswith(".")
        assert len(key.encode()) <= 200
    assert [bucket.objects[start + key] for key in keys] == [b"%d" % n for n in range(len(NAMES))]


def test_parts_without_text_or_attachments_have_a_manifest_that_says_so(bucket: Bucket) -> None:
    job = job_of(with_attachments(["a.bin"]))
    storage(bucket, type="parts", path="x/${id}").store(job)
    manifest = manifest_of(bucket, f"x/{job.mail.id}/")
    assert not {"text", "html"} & set(manifest)
    assert len(manifest["attachments"]) == 1


def test_two_flows_with_one_prefix_keep_their_parts_apart(bucket: Bucket) -> None:
    recipients = (
        Recipient(address="ours@example.com", flows=("x",)),
        Recipient(address="canary@hidden.example", flows=("y",)),
    )
    envelope = envelope_of(MULTIPART).model_copy(update={"recipients": recipients})
    x = job_of(MULTIPART, envelope=envelope)
    y = type(x)(x.mail, "y", ("canary@hidden.example",), x.once, x.seconds_left)
    for job in (y, x, y, x):
        storage(bucket, type="parts").store(job)
    assert len(bucket.objects) == 14
    manifests = {key: data for key, data in bucket.objects.items() if "manifest" in key}
    (own,) = (json.loads(data) for data in manifests.values() if json.loads(data)["flow"] == "x")
    assert "canary" not in json.dumps(own)
    assert b"canary" not in bucket.objects[own["raw"]["key"]]


@pytest.mark.parametrize("path", ["", "in/", "in", "/in/${id}", "${flow}/${date:%Y}/${id}/"])
def test_the_path_of_parts_is_a_prefix(bucket: Bucket, path: str) -> None:
    storage(bucket, type="parts", path=path).store(job_of(MULTIPART))
    folders = {key.rpartition("/")[0].removesuffix("/attachments") for key in bucket.objects}
    assert len(folders) == 1
    start = StorageOptions(bucket="b", path=path, type="parts").key_start
    assert all(key.startswith(start) for key in bucket.objects)


def test_an_attachment_is_decoded_once_for_its_object_and_the_event(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Leaf] = []
    payload = Leaf.payload

    def counted(leaf: Leaf, *most: Any) -> bytes:
        decoded.append(leaf)
        return payload(leaf, *most)

    monkeypatch.setattr(Leaf, "payload", counted)
    events: list[dict[str, Any]] = []

    class Publisher:
        limits = Limits()

        def publish(self, job: Job, stored: StoredMail, contents: Contents) -> None:
            about = Publication(PublishOptions(), job, stored, contents)
            events.append(json.loads(about.message(lambda _: 1_000_000)[0]))

    made = CloudProcessor(storage(bucket, type="attachments"), Publisher(), None, lambda: None)
    made.process(job_of(MULTIPART))
    assert len([leaf for leaf in decoded if not leaf.is_body]) == 3
    (event,) = events
    for each in event["data"]["email"]["attachments"]:
        data = bucket.objects[each["url"].removeprefix("s3://bucket/")]
        assert (each["size"], each["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert "rest" not in event["data"]["truncated"], "no object holds the whole mail"
    assert event["data"]["storage"]["url"] == event["data"]["email"]["attachments"][0]["url"]


@pytest.mark.parametrize("kind", ["raw", "attachments"])
def test_no_event_is_sent_if_the_wait_for_a_place_took_the_run(bucket: Bucket, kind: str) -> None:
    publisher = Mock(limits=Limits())
    made = CloudProcessor(storage(bucket, type=kind), publisher, None, lambda: None)
    assert isinstance(fault_of(lambda: made.process(job_of(MULTIPART, seconds_left=20))), Temporary)
    publisher.publish.assert_not_called()
    assert len(bucket.objects) == (kind == "raw")


class TestAMailThatCannotBeRead:
    """A fault of the reader is never a fault of storing the whole mail."""

    @pytest.fixture(params=[RecursionError, MemoryError, ValueError], ids=lambda kind: kind.__name__)
    def fault(self, request: pytest.FixtureRequest) -> Exception:
        fault: Exception = request.param("the reader's own")
        return fault

    @pytest.fixture(params=["functions.message.mime.read_parts", "functions.message.mime.walk"])
    def unread(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, fault: Exception
    ) -> Exception:
        """The fault that reading ends with, as a whole or in its search for parts."""

        def fail(*_: object) -> None:
            raise fault

        monkeypatch.setattr(request.param, fail)
        return fault

    @pytest.fixture
    def sent(self) -> list[dict[str, Any]]:
        """What SQS got."""
        return []

    @pytest.fixture
    def output(self, bucket: Bucket, sent: list[dict[str, Any]]) -> Output:
        queue = {"topic": "https://sqs.us-east-1.amazonaws.com/000000000000/q"}
        options = PublishTarget.model_validate(queue, by_alias=True, by_name=False)
        client = SimpleNamespace(send_message=lambda **message: sent.append(message) or {"MessageId": "m"})
        publisher = Queue(client, options, SendMessageOptions())
        return Output("aws", "one", CloudProcessor(storage(bucket), publisher, None, lambda: None))

    @pytest.mark.parametrize("hours", [0, 100], ids=["fresh", "older than giveUpAfter"])
    def test_the_whole_mail_is_stored_and_the_event_tried_again_or_given_up(
        self,
        hours: int,
        unread: Exception,
        output: Output,
        bucket: Bucket,
        sent: list[dict[str, Any]],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        job = job_of(MULTIPART)
        envelope = job.mail.envelope
        for _ in range(2):
            outcome = Delivery({job.flow: [output]}).attempt(
                job.mail,
                Task(envelope, job.flow, output),
                job.once,
                now=envelope.received / 1000 + hours * 3_600,
                seconds_left=lambda: 100.0,
            )
            assert outcome.state is (State.DEAD if hours else State.RETRY)
            assert type(unread).__name__ in str(outcome.fault)
        (data,) = bucket.objects.values()
        assert data.endswith(MULTIPART), "the mail is stored, once"
        assert sent == []
        faults = [record for record in caplog.records if record.levelname == "ERROR"]
        assert faults
        assert {record.id for record in faults} == {job.mail.id}  # type: ignore[attr-defined]
        assert all(record.exc_info for record in faults)

    def test_alone_it_is_delivered(self, unread: Exception, bucket: Bucket) -> None:
        CloudProcessor(storage(bucket), None, None, lambda: None).process(job_of(MULTIPART))
        (data,) = bucket.objects.values()
        assert data.endswith(MULTIPART)

    @pytest.mark.parametrize("kind", ["attachments", "text", "html", "parts"])
    def test_its_parts_are_not_taken_for_stored(self, kind: str, bucket: Bucket, unread: Exception) -> None:
        with pytest.raises((Temporary, type(unread))):
            storage(bucket, type=kind).store(job_of(MULTIPART))
        assert not any(key.endswith("manifest.json") for key in bucket.objects)

    def test_read_again_the_event_is_sent(
        self, monkeypatch: pytest.MonkeyPatch, output: Output, bucket: Bucket, sent: list[dict[str, Any]]
    ) -> None:
        job = job_of(MULTIPART)
        with monkeypatch.context() as patched:
            patched.setattr("functions.message.mime.read_parts", Mock(side_effect=MemoryError))
            with pytest.raises(MemoryError):
                output.processor.process(job)
        output.processor.process(job)
        (key,) = bucket.objects
        (message,) = sent
        event = json.loads(message["MessageBody"])
        assert event["data"]["storage"]["key"] == key
        assert "plain" in event["data"]["email"]["text"]


@pytest.mark.parametrize("type_", ["raw", "attachments", "text", "html", "parts"])
def test_what_was_stored_is_found_again(bucket: Bucket, type_: str) -> None:
    """With all names and digests, in another process too, and not before all of it is there."""
    job = job_of(MULTIPART)
    assert storage(bucket, type=type_).find(job) is None
    made = storage(bucket, type=type_).store(job, describe=True)
    assert storage(bucket, type=type_).find(job) == made
    last = list(bucket.notes)[-1]
    del bucket.notes[last], bucket.objects[last]
    assert storage(bucket, type=type_).find(job) is None


def test_the_object_of_another_mail_or_output_is_not_taken_for_its_own(bucket: Bucket) -> None:
    job = job_of()
    storage(bucket, path="same.eml").store(job_of())
    storage(bucket, path="same.eml", identity="other").store(job)
    assert storage(bucket, path="same.eml").find(job) is None
    url = stored(storage(bucket, path="same.eml"), job)
    found = storage(bucket, path="same.eml").find(job)
    assert found is not None
    assert found.first is not None
    assert found.first.url == url


def test_a_mail_without_the_part_has_nothing_stored(bucket: Bucket) -> None:
    found = storage(bucket, type="html").find(job_of())
    assert found is not None
    assert found.first is None
