"""The listener's spool on S3: as it is, through obstore alone, and through boto3 in a pool of threads.

    python -m bench.s3spool [--mails 3000] [--sessions 20] [--size 5120]
    python -m bench.s3spool --memory [--senders 40]

All run in the same listener against the same `rclone serve s3`, in memory; smtp-source sends. With
`--memory` many senders bring 20 MB each, and the listener's peak is compared with its limit for
bytes in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import process
from tests.support.net import HOST, answers, free_port, wait_until

BUCKET = "mail"
KINDS = ("server", "obstore", "boto3")
ENVIRON = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret", "AWS_REGION": "us-east-1"}
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", str(Path(sys.executable).parent)])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.s3spool")
    parser.add_argument("--mails", type=int, default=3_000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--size", type=int, default=5_120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--senders", type=int, default=40)
    parser.add_argument("--budget", type=int, default=67_108_864)
    parser.add_argument("--serve", nargs=2, metavar=("KIND", "CONFIG"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            with store(Path(folder)) as url:
                memory(Path(folder), url, options)
        else:
            throughput(Path(folder), options)


def throughput(folder: Path, options: argparse.Namespace) -> None:
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(options.rounds):
        for kind in KINDS:
            # Each begins with an empty store, because this store gets slower as it fills.
            with (
                store(folder) as url,
                listener(folder / f"{kind}-{number}", url, kind, options.budget) as (pid, port),
            ):
                send(port, min(200, options.mails), options.sessions, options.size)
                cpu, begun = process.cpu_seconds(pid), time.perf_counter()
                send(port, options.mails, options.sessions, options.size)
                seconds = time.perf_counter() - begun
                cpu = process.cpu_seconds(pid) - cpu
            found[kind].append(1000 * cpu / options.mails)
            print(
                f"{kind:8} {options.mails / seconds:7.0f} mails/s   {found[kind][-1]:6.3f} s CPU per 1,000",
                flush=True,
            )
    for kind in KINDS[1:]:
        ratios = [own / other for own, other in zip(found["server"], found[kind], strict=True)]
        rounds = ", ".join(f"{ratio:.2f}" for ratio in ratios)
        print(f"CPU against {kind}: {statistics.median(ratios):.2f} (by round: {rounds})")


def memory(folder: Path, url: str, options: argparse.Namespace) -> None:
    with listener(folder / "memory", url, "server", options.budget) as (pid, port):
        send(port, 100, 10, 5_120)
        base = process.resident(pid)
        process.reset_peak(pid)
        send(port, options.senders * 2, options.senders, 20_000_000)
        peak = process.peak_resident(pid)
    held = (peak - base) / options.budget
    print(f"base {base >> 20} MiB, most {peak >> 20} MiB: {held:.2f} times the budget above the base")


def send(port: int, mails: int, sessions: int, size: int) -> None:
    subprocess.run(
        [
            *("smtp-source", "-d", "-m", str(mails), "-s", str(sessions), "-l", str(size)),
            *("-f", "a@example.com", "-t", "b@example.com", f"inet:{HOST}:{port}"),
        ],
        env={**os.environ, "PATH": _PATH},
        check=True,
    )


@contextmanager
def store(folder: Path) -> Iterator[str]:
    """A fast S3 in memory with an empty bucket; its URL."""
    port = free_port()
    program = shutil.which("rclone", path=_PATH)
    assert program is not None, "rclone is not installed (the extra dev has it)"
    served = subprocess.Popen(
        [
            *(program, "serve", "s3", "--addr", f"{HOST}:{port}", "--vfs-cache-mode", "off"),
            *("--auth-key", "bench,bench-secret", ":memory:"),
        ],
        env={**os.environ, "HOME": str(folder), "GOGC": "400"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(port), seconds=20, what="rclone")
        url = f"http://{HOST}:{port}"
        client(url).create_bucket(Bucket=BUCKET)
        yield url
    finally:
        os.killpg(served.pid, signal.SIGKILL)
        served.wait()


@contextmanager
def listener(folder: Path, url: str, kind: str, budget: int) -> Iterator[tuple[int, int]]:
    """A listener that spools to the store; its process and port."""
    folder.mkdir()
    port = free_port()
    config = {
        "port": port,
        "bind": HOST,
        "spool": {"url": f"s3://{BUCKET}/relay", "endpoint": url, "bytesInFlight": budget},
        "flows": {"all": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [{"type": "log"}]}},
        "options": {"authOptional": True, "disableReverseLookup": True},
    }
    (folder / "relay.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        started = subprocess.Popen(
            [sys.executable, "-m", "bench.s3spool", "--serve", kind, str(folder / "relay.json")],
            cwd=folder,
            env={**os.environ, **ENVIRON, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: started.poll() is not None or answers(port), seconds=30, what="the listener")
        assert started.poll() is None, (folder / "log").read_text()
        yield started.pid, port
    finally:
        started.terminate()
        started.wait(30)


def client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench-secret",
        config=Config(s3={"addressing_style": "path"}, max_pool_connections=64),
    )


def serve(kind: str, config: str) -> None:
    """The listener, as it is, without its short way, or with boto3 in place of obstore."""
    from listener.cli import main as cli
    from listener.intake import object_store
    from listener.logs import setup as observe

    observe.configure = lambda *args, **options: None  # type: ignore[assignment]  # a log line costs both the same
    if kind != "server":
        object_store.open_uploads = lambda options, environ, resolve: None
    if kind == "boto3":
        use_boto3()
    sys.exit(cli.main(["serve", config]))


def use_boto3() -> None:
    from listener.intake import bucket_spool, object_store

    pool = ThreadPoolExecutor(32)

    async def put(self: Any, key: str, body: bytes | bytearray) -> None:
        await asyncio.get_running_loop().run_in_executor(
            pool,
            lambda: self._store.put_object(
                Bucket=BUCKET, Key=key, Body=bytes(body), ContentType="message/rfc822", IfNoneMatch="*"
            ),
        )

    object_store.open_object_store = lambda options, environ, resolve: client(options.endpoint)  # type: ignore[assignment]
    bucket_spool.BucketSpool._put = put  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
