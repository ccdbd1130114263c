"""The delivery half on Google Cloud as a test deploys it: buckets, topic, push subscription, and the
function's source zip run by functions-framework."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from infra.bundle.gcp import source
from tests.support.clouds.gcp import PROJECT, FakeGcs, Process, Pubsub
from tests.support.mails.spooled import MAIL, envelope_of, spool_object
from tests.support.net import HOST, PATIENCE, wait_until

PREFIX: Final = "relay"
_LOG_START: Final = '{"severity"'


class Function(Process):
    """functions-framework on the unpacked source zip of a configuration."""

    def __init__(self, folder: Path, config: Path, environment: Mapping[str, str], python: str) -> None:
        super().__init__(folder, "function")
        self.code = folder / "code"
        self._python = python
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ},
            "PYTHONPATH": str(self.code),
            "PYTHONUNBUFFERED": "1",
            "THREADS": "8",
            "PYDANTIC_DISABLE_PLUGINS": "__all__",
            **environment,
        }
        self.unpack(source(config, folder / "function.zip"))

    def unpack(self, archive: Path) -> None:
        """Have this zip's code in the place of any other's from the next start on."""
        shutil.rmtree(self.code, ignore_errors=True)
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(self.code)

    def restart(self, **environment: str) -> Self:
        """Start again, on the same port, with another environment."""
        self.stop()
        self._environment |= environment
        return self.start()

    def start(self) -> Self:
        """Start it, as Cloud Run does."""
        command = [self._python, "-c", "from functions_framework._cli import _cli; _cli()"]
        arguments = ["--target", "handle", "--source", self.code / "main.py", "--signature-type", "http"]
        self._start([*command, *arguments, "--host", HOST, "--port", str(self.port)], self._environment, 60)
        return self

    def entries(self) -> list[dict[str, Any]]:
        """Its structured log."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith(_LOG_START)]


class Stack:
    """One spool with its function. `config` holds the outputs; `{bucket}` and `{topic:NAME}` in its
    strings stand for this stack's own. Each such topic has a subscription of its name."""

    def __init__(
        self,
        pubsub: Pubsub,
        folder: Path,
        config: Mapping[str, Any],
        *,
        notify: bool = True,
        longest: str = "600s",
        attempts: int = 10,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
    ) -> None:
        self.pubsub = pubsub
        self.name = f"relay-{os.urandom(4).hex()}"
        self.bucket, self.target = f"{self.name}-spool", f"{self.name}-target"
        self.topic = pubsub.topic(f"{self.name}-doorbells")
        self.dead_topic = pubsub.topic(f"{self.name}-dead")
        pubsub.subscribe(f"{self.name}-dead", self.dead_topic)
        self.gcs = FakeGcs(
            folder,
            (self.bucket, self.target),
            pubsub if notify else None,
            self.topic.rpartition("/")[2],
            f"{PREFIX}/spool/",
        ).start()
        self.topics: dict[str, str] = {}
        text = self._with_topics(json.dumps(config).replace("{bucket}", self.target))
        self.raw = json.loads(text) | {"spool": self.spool}
        self.config = folder / "relay.json"
        self.config.write_text(json.dumps(self.raw))
        self.environment = {
            "SMTP_RELAY_SPOOL": self.spool,
            "SMTP_RELAY_TOPIC": self.topic,
            "STORAGE_EMULATOR_HOST": self.gcs.url,
            "PUBSUB_EMULATOR_HOST": pubsub.address,
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            **(environment or {}),
        }
        self.function = Function(folder, self.config, self.environment, python).start()
        pubsub.subscribe(
            f"{self.name}-doorbells",
            self.topic,
            pushConfig={"pushEndpoint": f"{self.function.url}/"},
            ackDeadlineSeconds=600,
            retryPolicy={"minimumBackoff": "0.1s", "maximumBackoff": longest},
            deadLetterPolicy={"deadLetterTopic": self.dead_topic, "maxDeliveryAttempts": attempts},
        )

    @property
    def spool(self) -> str:
        """The spool's URL."""
        return f"gs://{self.bucket}/{PREFIX}"

    def put(self, content: bytes = MAIL, **about: Any) -> str:
        """Spool a mail as a listener would; returns its key. `about` goes to `envelope_of`."""
        about.setdefault("flows", tuple(self.raw["flows"]))
        key, data = spool_object(envelope_of(content, **about), content, f"{PREFIX}/")
        self.gcs.write(self.bucket, key, data)
        return key

    def keys(self, below: str) -> list[str]:
        """Keys of the spool bucket below the prefix."""
        return self.gcs.keys(self.bucket, f"{PREFIX}/{below}")

    def spooled(self) -> list[str]:
        """Keys of unfinished mails."""
        return self.keys("spool/")

    def stored(self) -> dict[str, bytes]:
        """The outputs' stored objects, by key."""
        return {key: self.gcs.read(self.target, key) for key in self.gcs.keys(self.target)}

    def dead_records(self) -> list[dict[str, Any]]:
        """The dead records."""
        return [json.loads(self.gcs.read(self.bucket, key)) for key in self.dead_keys()]

    def dead_keys(self) -> list[str]:
        """The keys of the dead records."""
        return [key for key in self.keys("dead/") if key.endswith(".json")]

    def messages(self, topic: str, least: int = 1, seconds: float = PATIENCE) -> list[dict[str, Any]]:
        """The messages published to an output's topic, taken out, once there are so many."""
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + seconds
        while len(found) < least and time.monotonic() < deadline:
            found += self.pubsub.pull(self.topics[topic])
            time.sleep(0.05)
        return found + self.pubsub.pull(self.topics[topic])

    def dead_doorbells(self) -> list[dict[str, Any]]:
        """The messages that the subscription gave up, taken out."""
        return self.pubsub.pull(f"{self.name}-dead")

    def push(self, key: str, *, attempt: int = 1, bucket: str | None = None, **attributes: str) -> int:
        """Deliver a notification as Pub/Sub does; returns the answer's status."""
        told = {"eventType": "OBJECT_FINALIZE", "bucketId": bucket or self.bucket, "objectId": key}
        message = {"attributes": {**told, **attributes}, "messageId": "1", "data": ""}
        return self.post({"message": message, "subscription": "s", "deliveryAttempt": attempt})[0]

    def post(self, body: Any) -> tuple[int, Any]:
        """A request of the function: its status and its answer."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.function.url}/", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None

    def sweep(self) -> dict[str, Any]:
        """Have the function sweep."""
        status, found = self.post({"sweep": True})
        assert status == 200, self.function.log()[-4000:]
        return dict(found)

    def settled(self, seconds: float = PATIENCE) -> None:
        """Wait until all mails are finished."""
        self.until(lambda: not self.spooled(), "the spool to be empty", seconds)

    def until(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Wait for a condition. Raises TimeoutError with the log's end."""
        try:
            wait_until(condition, seconds=seconds, what=what, every=0.05)
        except TimeoutError as error:
            raise TimeoutError(f"{error}:\n{self.function.log()[-6000:]}") from None

    def close(self) -> None:
        """End the processes."""
        self.pubsub.call("DELETE", f"subscriptions/{self.name}-doorbells")
        self.function.stop()
        self.gcs.stop()

    def _with_topics(self, text: str) -> str:
        while "{topic:" in text:
            before, _, rest = text.partition("{topic:")
            name, _, after = rest.partition("}")
            if name not in self.topics:
                self.topics[name] = f"{self.name}-{name}"
                path = self.pubsub.topic(self.topics[name])
                self.pubsub.subscribe(self.topics[name], path)
            text = f"{before}projects/{PROJECT}/topics/{self.topics[name]}{after}"
        return text
