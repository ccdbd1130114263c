"""Storing to S3: the `storage` of an `aws` output."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions.aws.faults import fault_of, status_of
from functions.aws.output.request_options import PutOptions, given
from functions.aws.store import put_new
from functions.processors.store import Blob


class S3Target:
    """`functions.processors.store.Target` for one bucket; `options` are added to each PutObject."""

    def __init__(self, client: Any, bucket: str, options: PutOptions) -> None:
        self._client = client
        self._bucket = bucket
        self._options = given(options)
        # ExpectedBucketOwner also applies to HeadObject.
        expected = {"ExpectedBucketOwner", "RequestPayer"}
        self._shared = {name: value for name, value in self._options.items() if name in expected}

    def put_new(self, key: str, blob: Blob, metadata: Mapping[str, str]) -> bool:
        arguments = {"ContentType": blob.content_type} | self._options
        arguments["Metadata"] = {**self._options.get("Metadata", {}), **metadata}
        with blob.open() as body:
            return put_new(
                self._client,
                f"store {self.url(key)}",
                Bucket=self._bucket,
                Key=key,
                Body=body,
                **arguments,
            )

    def metadata(self, key: str) -> Mapping[str, str] | None:
        try:
            found = self._client.head_object(Bucket=self._bucket, Key=key, **self._shared)
        except Exception as error:
            if status_of(error) in (403, 404):
                return None
            raise fault_of(error, f"look at {self.url(key)}") from error
        there: Mapping[str, str] = found.get("Metadata", {})
        return there

    def url(self, key: str) -> str:
        return f"s3://{self._bucket}/{key}"
