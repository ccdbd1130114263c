"""An S3 bucket that holds a spool, and the create-only PUT (`If-None-Match: *`)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from typing import Any, Final

from functions.aws.faults import error_code, fault_of, status_of
from functions.bucket.store import ObjectInfo, Times, times_of

_CONFLICTS: Final = 5
"""Attempts while another request for the same key is under way (409), because that one may fail."""


def put_new(client: Any, what: str, **arguments: Any) -> bool:
    """PutObject under a free key. False if the key is taken. Raises DeliveryFault.

    False may also mean that an earlier attempt of this process worked and its answer was lost. A
    caller that needs to know looks at the object.
    """
    for attempt in range(_CONFLICTS):
        try:
            client.put_object(**arguments, IfNoneMatch="*")
        except Exception as error:
            if status_of(error) == 412 or error_code(error) == "PreconditionFailed":
                return False
            if status_of(error) != 409 or attempt == _CONFLICTS - 1:
                raise fault_of(error, what) from error
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 - jitter
        else:
            return True
    raise AssertionError("unreachable")


class S3Store:
    """`functions.bucket.store.ObjectStore` for one bucket. Writes carry the `encryption` parameters of
    PutObject."""

    def __init__(self, client: Any, bucket: str, encryption: dict[str, Any] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._encryption = encryption or {}

    def read(self, key: str, most: int | None = None) -> bytes | None:
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        if most is not None:
            arguments["Range"] = f"bytes=0-{most - 1}"
        try:
            body = self._client.get_object(**arguments)["Body"]
            data: bytes = body.read()
        except Exception as error:
            if status_of(error) == 404 and error_code(error) != "NoSuchBucket":
                return None
            if status_of(error) == 416:
                return b""
            raise fault_of(error, f"read s3://{self._bucket}/{key}") from error
        return data

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        return put_new(
            self._client, f"create s3://{self._bucket}/{key}", **self._put(key, data, content_type)
        )

    def replace(self, key: str, data: bytes, content_type: str) -> None:
        try:
            self._client.put_object(**self._put(key, data, content_type))
        except Exception as error:
            raise fault_of(error, f"write s3://{self._bucket}/{key}") from error

    def delete(self, key: str) -> None:
        try:
            self._client.delete_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            raise fault_of(error, f"delete s3://{self._bucket}/{key}") from error

    def times(self, key: str) -> Times | None:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=key)
        except Exception as error:
            if status_of(error) == 404:
                return None
            raise fault_of(error, f"look at s3://{self._bucket}/{key}") from error
        date = found["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        return times_of(found["LastModified"].timestamp(), date)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        try:
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield ObjectInfo(entry["Key"], entry["Size"], entry["LastModified"].timestamp())
        except Exception as error:
            raise fault_of(error, f"list s3://{self._bucket}/{prefix}") from error

    def _put(self, key: str, data: bytes, content_type: str) -> dict[str, Any]:
        place = {"Bucket": self._bucket, "Key": key, "Body": data, "ContentType": content_type}
        return place | self._encryption
