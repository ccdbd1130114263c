"""Options of `webhook`: what is refused, advised and shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from functions.config import DeliveryConfig
from functions.options.secrets import secrets_of
from functions.processors.registry import OUTPUTS
from functions.processors.webhook.options import WebhookOptions

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CANARY = "c4n4ry"


def options(**given: Any) -> WebhookOptions:
    found = OUTPUTS.parse({"type": "webhook", "url": "https://h.example.com/in", **given})
    assert isinstance(found, WebhookOptions)
    return found


def test_the_defaults() -> None:
    found = options()
    assert (found.format, found.timeout, found.give_up_4xx, found.most) == (
        "cloudevent",
        30_000,
        86_400_000,
        1_048_576,
    )
    assert options(format="raw").most == 41_943_040
    assert found.repeatable
    assert found.needs_receipts


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"url": "ftp://h.example.com/"}, "not an http:// or https:// URL"),
        ({"url": "h.example.com"}, "not an http:// or https:// URL"),
        ({"url": "https://ann:pw@h.example.com/"}, "give them as auth"),
        ({"url": "https://h.example.com/a b"}, "blank"),
        ({"secret": "hunter2"}, "openssl rand"),
        ({"secret": "whsec_" + "A" * 20}, "24 to 64"),
        ({"secret": SECRET, "secrets": [SECRET]}, "not both"),
        ({"secrets": [SECRET] * 5}, "at most 4"),
        ({"headers": {"Content-Length": "1"}}, "set by the output"),
        ({"headers": {"webhook-id": "1"}}, "set by the output"),
        ({"headers": {"X": "a\r\nY: b"}}, "line breaks"),
        ({"headers": {"X Y": "a"}}, "cannot be the name"),
        ({"auth": {"user": "ann"}}, "user and pass, or token"),
        ({"auth": {"user": "ann", "pass": "x", "token": "y"}}, "user and pass, or token"),
        ({"auth": {"user": "a:b", "pass": "x"}}, "colon"),
        ({"auth": {"token": "y"}, "headers": {"authorization": "z"}}, "not both"),
        ({"format": "xml"}, "cloudevent"),
        ({"timeout": "10m"}, "300000"),
        ({"maxRate": 0}, "greater than 0"),
        ({"maxBytes": 1000}, "65536"),
        ({"presign": "10m"}, "needs stored"),
        ({"presign": "2h", "stored": "s3"}, "3600000"),
    ],
)
def test_mistakes_are_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        options(**given)


@pytest.mark.parametrize(
    ("given", "key", "text"),
    [
        ({"url": "http://h.example.com/", "secret": SECRET}, "url", "clear text"),
        ({"url": "https://h.example.com/?key=1", "secret": SECRET}, "url", "query"),
        ({"url": "https://169.254.169.254/", "secret": SECRET}, "url", "metadata"),
        ({}, "secret", "cannot tell"),
    ],
)
def test_likely_mistakes_are_told(given: dict[str, Any], key: str, text: str) -> None:
    (found,) = options(**given).advice(())
    assert found[0] == key
    assert text in found[1]


@pytest.mark.parametrize(
    "given",
    [
        {"secret": SECRET},
        {"url": "http://localhost:8080/in", "secret": SECRET},
        {"url": "env:HOOK", "auth": {"token": "env:T"}},
        {"url": "http://[::1]:8080/", "hmac": {"secret": "k"}},
    ],
)
def test_a_good_output_gets_no_advice(given: dict[str, Any]) -> None:
    assert list(options(**given).advice(())) == []


def test_what_is_shown_holds_no_secret() -> None:
    given = {
        "url": f"https://h.example.com/in?token={CANARY}",
        "headers": {"X-Key": CANARY},
        "auth": {"user": "ann", "pass": CANARY},
        "hmac": {"secret": CANARY},
    }
    found = options(**given)
    config = DeliveryConfig.model_validate({"flows": {"in": {"outputs": [{"type": "webhook", **given}]}}})
    shown = [found.identity(), found.effect, repr(found), found.model_dump_json(), str(found), repr(config)]
    assert CANARY not in json.dumps(shown)
    assert found.identity() == "webhook:https://h.example.com/in#cloudevent"


def test_only_references_and_keys_are_secrets() -> None:
    """A plain URL or header needs no store of secrets in a cloud."""
    plain = options(headers={"X": "y"}, secret="ssm:/key")
    assert [path for path, _ in secrets_of(plain)] == ["secret"]
    found = options(url="ssm:/url", headers={"X": "ssm:/x"}, auth={"token": "ssm:/t"})
    assert [path for path, _ in secrets_of(found)] == ["url", "headers.X", "auth.token"]


def test_the_identity_names_reference_place_and_format() -> None:
    assert options(url="env:HOOK", format="raw").identity() == "webhook:env:HOOK#raw"
    assert options(name="crm").identity() == "crm"


STORE = {"type": "aws", "name": "s3", "storage": {"bucket": "mails"}}
HOOK = {"type": "webhook", "url": "https://h.example.com/", "stored": "s3"}


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([STORE, HOOK], ""),
        ([STORE, {**HOOK, "presign": "1h"}], ""),
        ([HOOK, STORE], "above that stores"),
        ([HOOK], "above that stores"),
        ([{"type": "log", "name": "s3"}, HOOK], "above that stores"),
        ([{"type": "gcp", "name": "s3", "storage": {"bucket": "mails"}}, {**HOOK, "presign": "1h"}], "aws"),
    ],
)
def test_stored_names_an_output_above_that_stores(outputs: list[dict[str, Any]], reason: str) -> None:
    value = {"flows": {"in": {"outputs": outputs}}}
    if reason:
        with pytest.raises(ValidationError, match=reason):
            DeliveryConfig.model_validate(value)
    else:
        DeliveryConfig.model_validate(value)
