"""What a million mails cost on both clouds, from measured use and list prices.

    python -m bench.cost [--detail] [--check | --write]

`bench/usage.json` (`python -m bench.usage`) has the bytes of logs, the requests and the CPU seconds of one
mail, `bench/prices.py` the prices. The rest is here: the sizes that the operators' pages recommend, and what
the providers count besides. Without an option it prints the table of docs/limits.md, with `--detail` all
terms; `--write` puts the table there, `--check` exits 1 if another one is there.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.prices import price

ROOT: Final = Path(__file__).resolve().parents[1]
USAGE: Final = ROOT / "bench" / "usage.json"
PAGE: Final = ROOT / "docs" / "limits.md"

HOURS: Final = 730
DAYS: Final = 30
MAIL: Final = 20_000
"""Bytes of a mail: they count for the balancers only."""

SECONDS: Final = {"s3": 0.025, "dynamodb": 0.006, "sqs": 0.012, "gcs": 0.045, "pubsub": 0.025}
"""Assumed time of one call of the function inside a region; the stand-ins' own times say nothing."""


@dataclass(frozen=True, slots=True)
class Scale:
    """Mails a day, and the sizes for them on the operators' pages: number, vCPU and GB of tasks, number and
    type of machines."""

    mails: int
    tasks: tuple[int, float, float]
    machines: tuple[int, str]

    @property
    def month(self) -> float:
        """Millions of mails in a month."""
        return self.mails * DAYS / 1e6

    @property
    def rate(self) -> float:
        """Mails a second."""
        return self.mails / 86_400


SCALES: Final = (
    Scale(10**6, (2, 0.25, 0.5), (2, "e2-small")),
    Scale(10**7, (2, 1, 2), (2, "e2-standard-2")),
    Scale(10**8, (6, 2, 4), (4, "e2-standard-4")),
)

MONTHLY: Final = Scale(33_333, SCALES[0].tasks, SCALES[0].machines)
"""A million a month, with the defaults."""

# Lambda writes these around each invocation (log format Text); CloudWatch counts 26 bytes more of each entry.
_REQUEST: Final = "8f507cfc-xmpl-4697-b07a-ac58fc914c95"
PLATFORM: Final = (
    f"START RequestId: {_REQUEST} Version: $LATEST\n",
    f"END RequestId: {_REQUEST}\n",
    f"REPORT RequestId: {_REQUEST}\tDuration: 102.25 ms\tBilled Duration: 103 ms\tMemory Size: 1024 MB\t"
    "Max Memory Used: 140 MB\t\n",
)
ENTRY: Final = 26

_RESOURCE: Final = {
    "type": "cloud_run_revision",
    "labels": {
        "project_id": "my-project",
        "service_name": "smtp-relay-delivery",
        "revision_name": "smtp-relay-delivery-00001-abc",
        "location": "us-central1",
        "configuration_name": "smtp-relay-delivery",
    },
}
_AROUND: Final = {
    "insertId": "67a0b1c2000d3e4f5a6b7c8d",
    "resource": _RESOURCE,
    "timestamp": "2026-11-30T10:00:00.123456Z",
    "severity": "INFO",
    "labels": {"goog-managed-by": "cloudfunctions", "instanceId": "0" * 160},
    "logName": "projects/my-project/logs/run.googleapis.com%2Fstdout",
    "receiveTimestamp": "2026-11-30T10:00:00.456789012Z",
}
LOG_ENTRY: Final = len(json.dumps(_AROUND))
"""Bytes of a LogEntry beside its payload: resource, labels, times and name. Machines' entries are alike."""

_HTTP: Final = {
    "requestMethod": "POST",
    "requestUrl": "https://smtp-relay-delivery-abcdefghij-uc.a.run.app/",
    "requestSize": "2900",
    "status": 204,
    "responseSize": "300",
    "userAgent": "CloudPubSub-Google",
    "remoteIp": "64.233.172.1",
    "serverIp": "216.239.36.53",
    "latency": "0.150s",
    "protocol": "HTTP/1.1",
}
REQUEST_ENTRY: Final = LOG_ENTRY + len(json.dumps(_HTTP)) + 200
"""Bytes of the entry that Cloud Run itself writes of each request, with trace and span."""

THREADS: Final = 8
BUSY: Final = 0.6
"""The share of an instance's threads, and of its CPU, at which Cloud Run adds another."""

NOTIFICATION: Final = 2_000
"""Bytes of a notification with Cloud Storage's full resource; the stand-in's is shorter. Pub/Sub counts
1,000 at least."""

Terms = dict[str, float]
"""Dollars a million mails, by what they are paid for."""


def aws(usage: Mapping[str, Any], scale: Scale) -> Terms:
    """A million mails on AWS; each in an invocation of its own, which is the most they can cost."""
    requests: Mapping[str, float] = usage["requests"]
    calls = {service: _of(requests, f"{service}:") for service in ("s3", "dynamodb", "sqs")}
    calls["s3"] -= 1  # the listener's
    # Lambda gives 1,024 MB of memory 0.58 of a vCPU (1,769 MB have one).
    seconds = usage["cpu"] / 0.58 + sum(SECONDS[service] * count for service, count in calls.items())
    terms = {
        "S3": 1e6 * sum(price(name, _counted(requests, name)) for name in requests if name.startswith("s3:")),
        # S3 sends, the pollers receive and delete; then the outputs' own.
        "SQS": 1e6 * price("sqs", 3 + calls["sqs"]),
        "DynamoDB": 1e6
        * sum(
            price("dynamodb read" if name.endswith("GetItem") else "dynamodb write", count)
            for name, count in requests.items()
            if name.startswith("dynamodb:")
        ),
        "Lambda": 1e6 * (price("lambda request") + price("lambda GB second", seconds)),
        "logs": 1e6 * price("cloudwatch log byte", aws_log_bytes(usage)),
    }
    return terms | {name: month / scale.month for name, month in aws_fixed(scale).items()}


def aws_fixed(scale: Scale) -> Terms:
    """Dollars a month, however many mails there are; the balancer also counts their bytes."""
    number, cpu, memory = scale.tasks
    units = max(scale.rate / 800, MAIL * scale.rate * 3_600 / 1e9)
    return {
        "listeners": HOURS * number * (price("fargate vCPU hour", cpu) + price("fargate GB hour", memory)),
        "balancer": HOURS * (price("nlb hour") + price("nlb unit hour", units)),
        "addresses": HOURS * price("ipv4 hour", number + 2),
        "alarms and metrics": price("cloudwatch alarm month", 16) + price("cloudwatch metric month", 10),
        # Five pollers wait 20 s each; the sweep lists twice every five minutes.
        "polls and sweeps": price("sqs", 5 * 3 * 60 * HOURS) + price("s3:LIST", 2 * 12 * HOURS),
    }


def gcp(usage: Mapping[str, Any], scale: Scale) -> Terms:
    """A million mails on Google Cloud."""
    requests: Mapping[str, float] = usage["requests"]
    publishes = 1 if usage["event"] else 0
    own = _of(requests, "gcs:") - 1  # without the listener's
    seconds = usage["cpu"] + SECONDS["gcs"] * own + SECONDS["pubsub"] * publishes
    # Requests at the same time share an instance; alone, each is billed in steps of 0.1 s.
    shared = min(BUSY * THREADS, max(1.0, scale.rate * seconds))
    billed = max(math.ceil(seconds * 10) / 10 / shared, usage["cpu"] / BUSY)
    terms = {
        "Cloud Storage": 1e6 * sum(price(name, _counted(requests, name)) for name in requests),
        "Pub/Sub": 1e6 * price("pubsub byte", 2 * (NOTIFICATION + usage["event"])),
        "function": 1e6
        * (price("run request") + billed * (price("run vCPU second") + price("run GiB second"))),
        "logs": 1e6 * price("logging byte", gcp_log_bytes(usage)),
    }
    return terms | {name: month / scale.month for name, month in gcp_fixed(scale).items()}


def gcp_fixed(scale: Scale) -> Terms:
    """Dollars a month, however many mails there are; the balancer also counts their bytes."""
    number, machine = scale.machines
    return {
        "listeners": number * (HOURS * price(f"{machine} hour") + price("disk GB month", 10)),
        "balancer": HOURS * price("rule hour") + price("balanced byte", MAIL * scale.mails * DAYS),
        "address": HOURS * price("address hour"),
        "alerts": price("alert month", 13),
        "sweeps": price("gcs:A", 2 * 12 * HOURS),
    }


def aws_log_bytes(usage: Mapping[str, Any]) -> float:
    """Of both halves, with Lambda's own lines."""
    entries = usage["listener"]["entries"] + usage["function"]["entries"] + len(PLATFORM)
    own: float = usage["listener"]["bytes"] + usage["function"]["bytes"]
    return own + sum(map(len, PLATFORM)) + ENTRY * entries


def gcp_log_bytes(usage: Mapping[str, Any]) -> float:
    """Of both halves as entries, with the one that Cloud Run writes of each request."""
    entries = usage["listener"]["entries"] + usage["function"]["entries"]
    own: float = usage["listener"]["bytes"] + usage["function"]["bytes"]
    return own + LOG_ENTRY * entries + REQUEST_ENTRY


def _of(requests: Mapping[str, float], prefix: str) -> float:
    return sum(_counted(requests, name) for name in requests if name.startswith(prefix))


def _counted(requests: Mapping[str, float], name: str) -> float:
    """Whole requests: the probes of a listener that measures are not those of a mail."""
    return float(round(requests[name]))


def usage() -> dict[str, Any]:
    """The measured use, by cloud and configuration."""
    found: dict[str, Any] = json.loads(USAGE.read_text(encoding="utf-8"))
    return found


def total(cloud: str, kind: str, scale: Scale, used: Mapping[str, Any]) -> float:
    """Dollars a million mails."""
    terms = (aws if cloud == "aws" else gcp)(used[cloud][kind], scale)
    return sum(terms.values())


def table(used: Mapping[str, Any]) -> str:
    """The page's table, in Markdown."""
    rows = [
        "mails a day | AWS | with events | a month | Google Cloud | with events | a month",
        "---|---|---|---|---|---|---",
    ]
    for scale in SCALES:
        cells = [f"10{'⁶⁷⁸'[int(math.log10(scale.mails)) - 6]}"]
        for cloud in ("aws", "gcp"):
            stored, published = (total(cloud, kind, scale, used) for kind in ("stored", "published"))
            cells += [f"{stored:.1f}", f"{published:.1f}", f"{rounded(stored * scale.month):,}"]
        rows.append(" | ".join(cells))
    return "\n".join([*rows, ""])


def rounded(dollars: float) -> int:
    """To two digits."""
    return int(round(dollars, 1 - int(math.log10(dollars))))


def facts(used: Mapping[str, Any]) -> Iterator[str]:
    """The terms of every sum, for a reader who checks them."""
    for cloud, module in (("aws", aws), ("gcp", gcp)):
        for kind in ("stored", "published"):
            measured = used[cloud][kind]
            logged = (aws_log_bytes if cloud == "aws" else gcp_log_bytes)(measured)
            yield f"\n{cloud}, {kind}: {measured['requests']}"
            yield f"  {logged:.0f} bytes of logs, {measured['cpu']} s of CPU"
            for scale in (MONTHLY, *SCALES):
                terms = module(measured, scale)
                said = ", ".join(f"{name} {dollars:.2f}" for name, dollars in terms.items())
                yield f"  {scale.mails:>11,} a day: {sum(terms.values()):6.2f} = {said}"


_MADE: Final = re.compile(r"(?<=<!-- cost: begin -->\n).*?(?=<!-- cost: end -->)", re.DOTALL)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.cost")
    parser.add_argument("--detail", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    made = table(usage())
    page = PAGE.read_text(encoding="utf-8")
    if options.write:
        PAGE.write_text(_MADE.sub(lambda _: made, page), encoding="utf-8")
    elif options.check:
        if _MADE.findall(page) != [made]:
            print(f"{PAGE.relative_to(ROOT)}: run python -m bench.cost --write", file=sys.stderr)
            return 1
    else:
        print(made, *(facts(usage()) if options.detail else ()), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
