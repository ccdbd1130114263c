"""Relays shared by tests: starting one costs most of a second, so each configuration gets one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.support.servers.relay import Relay


class Pool:
    """Running relays by configuration, until `close`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._relays: dict[str, Relay] = {}

    def get(self, config: Mapping[str, Any] | None, options: Mapping[str, Any]) -> Relay:
        """The relay of this configuration, started when it is new or did not survive."""
        key = json.dumps([config, options], sort_keys=True)
        relay = self._relays.get(key)
        if relay is None or not relay.alive:
            relay = Relay(self._folder / f"relay-{len(self._relays)}-{id(key):x}", config, **options).start()
            self._relays[key] = relay
        relay.forget()
        return relay

    def close(self) -> None:
        """Stop them all."""
        for relay in self._relays.values():
            if relay.alive:
                relay.kill()
        self._relays.clear()
