"""The listener's image, built once for all tests of a process."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from scripts.image import BASE, StandIn, missing
from tests.support.container import NEEDED

TAG: Final = "smtp-relay"


class Image(NamedTuple):
    """The folders of a built image."""

    files: Path
    base: Path
    config: dict[str, Any]


@cache
def image() -> Image:
    """The built image. Skips the test where it cannot be built or run."""
    if reason := missing():
        pytest.skip(f"building the image {reason}")
    absent = {package for tool, package in NEEDED.items() if shutil.which(tool) is None}
    if absent:
        pytest.skip(f"running the image needs {', '.join(sorted(absent))} (Debian packages)")
    builder = StandIn()
    builder.build(TAG)
    return Image(builder.root(TAG), builder.root(BASE), builder.config(TAG))
