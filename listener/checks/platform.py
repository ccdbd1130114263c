"""Detects where this process runs: in a container, on which platform, on which disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

_MARKS: Final = (Path("/.dockerenv"), Path("/run/.containerenv"))
_ECS: Final = ("ECS_CONTAINER_METADATA_URI_V4", "ECS_CONTAINER_METADATA_URI")
_CLOUD_RUN: Final = ("K_SERVICE", "CLOUD_RUN_JOB", "CLOUD_RUN_WORKER_POOL")


def platform_of(environ: Mapping[str, str]) -> Literal["fargate", "cloud-run"] | None:
    """The platform, if its disks vanish with their tasks, else None."""
    if any(name in environ for name in _CLOUD_RUN):
        return "cloud-run"
    on_ecs = any(name in environ for name in _ECS)
    return "fargate" if on_ecs and environ.get("AWS_EXECUTION_ENV") == "AWS_ECS_FARGATE" else None


def in_container(environ: Mapping[str, str]) -> bool:
    """True if this process runs in a container."""
    return "KUBERNETES_SERVICE_HOST" in environ or any(mark.exists() for mark in _MARKS)


def on_container_disk(folder: Path) -> bool:
    """True if a folder (or its future place) is on the disk of `/`, which vanishes with a container."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return place.stat().st_dev == Path("/").stat().st_dev
