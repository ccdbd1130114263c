"""An AWS API on loopback that answers by a script; clients find it through the output's own options."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.aws.output.options import AwsOutputOptions
from functions.aws.output.processor import build
from functions.processors.context import BuildContext
from functions.processors.store import CloudProcessor
from tests.support.servers.endpoint import Endpoint, endpoint


@pytest.fixture
def api() -> Iterator[Endpoint]:
    with endpoint() as served:
        served.url = served.url.partition("/ask")[0]
        yield served


@pytest.fixture
def output(
    api: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[..., CloudProcessor]]:
    """Builds `aws` outputs whose clients all ask `api`."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setattr("functions.aws.output.processor._accounts", {})
    made: list[CloudProcessor] = []

    def make(**options: Any) -> CloudProcessor:
        for client in ("s3client", "sqsclient", "sesClient"):
            options.setdefault(client, {"endpoint": api.url, "forcePathStyle": True})
        read = AwsOutputOptions.model_validate({"type": "aws", **options}, by_alias=True, by_name=False)
        context = BuildContext.of(tmp_path, {}, durable=False)
        made.append(build(read, "aws_0", context))
        return made[-1]

    yield make
    for each in made:
        each.close()
