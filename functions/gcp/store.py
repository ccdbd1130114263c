"""A bucket of Cloud Storage that holds a spool, and the create-only upload (`ifGenerationMatch=0`)."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, BinaryIO, Final

from functions.bucket.store import ObjectInfo, Times, reaching, times_of
from functions.gcp.clients import TIMEOUT, again
from functions.gcp.faults import fault_of, status_of
from functions.processors.store import Blob

_TAKEN: Final = "storage.objects.delete"
"""The permission that overwriting needs. With create-only rights, Cloud Storage answers 403 for this
permission instead of 412 when the object exists."""


class GcsStore:
    """One bucket: `functions.bucket.store.ObjectStore` of a spool, `functions.processors.store.Target` of an
    output."""

    def __init__(self, client: Any, bucket: str) -> None:
        self._client = client
        self._name = bucket
        self._bucket = client.bucket(bucket)

    def read(self, key: str, most: int | None = None) -> bytes | None:
        found = self.read_with_generation(key, most)
        return None if found is None else found[0]

    def read_with_generation(self, key: str, most: int | None = None) -> tuple[bytes, int] | None:
        """An object's bytes, or its first `most`, and its generation; None if the object does not
        exist. Raises DeliveryFault."""
        blob = self._bucket.blob(key)
        end = None if most is None else max(0, most - 1)
        try:
            data: bytes = blob.download_as_bytes(
                end=end,
                raw_download=True,
                timeout=TIMEOUT,
                retry=again(),
                checksum="auto" if most is None else None,
            )
        except Exception as error:
            status = status_of(error)
            if status == 404 and not _bucket_gone(error):
                return None
            if status == 416:
                return b"", 0
            raise fault_of(error, f"read {self.url(key)}") from error
        return data, int(blob.generation or 0)

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        return self.create_generation(key, data, content_type) is not None

    def create_generation(self, key: str, data: bytes, content_type: str) -> int | None:
        """Store an object under a free key and return its generation; None if the key is taken. Raises
        DeliveryFault."""
        blob = self._bucket.blob(key)
        made = self._put_new("create", blob, io.BytesIO(data), content_type)
        return int(blob.generation or 0) if made else None

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        made = self._bucket.blob(key)
        made.metadata = dict(metadata)
        with blob.open() as body:
            return self._put_new("store", made, body, blob.content_type)

    def _put_new(self, what: str, blob: Any, body: BinaryIO, content_type: str) -> bool:
        """Upload under a free key. False if the key is taken. Raises DeliveryFault.

        False may also mean that an earlier attempt of this process worked and its answer was lost.
        A caller that needs to know looks at the object.
        """
        size = body.seek(0, 2)
        body.seek(0)
        try:
            blob.upload_from_file(
                body,
                size=size,
                content_type=content_type,
                if_generation_match=0,
                timeout=TIMEOUT,
                retry=again(),
            )
        except Exception as error:
            status = status_of(error)
            if status == 412 or (status == 403 and _TAKEN in str(error)):
                return False
            raise fault_of(error, f"{what} {self.url(blob.name)}") from error
        return True

    def replace(self, key: str, data: bytes, content_type: str) -> None:
        blob = self._bucket.blob(key)
        with reaching(fault_of, f"write {self.url(key)}"):
            blob.upload_from_string(data, content_type=content_type, timeout=TIMEOUT, retry=again())

    def replace_generation(self, key: str, data: bytes, content_type: str, generation: int) -> int | None:
        """Store over exactly this generation of an object and return the new one; None, without any
        change, if the object has another generation. Raises DeliveryFault."""
        blob = self._bucket.blob(key)
        try:
            blob.upload_from_string(
                data,
                content_type=content_type,
                if_generation_match=generation,
                timeout=TIMEOUT,
                retry=None,  # after a lost answer a retry would find its own write and take it for another's
            )
        except Exception as error:
            if status_of(error) == 412:
                return None
            raise fault_of(error, f"write {self.url(key)}") from error
        return int(blob.generation or 0)

    def delete(self, key: str) -> None:
        self.delete_generation(key, None)

    def delete_generation(self, key: str, generation: int | None) -> None:
        """Remove an object; with a generation only while the object still has it. Raises
        DeliveryFault."""
        try:
            self._bucket.blob(key).delete(if_generation_match=generation, timeout=TIMEOUT, retry=again())
        except Exception as error:
            status = status_of(error)
            if (status == 404 and not _bucket_gone(error)) or status == 412:
                return
            raise fault_of(error, f"delete {self.url(key)}") from error

    def times(self, key: str) -> Times | None:
        """One attempt without the SDK, because the SDK does not show the answer's `Date`."""
        path = self._bucket.blob(key).path
        url = self._client._connection.build_api_url(path=path, query_params={"fields": "timeCreated"})
        try:
            answer = self._client._http.get(url, timeout=TIMEOUT)
            if answer.status_code != 200:
                return None
            made = datetime.fromisoformat(answer.json()["timeCreated"])
        except (ValueError, KeyError, TypeError):
            return None
        except Exception as error:
            raise fault_of(error, f"look at {self.url(key)}") from error
        return times_of(made.timestamp(), answer.headers.get("Date"))

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

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        fields = "items(name,size,updated),nextPageToken"
        with reaching(fault_of, f"list {self.url(prefix)}"):
            for blob in self._client.list_blobs(
                self._name, prefix=prefix, fields=fields, timeout=TIMEOUT, retry=again()
            ):
                yield ObjectInfo(blob.name, int(blob.size or 0), blob.updated.timestamp())

    def topics(self, prefix: str) -> Sequence[str]:
        """The topics that Cloud Storage notifies of objects below `prefix`, in full. Raises the SDK's
        exceptions."""
        return [
            f"projects/{each.topic_project}/topics/{each.topic_name}"
            for each in self._bucket.list_notifications(timeout=TIMEOUT, retry=again())
            if prefix.startswith(each.blob_name_prefix or "")
        ]

    def link(self, key: str, seconds: int) -> str:
        raise NotImplementedError  # the options refuse it

    def url(self, key: str) -> str:
        """The object's name in logs and events."""
        return f"gs://{self._name}/{key}"


def _bucket_gone(error: Exception) -> bool:
    """A missing bucket does not mean that an object is finished: it cannot be reached."""
    return "bucket does not exist" in str(error).lower()
