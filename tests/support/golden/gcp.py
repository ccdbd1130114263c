"""The golden recording of Cloud Storage, by and for the function's code against the emulators."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.error import HTTPError

from functions.backends import open_dead_letters
from functions.bucket.deadletters import BucketDeadLetters
from functions.config import DeliveryConfig
from functions.gcp.clients import close, storage_client
from functions.gcp.function import TIMEOUT, CloudRunFunction
from tests.support.clouds.gcp import PROJECT, FakeGcs, Pubsub
from tests.support.golden.bucket import EVENTS, NEXT, SPOOL, TARGET, Site, record
from tests.support.golden.recording import answer
from tests.support.servers.smarthost import Smarthost, smarthost

RAW: Final[dict[str, Any]] = {
    "spool": f"gs://{SPOOL}/relay",
    "keepCache": True,
    "flows": {"in": {"outputs": [{"type": "gcp", "path": f"gs://{TARGET}/mail/", "pubsub": EVENTS}, *NEXT]}},
}
LASTING: Final = 540
"""Seconds that a run may take: with its grace a claim is respected for ten minutes."""


class GcpSite(Site):
    """Cloud Storage and a topic of their own, which the process's environment names."""

    def __init__(
        self, gcs: FakeGcs, pubsub: Pubsub, raw: Mapping[str, Any], hosts: Mapping[str, Smarthost]
    ) -> None:
        super().__init__(raw, hosts)
        self._pubsub = pubsub
        self._client = storage_client(gcs.url)
        pubsub.subscribe(EVENTS, pubsub.topic(EVENTS))
        self._events: Counter[tuple[str, ...]] = Counter()

    @staticmethod
    def environment(gcs: FakeGcs, pubsub: Pubsub) -> dict[str, str]:
        """The variables of the process's environment."""
        return {
            "STORAGE_EMULATOR_HOST": gcs.url,
            "PUBSUB_EMULATOR_HOST": pubsub.address,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
        }

    def make_function(self, config: DeliveryConfig, age: float) -> CloudRunFunction:
        return CloudRunFunction(config, {TIMEOUT: str(LASTING)}, clock=lambda: time.time() - age)

    def deliver(self, key: str) -> None:
        attributes = {"eventType": "OBJECT_FINALIZE", "bucketId": SPOOL, "objectId": key}
        message = {"attributes": attributes, "messageId": "1", "data": ""}
        self.function.handle({"message": message, "subscription": "s", "deliveryAttempt": 1})

    def letters(self) -> BucketDeadLetters:
        config = DeliveryConfig.model_validate(dict(self.raw), by_alias=True, by_name=False)
        return open_dead_letters(config, Path(), {})

    def objects(self, bucket: str) -> list[dict[str, Any]]:
        return [
            {
                "key": blob.name,
                "type": blob.content_type,
                "metadata": blob.metadata or {},
                "text": blob.download_as_bytes().decode(),
            }
            for blob in self._client.list_blobs(bucket)
        ]

    def put(self, bucket: str, found: Mapping[str, Any]) -> None:
        blob = self._client.bucket(bucket).blob(found["key"])
        blob.metadata = dict(found["metadata"])
        blob.upload_from_string(found["text"].encode(), content_type=found["type"])

    def events(self) -> Counter[tuple[str, ...]]:
        while messages := self._pubsub.pull(EVENTS):
            for message in messages:
                self._events["event", json.loads(message["data"])["data"]["email"]["subject"]] += 1
        return Counter(self._events)

    def close(self) -> None:
        super().close()
        close(self._client)
        for path in (f"subscriptions/{EVENTS}", f"topics/{EVENTS}"):
            with suppress(HTTPError):
                self._pubsub.call("DELETE", path)


def start_gcs(folder: Path) -> FakeGcs:
    """A Cloud Storage with the two buckets."""
    return FakeGcs(folder, (SPOOL, TARGET), None, "", "").start()


def recorded_gcp(recording: Path, folder: Path, environ: Any) -> None:
    """Record `gcp.json`; `environ` is this process's environment."""
    pubsub, gcs = Pubsub(folder), start_gcs(folder)
    try:
        pubsub.start()
        environ.update(GcpSite.environment(gcs, pubsub))
        with smarthost(answer("first")) as first, smarthost(answer("second")) as second:
            site = GcpSite(gcs, pubsub, RAW, {"first": first, "second": second})
            record(recording / "gcp.json", site)
    finally:
        gcs.stop()
        pubsub.stop()
