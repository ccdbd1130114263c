from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from functions.errors import ConfigError
from listener.config.relay import RelayConfig
from listener.logs.format import JsonFormat
from listener.monitoring.events import NULL
from listener.monitoring.probes import Probes
from tests.support.net import free_port
from tests.support.servers.relay import ROOT


def config(**changes: Any) -> RelayConfig:
    outputs = [{"type": "log"}, {"type": "log", "name": "second"}]
    return RelayConfig.model_validate({"flows": {"in": {"filters": [], "outputs": outputs}}, **changes})


async def get(port: int, path: str) -> httpx.Response:
    async with httpx.AsyncClient() as client:
        return await client.get(f"http://127.0.0.1:{port}{path}")


async def test_one_process_serves_itself() -> None:
    port = free_port()
    options = {"portNumber": port, "url": "/m", "defaultLabels": {"site": "a"}}
    probes = Probes(config(prometheus=options), 1)
    observer, worker_health = probes.observer(0), probes.worker_health(0)
    assert worker_health is not None
    async with probes.served():
        assert (await get(port, "/healthz")).status_code == 503
        worker_health.accepting()
        assert (await get(port, "/healthz")).status_code == 200
        for count in (0, 1, 2):
            text = (await get(port, "/m")).text
            accepted = 'smtp_relay_emails_total{site="a",flow="in",status="accepted",output=""}'
            assert f"{accepted} {count}\n" in text
            observer.mail_accepted(["in"])
        for output in ("log_0", "second"):
            assert f'smtp_relay_dead_letters_total{{site="a",flow="in",output="{output}"}} 0\n' in text
        assert "process_" not in text
        assert (await get(port, "/metrics")).status_code == 404


async def test_health_has_its_own_port_when_told() -> None:
    metrics, health = free_port(), free_port()
    probes = Probes(config(prometheus={"portNumber": metrics}, health={"portNumber": health}), 1)
    async with probes.served():
        assert (await get(health, "/readyz")).status_code == 503
        assert (await get(health, "/metrics")).status_code == 404
        assert (await get(metrics, "/readyz")).status_code == 404
        assert (await get(metrics, "/metrics")).status_code == 200


async def test_health_is_logged_when_asked(caplog: pytest.LogCaptureFixture) -> None:
    whole = config(health={"portNumber": free_port()})
    assert whole.health is not None
    often = whole.health.model_copy(update={"log_interval": 10})
    probes = Probes(whole.model_copy(update={"health": often}), 1)
    worker_health = probes.worker_health(0)
    assert worker_health is not None

    def told() -> list[dict[str, Any]]:
        lines = [json.loads(JsonFormat().format(one)) for one in caplog.records if one.message == "health"]
        return [{key: line[key] for key in ("logger", "alive", "ready", "reasons")} for line in lines]

    async def until(wanted: dict[str, Any]) -> None:
        async with asyncio.timeout(5):
            while not told() or told()[-1] != {"logger": "smtp_relay.health", **wanted}:
                await asyncio.sleep(0.01)

    with caplog.at_level("INFO", "smtp_relay.health"):
        async with probes.served():
            await until({"alive": False, "ready": False, "reasons": "starting"})
            worker_health.accepting()
            await worker_health.try_spool(works)
            await until({"alive": True, "ready": True, "reasons": None})
            worker_health.draining()
            await until({"alive": False, "ready": False, "reasons": "worker 0: draining"})
        count = len(told())
        await asyncio.sleep(0.05)
        assert len(told()) == count
        async with Probes(whole, 1).served():
            await asyncio.sleep(0.05)
        assert len(told()) == count


async def works() -> None:
    """Replaces a writable spool."""


async def test_mistakes() -> None:
    for wrong in ({"defaultLabels": {"a-b": "c"}}, {"defaultLabels": {"__a": "c"}}, {"url": "/readyz"}):
        with pytest.raises(ValidationError, match=r"prometheus\.(?:defaultLabels|url)"):
            config(prometheus={"portNumber": 1, **wrong})
    taken = {"portNumber": free_port()}
    async with Probes(config(health=taken), 1).served():
        with pytest.raises(ConfigError, match="cannot listen"):
            async with Probes(config(health=taken), 1).served():
                pass


async def test_nothing_is_served_or_counted_unless_asked() -> None:
    probes = Probes(config(), 1)
    assert probes.observer(0) is NULL
    assert probes.worker_health(0) is None
    async with probes.served():
        pass


def test_nothing_of_metrics_is_imported_unless_asked() -> None:
    program = (
        "import sys\n"
        "from listener.config.relay import RelayConfig\n"
        "from listener.monitoring.probes import Probes\n"
        "config = RelayConfig.model_validate({'flows': {}, 'health': {'portNumber': 0}})\n"
        "Probes(config, 1).observer(0)\n"
        "names = ('metrics', 'board', 'families', 'exposition', 'process_metrics')\n"
        "assert not [name for name in names if f'listener.{name}' in sys.modules]\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


FORKS = """
import asyncio, json, os, sys
from listener.config.relay import RelayConfig
from listener.logs.format import JsonFormat
from listener.monitoring.probes import Probes

probes = Probes(RelayConfig.model_validate(json.loads(sys.argv[1])), 2)
for worker in (0, 1):
    if os.fork() == 0:
        observer, beat = probes.observer(worker), probes.worker_health(worker)
        for _ in range(10 + worker):
            observer.mail_accepted(["in"])
        beat.accepting()
        os._exit(0)
    assert os.wait()[1] == 0

async def serve():
    async with probes.served():
        print("serving", flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""


def test_a_process_beside_the_workers_serves_their_figures() -> None:
    port = free_port()
    options = {"portNumber": port, "nodeMetrics": True}
    text = json.dumps({"flows": {"in": {"filters": []}}, "prometheus": options})
    server = subprocess.Popen([sys.executable, "-c", FORKS, text], cwd=ROOT, stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == b"serving\n"
        accepted = 'smtp_relay_emails_total{flow="in",status="accepted",output=""} 21\n'
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            for _ in range(2):
                assert accepted in client.get("/metrics").text
                assert client.get("/healthz").text == "ok\n"
    finally:
        server.kill()
        server.communicate()
