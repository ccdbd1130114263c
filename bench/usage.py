"""What one mail uses on both clouds' stand-ins: bytes of logs, requests, and seconds of CPU.

    python -m bench.usage [--mails 1000] [--size 5120] [--out bench/usage.json]

Real mails go through the real listener and the function's own code, with the default levels of logs. Two
configurations: an output that stores, and one that publishes an event besides. `bench/cost.py` makes prices
of the result.
"""

from __future__ import annotations

import argparse
import json
import os
import smtplib
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from infra.bundle.gcp import listener_config
from tests.support import process
from tests.support.clouds.aws_stack import Stack as AwsStack
from tests.support.clouds.gcp import Pubsub
from tests.support.clouds.gcp_stack import Stack as GcpStack
from tests.support.clouds.gcs_xml import XmlFront
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST
from tests.support.servers.counting import Counting, of_aws, of_gcs
from tests.support.servers.relay import ROOT, Relay

FILE: Final = ROOT / "bench" / "usage.json"

_HANDLER: Final = """
import json, resource, sys
from functions.aws import handler
class Context:
    aws_request_id = "01a2037e-0ecf-4600-b2c1-0c663d57cd8b"
    function_name = memory_limit_in_mb = invoked_function_arn = ""
    def get_remaining_time_in_millis(self): return 60_000
def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
begun = None
for line in sys.stdin:
    assert handler.handler(json.loads(line), Context()) == {"batchItemFailures": []}
    begun = begun or cpu()
print(cpu() - begun, file=sys.stderr)
"""


def outputs(kind: str, topic: str, *, publishes: bool) -> list[dict[str, Any]]:
    """The configuration's outputs; `topic` is a placeholder of the cloud's stack."""
    storage = {"bucket": "{bucket}", "path": "mail/${id}.eml"}
    return [{"type": kind, "storage": storage, **({"pubsub": {"topic": topic}} if publishes else {})}]


def mail(number: int, size: int) -> bytes:
    """A mail of a person's, of about this many bytes."""
    head = (
        f"From: Ada Lovelace <ada@example.com>\r\nTo: bob@example.net\r\nSubject: Report {number}\r\n"
        f"Message-ID: <{number:08}.{os.getpid()}@mail.example.com>\r\nMIME-Version: 1.0\r\n"
        "Content-Type: text/plain; charset=utf-8\r\n\r\n"
    )
    line = "The quick brown fox jumps over the lazy dog and goes on for a while.\r\n"
    return (head + line * ((size - len(head)) // len(line))).encode()


def send(relay: Relay, mails: int, size: int, delivered: Callable[[], None]) -> None:
    """Ten mails in each connection. They are delivered before the next ten come, as at low rates: for a mail
    that waited, the function looks for marks of earlier runs."""
    for first in range(0, mails, 10):
        with smtplib.SMTP(HOST, relay.port) as client:
            for number in range(first, min(first + 10, mails)):
                client.sendmail("ada@example.com", ["bob@example.net"], mail(number, size))
        delivered()


def flows(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The listener's configuration as deployed, with flows that take mail from loopback."""
    made = {
        name: {"filters": [{"type": "whitelist", "ips": [HOST]}], **flow}
        for name, flow in raw["flows"].items()
    }
    config = listener_config({**raw, "flows": made})
    return config | {"health": {"portNumber": 0}}


def lines(text: str) -> list[str]:
    """The log's JSON lines that belong to mails."""
    found = [line for line in text.splitlines() if line.startswith("{")]
    return [line for line in found if '"id"' in line or '"_aws"' in line or '"mail accepted"' in line]


def about(log: list[str], mails: int) -> dict[str, float]:
    """Bytes and entries for each mail."""
    return {
        "bytes": round(sum(len(line.encode()) for line in log) / mails, 1),
        "entries": round(len(log) / mails, 3),
    }


def a_mail(counts: Counter[str], mails: int) -> dict[str, float]:
    """Requests for each mail; those of the start are left out by rounding."""
    return {name: round(count / mails, 2) for name, count in sorted(counts.items()) if count / mails >= 0.01}


def mails_of(stack: AwsStack | GcpStack) -> list[str]:
    """Keys of unfinished mails; the probe of the listener's readiness is none."""
    return [key for key in stack.spooled() if key.endswith(".eml")]


def event_of(stack: AwsStack, key: str) -> dict[str, Any]:
    """The invocation for one upload, with S3's own event."""
    thing = {"bucket": {"name": stack.bucket}, "object": {"key": key, "size": 1}}
    record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": thing}
    return {"Records": [stack.message(key) | {"body": json.dumps({"Records": [record]})}]}


def start_handler(
    stack: AwsStack, folder: Path, environment: Mapping[str, str]
) -> tuple[subprocess.Popen[str], Path]:
    """The function's handler in a process of its own, which takes events by lines, and its log."""
    logged = folder / "function.log"
    with logged.open("w") as output:
        started = subprocess.Popen(
            [sys.executable, "-c", _HANDLER],
            env={**os.environ, **stack.environment(), **environment, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        )
    return started, logged


def measure_aws(aws: Ministack, folder: Path, mails: int, size: int, *, publishes: bool) -> dict[str, Any]:
    """Each mail in an invocation of its own, as at low rates."""
    folder.mkdir(parents=True)
    made = {"flows": {"inbound": {"outputs": outputs("aws", "{queue:out}", publishes=publishes)}}}
    stack = AwsStack(aws, folder, made, notify=False, deployed=False)
    with Counting(aws.url, of_aws) as front:
        there = {"AWS_ENDPOINT_URL": front.url, "AWS_ENDPOINT_URL_S3": front.url}
        relay = Relay(folder / "relay", flows(stack.raw), env={**aws.environment, **there})
        function, logged = start_handler(stack, folder, there)
        assert function.stdin is not None

        def delivered() -> None:
            for key in mails_of(stack):
                function.stdin.write(json.dumps(event_of(stack, key)) + "\n")
            function.stdin.flush()
            stack.until(lambda: not mails_of(stack), "the mails to be delivered")

        with running(relay):
            send(relay, mails, size, delivered)
        _, said = function.communicate()
        assert function.returncode == 0, said[-4000:]
        counts = Counter(front.counts)
    if publishes:  # boto3 takes the host from the queue's URL, past the front
        counts["sqs:SendMessage"] = stack.waits("out")[0]
    assert not mails_of(stack)
    assert len(stack.stored()) == mails
    return {
        "listener": about(lines(relay.log()), mails),
        "function": about(lines(logged.read_text()), mails),
        "requests": a_mail(counts, mails),
        "cpu": round(float(said.splitlines()[-1]) / (mails - 1), 5),
    }


def measure_gcp(pubsub: Pubsub, folder: Path, mails: int, size: int, *, publishes: bool) -> dict[str, Any]:
    """Notifications are pushed by the emulator of Pub/Sub."""
    made = {"flows": {"inbound": {"outputs": outputs("gcp", "{topic:out}", publishes=publishes)}}}
    stack = GcpStack(pubsub, folder, made)
    pubsub.subscribe(f"{stack.name}-copy", stack.topic)
    storage = XmlFront(stack.gcs.url).start()
    try:
        with Counting(stack.gcs.url, of_gcs) as front:
            stack.function.restart(STORAGE_EMULATOR_HOST=front.url)
            config = flows(stack.raw) | {"spool": {"url": stack.spool, "endpoint": storage.url}}
            relay = Relay(folder / "relay", config, env=stack.environment)
            begun = process.cpu_seconds(stack.function.pid)

            def settled() -> None:
                stack.until(lambda: not mails_of(stack), "the mails to be delivered")

            with running(relay):
                send(relay, mails, size, settled)
            used = process.cpu_seconds(stack.function.pid) - begun
            counts = Counter(front.counts)
        counts["gcs:A"] += len(storage.uploads)
        assert len(stack.stored()) == mails
        return {
            "listener": about(lines(relay.log()), mails),
            "function": about(lines(stack.function.log()), mails),
            "requests": a_mail(counts, mails),
            "notification": size_of(pubsub, f"{stack.name}-copy"),
            "event": size_of(pubsub, stack.topics["out"]) if publishes else 0,
            "cpu": round(used / mails, 5),
        }
    finally:
        storage.stop()
        stack.close()


def size_of(pubsub: Pubsub, subscription: str) -> int:
    """Bytes of a message as Pub/Sub counts them: its data, and names and values of its attributes."""
    message = pubsub.pull(subscription)[0]
    attributes = message.get("attributes", {})
    return len(message["data"]) + sum(len(key) + len(value) for key, value in attributes.items())


@contextmanager
def running(relay: Relay) -> Iterator[None]:
    relay.start()
    try:
        yield
    finally:
        relay.stop()


def measure(folder: Path, mails: int, size: int, clouds: Mapping[str, bool]) -> dict[str, Any]:
    """By cloud, then `stored` and `published`."""
    found: dict[str, Any] = {}
    servers: dict[str, tuple[Any, Callable[..., dict[str, Any]]]] = {
        "aws": (Ministack(folder / "aws"), measure_aws),
        "gcp": (Pubsub(folder / "pubsub"), measure_gcp),
    }
    for cloud, (server, measured) in servers.items():
        if not clouds.get(cloud):
            continue
        server.start()
        try:
            found[cloud] = {
                name: measured(server, folder / cloud / name, mails, size, publishes=name == "published")
                for name in ("stored", "published")
            }
        finally:
            server.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.usage")
    parser.add_argument("--mails", type=int, default=1_000)
    parser.add_argument("--size", type=int, default=5_120)
    parser.add_argument("--out", type=Path, default=FILE)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.mails, options.size, {"aws": True, "gcp": True})
    options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
