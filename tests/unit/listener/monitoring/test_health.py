from __future__ import annotations

import asyncio
import contextlib
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.intake.spool import LocalSpool
from listener.monitoring import heartbeat
from listener.monitoring import http as probe_server
from listener.monitoring.board import SharedMetrics
from listener.monitoring.exposition import Exposition
from listener.monitoring.health import HealthAt, MetricsAt, probe_servers
from listener.monitoring.heartbeat import Health, HealthTable
from listener.monitoring.http import BadRequest, HttpResponse, ProbeServer, parse_head, skip_proxy
from listener.monitoring.metrics import Metrics
from tests.support.servers.relay import ROOT

V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 9090\r\n"
V2_ADDRESSES = bytes([192, 0, 2, 1, 192, 0, 2, 2]) + struct.pack("!HH", 40000, 9090)
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11"
    + struct.pack("!H", len(V2_ADDRESSES) + 5)
    + V2_ADDRESSES
    + b"\x04\0\2ab"
)
V2_LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"


async def works() -> None:
    pass


async def fails() -> None:
    raise ConnectionError("no such bucket")


class Clock:
    """Replaces time.monotonic in the parent's judgement."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(heartbeat.time, "monotonic", lambda: self.now)


async def test_a_server_starts_accepts_and_drains() -> None:
    beats = HealthTable()
    assert beats.status() == Health(False, False, ("starting",))
    worker_health = beats.worker_health(0)
    worker_health.accepting()
    assert beats.status() == Health(True, False, ("worker 0: the spool was not tested yet",))
    await worker_health.try_spool(works)
    assert beats.status() == Health(True, True, ())
    worker_health.draining()
    assert beats.status() == Health(False, False, ("worker 0: draining",))


async def test_a_failing_spool_is_not_ready_but_alive() -> None:
    beats = HealthTable()
    worker_health = beats.worker_health(0)
    worker_health.accepting()
    await worker_health.try_spool(fails)
    assert beats.status() == Health(True, False, ("worker 0: the spool cannot be written",))
    await worker_health.try_spool(works)
    assert beats.status().ready


async def test_a_spool_that_hangs_is_failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SPOOL_TIMEOUT", 0.01)
    beats = HealthTable()
    worker_health = beats.worker_health(0)
    worker_health.accepting()
    await worker_health.try_spool(asyncio.Event().wait)
    assert not beats.status().ready
    assert beats.status().alive


async def test_a_worker_that_hangs_is_seen_and_one_that_restarts_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = Clock(monkeypatch)
    beats = HealthTable(2)
    pens = [beats.worker_health(0), beats.worker_health(1)]
    for pen in pens:
        pen.accepting()
        await pen.try_spool(works)
    clock.now += 14
    pens[0].pulse()
    assert beats.status() == Health(True, True, ())
    clock.now += 2
    assert beats.status().reasons == ("worker 1: no sign of life for 16 s",)
    assert not beats.status().alive
    beats.expect(1)
    assert beats.status() == Health(True, True, ()), "another one accepts"
    clock.now += 14
    pens[0].pulse()
    clock.now += 2
    assert not beats.status().alive, "it did not start"


async def test_a_worker_that_is_replaced_alone_is_no_alarm() -> None:
    beats = HealthTable(2)
    pens = [beats.worker_health(0), beats.worker_health(1)]
    for pen in pens:
        pen.accepting()
        await pen.try_spool(works)
    pens[0].draining()
    assert beats.status() == Health(True, True, ()), "the other one accepts"
    beats.expect(0)
    pens[1].draining()
    assert beats.status().reasons == ("worker 1: draining",), "nobody accepts"
    pens[0].accepting()
    assert beats.status().alive
    pens[0].draining()
    assert beats.status().reasons[:2] == ("worker 0: draining", "worker 1: draining"), "all of it drains"
    assert not beats.status().alive


async def test_the_task_beats_and_tries_the_spool() -> None:
    beats = HealthTable()
    beats.worker_health(0).accepting()
    tries = asyncio.Event()

    async def probe() -> None:
        tries.set()

    task = asyncio.create_task(beats.worker_health(0).run(probe, interval=0.001))
    async with asyncio.timeout(5):
        await tries.wait()
        while not beats.status().ready:
            await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_spool_is_tried_when_something_happened_to_it() -> None:
    """A failed sync is red at once, not only at the next test."""
    beats = HealthTable()
    worker_health = beats.worker_health(0)
    worker_health.accepting()
    broken = False

    async def probe() -> None:
        if broken:
            raise OSError("it cannot be synced")

    task = asyncio.create_task(worker_health.run(probe))
    async with asyncio.timeout(5):
        for broken in (False, True, False):
            worker_health.ask()
            while beats.status().ready is broken:
                await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_part_that_is_only_delivered_counts_too(tmp_path: Path) -> None:
    """The part of a server with more workers: its mails were answered 250, like all others."""

    class Part:
        healthy = True

    own, other = Part(), Part()
    spool = LocalSpool(own, tmp_path, tmp_path, 0, [own, other])  # type: ignore[arg-type, list-item]
    await spool.probe()
    other.healthy = False
    with pytest.raises(OSError, match="failed"):
        await spool.probe()


FORK = """
import os
from listener.monitoring.heartbeat import HealthTable
beats = HealthTable(2)
child = os.fork()
if child == 0:
    beats.worker_health(1).accepting()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(beats.status().alive)
"""


def test_the_parent_sees_the_heartbeat_of_a_forked_worker() -> None:
    # in a process of its own, because the test runner's has threads
    run = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, check=True)
    assert run.stdout == b"True\n"


@pytest.fixture
async def server() -> AsyncIterator[ProbeServer]:
    beats = HealthTable()
    beats.worker_health(0).accepting()
    await beats.worker_health(0).try_spool(works)
    shared_metrics = SharedMetrics()
    Metrics(shared_metrics).bytes_received(42)
    servers = probe_servers(HealthAt("127.0.0.1", 0, beats.status), None)
    assert len(servers) == 1
    server = servers[0]
    server._routes["/metrics"] = lambda: HttpResponse(HTTPStatus.OK, Exposition(shared_metrics).render())
    server._routes["/broken"] = lambda: 1 / 0  # type: ignore[return-value,assignment]
    await server.start()
    yield server
    await server.stop()


async def drop(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def say(server: ProbeServer, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server.address)
    try:
        async with asyncio.timeout(5):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            return await reader.read()
    finally:
        await drop(writer)


async def read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionResetError:
        return b""


REQUEST = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("prefix", [b"", V1, b"PROXY UNKNOWN\r\n", V2, V2_LOCAL], ids=repr)
async def test_a_proxy_header_is_tolerated(server: ProbeServer, prefix: bytes) -> None:
    for pieces in ([prefix + REQUEST], [bytes([octet]) for octet in prefix + REQUEST]):
        answer = await say(server, *pieces)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\nok\n")


async def test_a_real_client_reads_all_routes_again_and_again(server: ProbeServer) -> None:
    host, port = server.address
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        for _ in range(3):
            assert (await client.get("/healthz")).text == "ok\n"
            assert (await client.get("/readyz?verbose=1")).text == "ok\n"
            scrape = await client.get("/metrics")
            assert "smtp_relay_received_bytes_total 42\n" in scrape.text
            head = await client.head("/metrics")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == str(len(scrape.content))
        assert (await client.get("/other")).status_code == 404
        post = await client.post("/healthz", content=b"x" * 100)
        assert (post.status_code, post.headers["allow"]) == (405, "GET, HEAD")


async def test_a_route_that_breaks_tells_nothing(
    server: ProbeServer, caplog: pytest.LogCaptureFixture
) -> None:
    answer = await say(server, b"GET /broken HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 500 ")
    assert b"ZeroDivision" not in answer
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    "octets",
    [
        b"GET /healthz\r\n\r\n",
        b"GET /healthz SMTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\n\r\n",
        V1 + V1 + b"\r\n",
        b"PROXY " + b"x" * 200,
        V2[:14] + b"\xff\xff" + b"x" * 100,
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000,
    ],
    ids=lambda octets: repr(octets[:30]),
)
async def test_what_is_no_request_is_refused(server: ProbeServer, octets: bytes) -> None:
    assert (await say(server, octets)).startswith((b"HTTP/1.1 400 ", b""))
    assert (await say(server, REQUEST)).endswith(b"ok\n"), "still serving"


async def test_slow_clients_are_dropped_and_too_many_turned_away(
    server: ProbeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe_server, "TIMEOUT", 0.2)
    monkeypatch.setattr(probe_server, "MAX_CLIENTS", 3)
    start = time.monotonic()
    idle = [await asyncio.open_connection(*server.address) for _ in range(3)]
    for _, writer in idle:
        writer.write(b"GET /hea")
    async with asyncio.timeout(5):
        while len(server._clients) < 3:
            await asyncio.sleep(0)
        reader, writer = await asyncio.open_connection(*server.address)
        assert await read_all(reader) == b""
        await drop(writer)
        for reader, writer in idle:
            assert await read_all(reader) == b""
            await drop(writer)
    assert time.monotonic() - start < 4
    assert (await say(server, REQUEST)).endswith(b"ok\n")


async def test_a_client_that_leaves_at_once_is_no_trouble(server: ProbeServer) -> None:
    for prefix in (b"", V1, V2_LOCAL, b"GET"):
        _, writer = await asyncio.open_connection(*server.address)
        writer.write(prefix)
        writer.close()
        await writer.wait_closed()
    assert (await say(server, REQUEST)).endswith(b"ok\n")


async def test_draining_is_503_and_says_so() -> None:
    beats = HealthTable()
    beats.worker_health(0).draining()
    (server,) = probe_servers(HealthAt("127.0.0.1", 0, beats.status), None)
    await server.start()
    answer = await say(server, REQUEST)
    assert answer.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
    assert answer.endswith(b"\r\n\r\nworker 0: draining\n")
    await server.stop()


def test_health_and_metrics_share_a_port_only_when_told_the_same() -> None:
    exposition = Exposition(SharedMetrics())
    status = HealthTable().status

    def plan(health: tuple[str, int] | None, metrics: tuple[str, int] | None) -> list[set[str]]:
        servers = probe_servers(
            HealthAt(*health, status) if health else None,
            MetricsAt(*metrics, "/m", exposition) if metrics else None,
        )
        return [set(server._routes) for server in servers]

    probes = {"/healthz", "/readyz"}
    assert plan(("h", 1), ("h", 1)) == [probes | {"/m"}]
    assert plan(("h", 1), ("h", 2)) == [probes, {"/m"}]
    assert plan(("h", 1), ("i", 1)) == [probes, {"/m"}]
    assert plan(("h", 0), ("h", 0)) == [probes, {"/m"}]
    assert plan(("h", 1), None) == [probes]
    assert plan(None, ("h", 1)) == [{"/m"}]
    assert plan(None, None) == []


@given(
    st.one_of(
        st.binary(max_size=300),
        st.sampled_from([V1, V2, V2_LOCAL]).flatmap(
            lambda p: st.binary(max_size=50).map(lambda tail: p + tail)
        ),
    )
)
def test_skipping_agrees_at_every_boundary(octets: bytes) -> None:
    def skip(buffer: bytes) -> int | str | None:
        try:
            return skip_proxy(buffer)
        except BadRequest:
            return "bad"

    settled: int | str | None = None
    for end in range(len(octets) + 1):
        now = skip(octets[:end])
        if settled is None:
            settled = now
        else:
            assert now == settled


@given(st.binary(max_size=200))
def test_parsing_a_head_only_ever_raises_bad_request(head: bytes) -> None:
    try:
        method, path = parse_head(head)
    except BadRequest:
        return
    assert isinstance(method, str)
    assert isinstance(path, str)
