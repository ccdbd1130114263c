"""One local AWS for all tests of this folder, which run in one process (`xdist_group`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.clouds.aws_stack import Stack
from tests.support.clouds.ministack import Ministack
from tests.support.earlier import THIS, Version
from tests.support.servers.relay import Relay


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        # Deployments mostly wait: they have groups of their own, and with them an AWS of their own.
        if here in item.path.parents and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group("aws"))


@pytest.fixture(scope="session")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ministack]:
    """The server; ended with all processes that it started."""
    server = Ministack(tmp_path_factory.mktemp("aws"))
    try:
        yield server.start()
    finally:
        server.stop()


@pytest.fixture
def stack_for(aws: Ministack, tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Deploys the delivery half for flows: `{name: [outputs]}`."""
    made: list[Stack] = []

    def deploy(
        flows: Mapping[str, Any], *, settings: Mapping[str, Any] | None = None, **options: Any
    ) -> Stack:
        config = {
            "flows": {name: {"outputs": outputs} for name, outputs in flows.items()},
            **(settings or {}),
        }
        made.append(Stack(aws, tmp_path, config, **options))
        return made[-1]

    yield deploy
    for each in made:
        each.close()


@pytest.fixture
def listener_for(aws: Ministack, new_relay: Callable[..., Relay]) -> Callable[..., Relay]:
    """Starts the listener that spools into a stack's bucket; its flows take mail from loopback."""

    def start(stack: Stack, *, version: Version = THIS, **options: Any) -> Relay:
        flows = {
            name: {"filters": [{"type": "whitelist", "ips": ["127.0.0.1"]}], **flow}
            for name, flow in stack.raw["flows"].items()
        }
        relay = new_relay({**stack.raw, "flows": flows}, env=aws.environment, **options)
        relay.code = version.root
        return relay.start()

    return start
