"""Durations and sizes with their units, as both halves read them."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from functions.config import DeliveryConfig
from functions.options.spool import SpoolOptions
from functions.options.types import DURATION, ByteCount, Milliseconds, OptionsModel
from listener.config.load import load
from listener.config.relay import RelayConfig


class Sample(OptionsModel):
    """Fields of each kind, with bounds of the type and of the field."""

    wait: Milliseconds = 0
    short: Milliseconds = Field(default=1_000, ge=1_000, le=60_000)
    perhaps: Annotated[int, Field(ge=1_000), DURATION] | None = None
    size: ByteCount = 0
    large: ByteCount = Field(default=1_024, ge=1_024)


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        (0, 0),
        (1500, 1500),
        ("1500", 1500),
        ("500ms", 500),
        ("30s", 30_000),
        ("1.5s", 1_500),
        ("0.1s", 100),
        ("5m", 300_000),
        ("2h", 7_200_000),
        ("7d", 604_800_000),
        ("365d", 31_536_000_000),
    ],
)
def test_a_duration_is_milliseconds_or_a_text_with_a_unit(written: Any, milliseconds: int):
    assert Sample(wait=written).wait == milliseconds


@pytest.mark.parametrize(
    ("written", "count"),
    [
        (7, 7),
        ("7B", 7),
        ("1kB", 1_000),
        ("1KB", 1_000),
        ("10MB", 10_000_000),
        ("10MiB", 10_485_760),
        ("1KiB", 1_024),
        ("1.5GB", 1_500_000_000),
        ("0.5GiB", 2**29),
        ("2TB", 2 * 10**12),
    ],
)
def test_a_size_is_bytes_or_a_text_with_a_unit(written: Any, count: int):
    assert Sample(size=written).size == count


@pytest.mark.parametrize(
    ("field", "written", "words"),
    [
        ("wait", "30 s", "500ms, 30s, 5m, 2h or 7d"),
        ("wait", "30S", "'30S'"),
        ("wait", "30 seconds", "'30 seconds'"),
        ("wait", "P7D", "'P7D'"),
        ("wait", "s", "'s'"),
        ("wait", "", "''"),
        ("wait", "-1s", "'-1s'"),
        ("wait", "0.5ms", "not a whole number of milliseconds"),
        ("wait", "366d", "less than or equal to 31536000000"),
        ("wait", "9" * 16 + "s", "neither a number"),
        ("wait", True + 0.5, "integer"),
        ("short", "999ms", "greater than or equal to 1000"),
        ("short", 61_000, "less than or equal to 60000"),
        ("perhaps", "0.5s", "greater than or equal to 1000"),
        ("size", "10M", "500KB, 10MB or 10MiB"),
        ("size", "10 MB", "'10 MB'"),
        ("size", "10mb", "'10mb'"),
        ("size", -1, "greater than or equal to 0"),
        ("large", "1KB", "greater than or equal to 1024"),
    ],
)
def test_what_is_neither_is_refused_with_the_forms_there_are(field: str, written: Any, words: str):
    with pytest.raises(ValidationError, match=words.replace("(", "\\(")):
        Sample(**{field: written})


def test_the_schema_says_integer_or_pattern():
    made = Sample.model_json_schema(by_alias=True)["properties"]
    number, text = made["short"]["anyOf"]
    assert number == {"type": "integer", "minimum": 1_000, "maximum": 60_000}
    assert text == {"type": "string", "pattern": "^[0-9]{1,15}(?:\\.[0-9]{1,9})?(?:ms|s|m|h|d)$"}
    number, text = made["large"]["anyOf"]
    assert number == {"type": "integer", "minimum": 1_024}
    assert text["pattern"].endswith("(?:B|kB|KB|MB|GB|TB|KiB|MiB|GiB|TiB)$")


def test_both_halves_read_them_alike():
    """One file, read by the listener and by a function."""
    value = {
        "flows": {"in": {"filters": [], "outputs": []}},
        "delivery": {"wait": "2s", "giveUpAfter": "7d", "retry": {"first": "1m", "max": "1h"}},
        "spool": {"url": "s3://b", "timeout": "10s", "bytesInFlight": "64MiB"},
    }
    relay: RelayConfig = load(None, {"SMTP_RELAY_CONFIG_JSON": json.dumps(value)})
    function = DeliveryConfig.model_validate(value, by_alias=True, by_name=False)
    assert relay.delivery == function.delivery
    assert relay.spool == function.spool
    assert (function.delivery.give_up_after, function.delivery.retry.max) == (604_800_000, 3_600_000)
    assert (function.spool.timeout, function.spool.bytes_in_flight) == (10_000, 67_108_864)


def test_the_same_duration_has_the_same_digest():
    texts = [{"url": "s3://b", "timeout": each} for each in (30_000, "30s", "30000ms")]
    assert len({SpoolOptions(**each).model_dump_json() for each in texts}) == 1
