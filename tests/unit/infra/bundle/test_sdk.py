"""Cutting packages down: a changed package stays whole, so a deployment with it costs milliseconds and
does not fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.bundle.sdk import trim_powertools, trim_pydantic, trim_urllib3

FILES = {
    "pydantic/plugin/_loader.py": "def plugins(): ...\n",
    "pydantic_core/core_schema.py": "from elsewhere import TypedDict\n",
    "aws_lambda_powertools/__init__.py": "from aws_lambda_powertools.logging import Logger\n",
    "aws_lambda_powertools/utilities/data_classes/__init__.py": "from .all import Everything\n",
    "aws_lambda_powertools/utilities/batch/base.py": "from asyncio import gather\n",
    "urllib3/http2/__init__.py": "from importlib.metadata import version\n",
}


def trim_all(target: Path) -> None:
    trim_pydantic(target)
    trim_powertools(target / "aws_lambda_powertools")
    trim_urllib3(target / "urllib3")


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_what_changed_stays_whole(packages: Path) -> None:
    trim_all(packages)
    assert {name: (packages / name).read_text() for name in FILES} == FILES


def test_what_is_gone_is_not_missed(tmp_path: Path) -> None:
    trim_all(tmp_path)
    assert not list(tmp_path.iterdir())
