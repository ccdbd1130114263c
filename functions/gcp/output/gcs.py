"""Storing to Cloud Storage: the `storage` of a `gcp` output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions.gcp.clients import TIMEOUT, again
from functions.gcp.faults import fault_of, status_of
from functions.gcp.store import put_new
from functions.processors.store import Blob


class GcsTarget:
    """`functions.processors.store.Target` for one bucket."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._bucket = client.bucket(bucket)
        self._name = bucket

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        made = self._bucket.blob(key)
        made.metadata = dict(metadata)
        with blob.open() as body:
            return put_new(made, body, blob.content_type, f"store {self.url(key)}")

    def metadata(self, key: str) -> Mapping[str, str] | None:
        blob = self._bucket.blob(key)
        try:
            blob.reload(timeout=TIMEOUT, retry=again())
        except Exception as error:
            if status_of(error) in (403, 404):
                return None
            raise fault_of(error, f"look at {self.url(key)}") from error
        there: Mapping[str, str] = blob.metadata or {}
        return there

    def url(self, key: str) -> str:
        return f"gs://{self._name}/{key}"
