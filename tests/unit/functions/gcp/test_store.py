"""The spool's bucket and the outputs' on a real server."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor

import pytest

from functions.errors import Permanent, Temporary
from functions.gcp.clients import storage_client
from functions.gcp.store import GcsStore
from functions.processors.store import Blob
from tests.support.clouds.gcp import FakeGcs
from tests.support.net import HOST, free_port

TEXT = "text/plain"


def test_read_write_list_delete(store: GcsStore, gcs: FakeGcs) -> None:
    assert store.read("a/1") is None
    assert store.create("a/1", b"one", TEXT)
    assert not store.create("a/1", b"two", TEXT)
    assert store.read("a/1") == b"one"
    assert store.read("a/1", 2) == b"on"
    assert store.read("a/1", 1) == b"o"
    store.replace("a/1", b"three", TEXT)
    assert store.read("a/1") == b"three"
    assert store.create("a/empty", b"", TEXT)
    assert store.read("a/empty") == b""
    assert store.read("a/empty", 5) == b""
    assert store.create("a/Grüße +%?#", b"x", TEXT)
    assert store.read("a/Grüße +%?#") == b"x"
    listed = list(store.list("a/"))
    assert [(each.key, each.size) for each in listed] == [("a/1", 5), ("a/Grüße +%?#", 1), ("a/empty", 0)]
    assert all(each.modified > 1e9 for each in listed)
    assert gcs.about("bucket", "a/1")["contentType"] == TEXT
    for _ in range(2):
        store.delete("a/1")
    assert store.read("a/1") is None
    assert list(store.list("b/")) == []


def test_one_of_many_creates(store: GcsStore) -> None:
    with ThreadPoolExecutor(12) as pool:
        made = list(pool.map(lambda n: store.create("k", str(n).encode(), TEXT), range(24)))
    assert made.count(True) == 1
    assert store.read("k") == str(made.index(True)).encode()


def test_generations(store: GcsStore) -> None:
    first = store.create_generation("k", b"1", TEXT)
    assert first is not None
    assert store.create_generation("k", b"2", TEXT) is None
    assert store.read_with_generation("k") == (b"1", first)
    second = store.replace_generation("k", b"2", TEXT, first)
    assert second not in (None, first)
    assert store.replace_generation("k", b"3", TEXT, first) is None
    assert store.read("k") == b"2"


def test_a_bucket_that_is_gone_is_not_an_object_that_is(gcs: FakeGcs) -> None:
    missing = GcsStore(storage_client(gcs.url), "missing-bucket")
    with pytest.raises(Permanent) as caught:
        missing.create("k", b"", TEXT)
    assert caught.value.enhanced == "5.1.2"
    with pytest.raises(Permanent):
        list(missing.list(""))


def test_no_server_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.gcp.clients._PATIENCE", 0.3)
    store = GcsStore(storage_client(f"http://{HOST}:{free_port()}"), "bucket")
    for attempt in (lambda: store.read("k"), lambda: store.create("k", b"", TEXT), lambda: store.delete("k")):
        with pytest.raises(Temporary) as caught:
            attempt()
        assert not caught.value.in_doubt


def test_a_target_keeps_what_it_is_told(gcs: FakeGcs) -> None:
    target = GcsStore(storage_client(gcs.url), "bucket")
    blob = Blob("x", "", "message/rfc822", lambda: io.BytesIO(b"mail"))
    assert target.metadata("x") is None
    assert target.put_new("x", blob, {"smtp-relay-id": "1"})
    assert not target.put_new("x", blob, {"smtp-relay-id": "2"})
    assert target.metadata("x") == {"smtp-relay-id": "1"}
    assert target.url("x") == "gs://bucket/x"
    large = Blob("large", "", "message/rfc822", lambda: io.BytesIO(bytes(20_000_000)))
    assert target.put_new("large", large, {})
    # fake-gcs-server ignores preconditions of a resumable upload, so a second one is left out here.
    assert int(gcs.about("bucket", "large")["size"]) == 20_000_000
