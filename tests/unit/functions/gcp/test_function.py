"""The function's answers, and the sweep's numbers, on a real bucket."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from functions.bucket.store import Times
from functions.config import DeliveryConfig
from functions.gcp.function import CloudRunFunction
from tests.support.clouds.gcp import FakeGcs
from tests.support.mails.spooled import MAIL, envelope_of, spool_object
from tests.support.net import HOST, free_port

Make = Callable[..., CloudRunFunction]


@pytest.fixture
def environ(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    found = {
        "STORAGE_EMULATOR_HOST": gcs.url,
        "PUBSUB_EMULATOR_HOST": f"{HOST}:{free_port()}",
        "SMTP_RELAY_TOPIC": "projects/p/topics/t",
        "SMTP_RELAY_TIMEOUT": "300",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def make(environ: dict[str, str]) -> Iterator[Make]:
    made: list[CloudRunFunction] = []

    def build(*outputs: Any, **more: str) -> CloudRunFunction:
        value = {"spool": "gs://bucket/relay", "flows": {"in": {"outputs": outputs}}}
        made.append(CloudRunFunction(DeliveryConfig.model_validate(value), environ | more))
        return made[-1]

    yield build
    for each in made:
        each.delivery.close()


def put(gcs: FakeGcs, **about: Any) -> str:
    key, data = spool_object(envelope_of(**about), MAIL, "relay/")
    gcs.write("bucket", key, data)
    return key


def push(key: str, attempt: int = 1) -> dict[str, Any]:
    attributes = {"eventType": "OBJECT_FINALIZE", "bucketId": "bucket", "objectId": key}
    return {"message": {"attributes": attributes, "messageId": "1"}, "deliveryAttempt": attempt}


def test_a_push_repeated_after_delivery_is_acknowledged(make: Make, gcs: FakeGcs) -> None:
    function = make({"type": "log"})
    key = put(gcs)
    assert function.handle(push(key)) == (204, None)
    assert gcs.keys("bucket", "relay/spool/") == []
    assert function.handle(push(key)) == (204, None)


def test_temporary_is_503_until_the_sweep_takes_over(make: Make, gcs: FakeGcs) -> None:
    function = make({"type": "gcp", "pubsub": "t", "project": "p"})
    key = put(gcs)
    assert [function.handle(push(key, n))[0] for n in (1, 2, 4, 5, 9)] == [503, 503, 503, 204, 204]
    assert gcs.keys("bucket", "relay/spool/") == [key]
    assert gcs.keys("bucket", "relay/dead/") == []


def test_without_time_nothing_begins(make: Make, gcs: FakeGcs) -> None:
    function = make({"type": "log"}, SMTP_RELAY_TIMEOUT="30")
    key = put(gcs)
    assert [function.handle(push(key, n))[0] for n in (1, 8, 9)] == [503, 503, 204]
    assert gcs.keys("bucket", "relay/spool/") == [key]


def test_older_than_given_up(make: Make, gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object's age, by this machine's clock and by Google's."""
    function = make({"type": "gcp", "pubsub": "t", "project": "p"})
    key = put(gcs, age=4 * 86_400)
    store = function.runner.store
    times = store.times(key)
    assert times is not None
    assert abs(times.now - times.modified) < 60
    assert function.handle(push(key)) == (503, None)
    later = Times(times.modified, times.modified + 4 * 86_400)
    monkeypatch.setattr(store, "times", lambda key: later)
    assert function.handle(push(key)) == (204, None)
    (dead,) = [name for name in gcs.keys("bucket", "relay/dead/") if name.endswith(".json")]
    assert json.loads(gcs.read("bucket", dead))["code"].startswith("4.")


def test_a_sweep_that_cannot_notify_says_so(make: Make, gcs: FakeGcs) -> None:
    function = make({"type": "log"})
    assert function.handle({"sweep": True}) == (
        200,
        {"oldest": 0.0, "unfinished": 0, "dead": 0, "notified": 0},
    )
    put(gcs, age=16 * 60)
    assert function.handle({"sweep": True}) == (503, None)
    assert function.handle({"sweep": "yes"}) == (204, None)  # not a push either


def test_the_entry_point(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, gcs: FakeGcs, caplog: pytest.LogCaptureFixture
) -> None:
    import logging

    root, ours = logging.getLogger(), logging.getLogger("smtp_relay")
    before = root.handlers[:], root.level, ours.level
    config = {"spool": "gs://bucket/relay", "flows": {"in": {"outputs": [{"type": "log"}]}}}
    monkeypatch.setenv("SMTP_RELAY_CONFIG_JSON", json.dumps(config))
    try:
        main = importlib.import_module("functions.gcp.main")
        key = put(gcs)
        assert main.handle(Request(push(key))) == ("", 204)
        assert main.handle(Request({"sweep": True}))[1] == 200
        assert main.handle(Request(None)) == ("", 204)
        assert main.handle(Request(None, method="GET"))[1] == 405
        monkeypatch.setattr(main, "start", lambda: None)
        assert main.handle(Request({})) == ("", 500)
    finally:
        sys.modules.pop("functions.gcp.main", None)
        root.handlers[:], level, own = before
        root.setLevel(level)
        ours.setLevel(own)


class Request:
    """The part of Flask's that the entry point reads."""

    def __init__(self, body: Any, method: str = "POST") -> None:
        self.headers: dict[str, str] = {}
        self.method = method
        self._body = body

    def get_json(self, **options: bool) -> Any:
        assert options == {"force": True, "silent": True}
        return self._body
