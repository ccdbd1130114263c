"""A Cloud Storage for each test of this folder that asks for it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from functions.gcp.clients import storage_client
from functions.gcp.store import GcsStore
from tests.support.clouds.gcp import FakeGcs

BUCKET = "bucket"


@pytest.fixture(scope="session")
def _server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGcs]:
    server = FakeGcs(tmp_path_factory.mktemp("gcs"), (BUCKET,), None, "", "").start()
    yield server
    server.stop()


@pytest.fixture
def gcs(_server: FakeGcs) -> FakeGcs:
    """The server, emptied."""
    for key in _server.keys(BUCKET):
        _server.delete(BUCKET, key)
    return _server


@pytest.fixture
def store(gcs: FakeGcs) -> Iterator[GcsStore]:
    client = storage_client(gcs.url)
    yield GcsStore(client, BUCKET)
    client.close()
