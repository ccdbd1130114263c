"""The campaign's site on Google's stand-ins: fake-gcs-server, the Pub/Sub emulator, functions-framework."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, Final
from urllib.error import HTTPError

from functions.config import DeliveryConfig
from functions.delivery.engine import output_key
from functions.message.event.attributes import ID
from tests.faults.campaign.clouds import site as cloud
from tests.faults.campaign.clouds.observation import plant
from tests.faults.campaign.clouds.site import FILED_FLOW, SMTP, Site, together
from tests.support import process
from tests.support.clouds.gcp import Pubsub
from tests.support.clouds.gcp_stack import Stack
from tests.support.clouds.gcs_xml import XmlFront

TIMEOUT: Final = 50
"""Seconds of a run; no effect starts with less than 35 s left."""


class GcpSite(Site):
    """The listener and the function on one Pub/Sub emulator and one fake-gcs-server."""

    repeating: ClassVar[Mapping[str, str]] = {
        **SMTP,
        "tell": "Pub/Sub takes the same message twice",
    }

    def __init__(self, folder: Path, seed: str, on_doubt: str, stack: ExitStack) -> None:
        super().__init__(folder, seed, on_doubt, stack)
        pubsub = Pubsub(folder / "pubsub")
        stack.callback(pubsub.stop)
        pubsub.start()
        self.home = self.proxy(stack, 0, f"{seed} home")  # its target has no port yet
        self.calls = self.proxy(stack, pubsub.port, f"{seed} calls")
        plant(folder / "site", self.function_clock, self.log)
        outputs: list[dict[str, Any]] = [
            {
                "type": "gcp", "name": "store",
                "storage": {"bucket": "{bucket}", "path": "${id}.eml", "addRawHeaders": False},
            },
            {"type": "gcp", "name": "tell", "pubsub": {"topic": "{topic:out}"}},
        ]  # fmt: skip
        config = {"flows": self.flows(outputs), "delivery": {"onDoubt": on_doubt}}
        place = folder / "stack"
        place.mkdir()
        self.stack = Stack(
            pubsub,
            place,
            config,
            longest="5s",
            environment={
                "STORAGE_EMULATOR_HOST": self.home.url,
                "PUBSUB_EMULATOR_HOST": self.calls.address,
                "PYTHONPATH": f"{folder / 'site'}{os.pathsep}{place / 'code'}",
                "SMTP_RELAY_TIMEOUT": str(TIMEOUT),
            },
        )
        self.home.target = self.stack.gcs.port
        stack.callback(self.stack.close)
        self.front = XmlFront(self.stack.gcs.url).start()
        stack.callback(self.front.stop)
        self.store = self.proxy(stack, int(self.front.url.rpartition(":")[2]), f"{seed} store")
        self._push = {"pushConfig": {"pushEndpoint": f"{self.stack.function.url}/"}}
        self._timers: list[threading.Timer] = []
        self.listen(self.stack.raw, {"url": self.spool_url, "endpoint": self.store.url}, self.plain)

    @property
    def spool_url(self) -> str:
        return self.stack.spool

    @property
    def plain(self) -> Mapping[str, str]:
        return {
            "SMTP_RELAY_SPOOL": self.spool_url,
            "SMTP_RELAY_TOPIC": self.stack.topic,
            "STORAGE_EMULATOR_HOST": self.stack.gcs.url,
            "PUBSUB_EMULATOR_HOST": self.stack.pubsub.address,
            "GOOGLE_CLOUD_PROJECT": self.stack.environment["GOOGLE_CLOUD_PROJECT"],
        }

    def output(self) -> str:
        return self.stack.function.log()

    def keys(self, below: str) -> list[str]:
        return self.stack.gcs.keys(self.stack.bucket, cloud.PREFIX + below)

    def read_spooled(self, key: str) -> bytes | None:
        try:
            return self.stack.gcs.read(self.stack.bucket, key)
        except HTTPError:
            return None

    def write_spooled(self, key: str, data: bytes) -> None:
        self.stack.gcs.write(self.stack.bucket, key, data)

    def stored(self) -> dict[str, bytes]:
        return self.stack.stored()

    def collect(self) -> None:
        while found := self.stack.pubsub.pull(self.stack.topics["out"]):
            for message in found:
                self.copies["tell"][message["attributes"][ID]] += 1

    def finish(self) -> None:
        for timer in self._timers:
            timer.cancel()
        super().finish()

    def notify(self, keys: Sequence[str]) -> None:
        for key in keys:
            about = {"eventType": "OBJECT_FINALIZE", "bucketId": self.stack.bucket, "objectId": key}
            self.stack.pubsub.publish(self.stack.topic.rpartition("/")[2], about)

    def ring_late(self, keys: Sequence[str], moments: random.Random) -> str:
        for key in keys:
            timer = threading.Timer(moments.uniform(1, 180), self.notify, [[key]])
            timer.daemon = True
            timer.start()
            self._timers.append(timer)
        return f"{len(keys)} events up to 3 minutes late"

    def silence(self, seconds: float) -> None:
        """No push is sent, and arriving messages are dropped."""
        name = f"{self.stack.name}-doorbells"
        pubsub = self.stack.pubsub
        pubsub.call("POST", f"subscriptions/{name}:modifyPushConfig", {"pushConfig": {}})
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            pubsub.pull(name)
            time.sleep(0.1)
        pubsub.call("POST", f"subscriptions/{name}:modifyPushConfig", self._push)

    def kill_function(self, moments: random.Random) -> str:
        """One of its serving processes, or all of it."""
        self._together(self.see()[:5], 1)
        time.sleep(moments.uniform(0.02, 0.6))
        function = self.stack.function
        workers = process.tree(function.pid)[1:]
        if workers and moments.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(moments.choice(workers), signal.SIGKILL)
            return "SIGKILL to a process of the function"
        function.stop()
        function.start()
        return "SIGKILL to the function"

    def stop_function(self, moments: random.Random) -> str:
        self._together(self.see()[:5], 1)
        time.sleep(moments.uniform(0.02, 0.6))
        function = self.stack.function
        with contextlib.suppress(ProcessLookupError):
            os.kill(function.pid, signal.SIGTERM)
        function.wait(100)
        function.stop()
        function.start()
        return "SIGTERM to the function"

    def at_once(self, keys: Sequence[str], runs: int, moments: random.Random) -> None:
        for thread in self._together(keys, runs):
            thread.join(150)

    def _together(self, keys: Sequence[str], runs: int) -> list[threading.Thread]:
        """Push each key so many times at once."""

        def push(key: str) -> None:
            with contextlib.suppress(OSError):
                self.stack.push(key)

        return together([partial(push, key) for key in keys for _ in range(runs)])

    def receipts(self, ids: Sequence[str]) -> set[tuple[str, str]]:
        config = DeliveryConfig.model_validate(json.loads(self.stack.config.read_text()))
        identities = {label: options.identity() for label, options in config.flows[FILED_FLOW].labelled()}
        done = {key.rpartition("/")[2] for key in self.keys("receipts/")}
        found = set()
        for mail_id in ids:
            mail: Any = SimpleNamespace(id=mail_id, replay=0)
            if f"{output_key(mail, FILED_FLOW, identities['tell'], 'pubsub')}.done" in done:
                found.add((mail_id, "tell"))
        return found


@contextmanager
def site(folder: Path, seed: str, on_doubt: str) -> Iterator[Site]:
    """A site; afterwards nothing of it is left running."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield GcpSite(folder, seed, on_doubt, stack)
