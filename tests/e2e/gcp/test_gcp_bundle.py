"""The source zip in an environment with only its requirements: a missing requirement fails here."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.cold_start_gcp import measure
from infra.bundle.gcp import source
from tests.support.clouds.function_venv import python_for
from tests.support.clouds.gcp_stack import Stack
from tests.support.servers.relay import ROOT

CONFIG = ROOT / "configs" / "mail2gcppubsub.jsonc"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return python_for(source(CONFIG, tmp_path_factory.mktemp("source") / "function.zip"))


def test_it_starts_and_handles_a_push(stack_for: Callable[..., Stack], alone: str) -> None:
    for package in ("smtp_relay", "aiosmtpd", "boto3", "obstore"):
        assert subprocess.run([alone, "-P", "-c", f"import {package}"], capture_output=True).returncode
    outputs = [
        {"type": "gcp", "storage": {"bucket": "{bucket}"}, "pubsub": {"topic": "{topic:out}"}},
        {"type": "log"},
    ]
    stack = stack_for({"in": outputs}, python=alone)
    stack.put()
    stack.settled()
    assert len(stack.stored()) == 1
    (message,) = stack.messages("out")
    assert json.loads(message["data"])["data"]["email"]["subject"] == "hello"
    assert stack.sweep()["unfinished"] == 0


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    one, other = source(CONFIG, tmp_path / "1.zip"), source(CONFIG, tmp_path / "2.zip")
    assert one.read_bytes() == other.read_bytes()
    assert one.stat().st_size < 1_000_000


def test_the_cold_start_is_measured(alone: str) -> None:
    found = measure(CONFIG, 3, alone)
    # Importing the SDKs is most of it; the project's own part stays below the same again.
    assert found["ratio"] < 2.0, found
