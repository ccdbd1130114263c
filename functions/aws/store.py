"""An S3 bucket, and the create-only PUT (`If-None-Match: *`)."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final

from functions.aws.faults import error_code, fault_of, status_of
from functions.bucket.store import ObjectInfo, Times, reaching, times_of
from functions.processors.store import Blob

_CONFLICTS: Final = 5
"""Attempts while another request for the same key is under way (409), because that one may fail."""


class S3Store:
    """One bucket: `functions.bucket.store.ObjectStore` of a spool, `functions.processors.store.Target` of an
    output. `options` are added to each PutObject."""

    def __init__(self, client: Any, bucket: str, options: Mapping[str, Any] | None = None) -> None:
        self._client = client
        self._bucket = bucket
        self._options = options or {}
        # ExpectedBucketOwner also applies to HeadObject.
        expected = {"ExpectedBucketOwner", "RequestPayer"}
        self._shared = {name: value for name, value in self._options.items() if name in expected}

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
            raise fault_of(error, f"read {self.url(key)}") from error
        return data

    def create(self, key: str, data: bytes, content_type: str) -> bool:
        return self._put_new("create", self._put(key, data, content_type))

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        with blob.open() as body:
            arguments = self._put(key, body, blob.content_type)
            arguments["Metadata"] = {**self._options.get("Metadata", {}), **metadata}
            return self._put_new("store", arguments)

    def _put_new(self, what: str, arguments: Mapping[str, Any]) -> bool:
        """PutObject under a free key. False if the key is taken. Raises DeliveryFault.

        False may also mean that an earlier attempt of this process worked and its answer was lost.
        A caller that needs to know looks at the object.
        """
        for attempt in range(_CONFLICTS):
            try:
                self._client.put_object(**arguments, IfNoneMatch="*")
            except Exception as error:
                if status_of(error) == 412 or error_code(error) == "PreconditionFailed":
                    return False
                if status_of(error) != 409 or attempt == _CONFLICTS - 1:
                    raise fault_of(error, f"{what} {self.url(arguments['Key'])}") from error
                time.sleep(random.uniform(0.05, 0.2) * 2**attempt)  # noqa: S311 - jitter
            else:
                return True
        raise AssertionError("unreachable")

    def replace(self, key: str, data: bytes, content_type: str) -> None:
        with reaching(fault_of, f"write {self.url(key)}"):
            self._client.put_object(**self._put(key, data, content_type))

    def delete(self, key: str) -> None:
        with reaching(fault_of, f"delete {self.url(key)}"):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def metadata(self, key: str) -> Mapping[str, str] | None:
        found = self._head(key, 403, 404)
        there: Mapping[str, str] | None = None if found is None else found.get("Metadata", {})
        return there

    def times(self, key: str) -> Times | None:
        found = self._head(key, 404)
        if found is None:
            return None
        date = found["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
        return times_of(found["LastModified"].timestamp(), date)

    def _head(self, key: str, *missing: int) -> Any:
        """HeadObject's answer; None if its status is one of `missing`."""
        try:
            return self._client.head_object(Bucket=self._bucket, Key=key, **self._shared)
        except Exception as error:
            if status_of(error) in missing:
                return None
            raise fault_of(error, f"look at {self.url(key)}") from error

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix)
        with reaching(fault_of, f"list {self.url(prefix)}"):
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield ObjectInfo(entry["Key"], entry["Size"], entry["LastModified"].timestamp())

    def url(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"

    def link(self, key: str, seconds: int) -> str:
        place = {"Bucket": self._bucket, "Key": key}
        with reaching(fault_of, f"sign a link to {self.url(key)}"):
            made: str = self._client.generate_presigned_url("get_object", Params=place, ExpiresIn=seconds)
        return made

    def _put(self, key: str, body: bytes | BinaryIO, content_type: str) -> dict[str, Any]:
        place = {"Bucket": self._bucket, "Key": key, "Body": body, "ContentType": content_type}
        return {**place, **self._options}
