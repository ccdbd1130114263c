"""One Pub/Sub emulator for all tests of this folder, which run in one process (`xdist_group`); each
stack has its own Cloud Storage and its own function."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.clouds.gcp import Pubsub
from tests.support.clouds.gcp_stack import Stack
from tests.support.clouds.gcs_xml import XmlFront
from tests.support.servers.relay import ROOT, Relay


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    inside = f"{Path(__file__).parent}/"
    for item in items:
        if str(item.path).startswith(inside):
            item.add_marker(pytest.mark.xdist_group("gcp"))


@pytest.fixture(scope="session")
def pubsub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pubsub]:
    """The emulator; its tests are skipped where its jar is missing."""
    server = Pubsub(tmp_path_factory.mktemp("pubsub"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def stack_for(pubsub: Pubsub, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Deploys the delivery half for flows: `{name: [outputs]}`."""
    made: list[Stack] = []

    def deploy(
        flows: Mapping[str, Any], *, settings: Mapping[str, Any] | None = None, **options: Any
    ) -> Stack:
        config = {
            "flows": {name: {"outputs": outputs} for name, outputs in flows.items()},
            **(settings or {}),
        }
        made.append(Stack(pubsub, tmp_path / f"stack-{len(made)}", config, **options))
        return made[-1]

    yield deploy
    for each in made:
        each.close()


@pytest.fixture
def listener_for(new_relay: Callable[..., Relay]) -> Iterator[Callable[..., Relay]]:
    """Starts the listener that spools into a stack's bucket; its flows take mail from loopback."""
    fronts: list[XmlFront] = []

    def start(stack: Stack, *, code: Path = ROOT, **options: Any) -> Relay:
        fronts.append(XmlFront(stack.gcs.url).start())
        flows = {
            name: {"filters": [{"type": "whitelist", "ips": ["127.0.0.1"]}], **flow}
            for name, flow in stack.raw["flows"].items()
        }
        config = {**stack.raw, "flows": flows, "spool": {"url": stack.spool, "endpoint": fronts[-1].url}}
        relay = new_relay(config, env=stack.environment, **options)
        relay.code = code
        return relay.start()

    yield start
    for each in fronts:
        each.stop()
