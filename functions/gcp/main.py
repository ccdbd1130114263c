"""The Cloud Run function: `handle`, an HTTP function of functions-framework.

It accepts the pushes of the subscription to the bucket's notifications, and `{"sweep": true}`. Its
configuration is `relay.json` beside the code, where the bundle puts it, or SMTP_RELAY_CONFIG_JSON.
SMTP_RELAY_SPOOL and SMTP_RELAY_TOPIC name the deployed resources.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import Any, Final

import functions_framework

from functions.config import DeliveryConfig, load_delivery
from functions.errors import ConfigError
from functions.gcp import cloud_log
from functions.gcp.function import CloudRunFunction
from functions.processors.base import OutputOptions
from functions.processors.registry import OUTPUTS

CONFIG: Final = "relay.json"

log: Final = logging.getLogger("smtp_relay.function")

_lock = threading.Lock()
_function: CloudRunFunction | None = None


def load() -> DeliveryConfig:
    """The configuration. This also imports the modules of its outputs, because a start has more CPU
    than later requests. Raises ConfigError."""
    config = load_delivery(Path(__file__).resolve().parents[2] / CONFIG, os.environ)
    import google.cloud.storage  # noqa: F401

    for flow in config.flows.values():
        for output in flow.outputs:
            _warm(output)
    return config


def _warm(output: OutputOptions) -> None:
    try:
        OUTPUTS.builder(output.type)
    except ConfigError as error:
        # It delays no other output: its own mails will report the error.
        log.error("an output cannot be built", extra={"reason": str(error)})
    if output.publishes:
        import google.pubsub_v1.services.publisher  # noqa: F401


def start() -> CloudRunFunction:
    """The function's parts, made at the first request: the process that imported this module may be the
    parent of the one that serves, and clients do not survive a fork. Raises ConfigError."""
    global _function  # noqa: PLW0603 - one per process
    with _lock:
        if _function is None:
            _function = CloudRunFunction(_config, os.environ)
        return _function


@functions_framework.http
def handle(request: Any) -> tuple[Any, int]:
    """One request. 2xx acknowledges a push, 503 makes it come again. A fault of this function is a 500,
    and ends in the subscription's dead-letter topic."""
    cloud_log.trace.set(cloud_log.trace_of(request.headers.get("X-Cloud-Trace-Context")))
    if request.method != "POST":
        return "POST a push of Pub/Sub here\n", 405
    try:
        status, body = start().handle(request.get_json(force=True, silent=True))
    except Exception:
        log.exception("unexpected fault")
        return "", 500
    return ("" if body is None else body), status


cloud_log.set_up()
_config: Final = load()
