"""Checks if spool, delivery and outputs fit together, and fit the place where they run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

from functions.options.secrets import secrets_of
from functions.processors.file.retention import faults
from listener.checks.finding import Finding, Setting, error, note, warning
from listener.config.relay import RelayConfig

_CLOUD_OF = {"s3": "aws", "gs": "gcp"}
_SMTP_PORT = 25
_LONGEST_CALL: Final = 120  # seconds: two attempts fit into one run


def sentence(config: RelayConfig) -> str:
    """Where accepted mail waits, and which process delivers it."""
    who = "this process" if config.mode == "in-process" else "a function that the bucket's events start"
    return f"Accepted mail waits in {config.spool.url} until {who} has delivered it."


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Spool and delivery first, then the outputs that the deliverer cannot run."""
    spool = config.spool
    # In a deployment with a function, the function delivers.
    tell = warning if setting.platform is None else error
    if not spool.in_bucket and config.mode == "events":
        yield tell("delivery.mode", "a folder raises no events, so mail stays in the spool (use in-process)")
    elif spool.in_bucket and config.mode == "in-process":
        yield tell(
            "delivery.mode",
            "in-process delivery out of a bucket is for a container without a volume (else use a folder, "
            "or events)",
        )
    if spool.in_bucket and config.mode == "events":
        yield from _function(config)
    elif not spool.in_bucket:
        for one in folder_findings(config, setting):
            # A warning is about this machine, and the file may be right for the one that will serve it.
            yield note(one.where, one.text) if one.severity == "warning" else one
    yield from _outputs(config)
    for path, what, cure in faults(config.outputs(), setting.folder, in_bucket=spool.in_bucket):
        yield error(path, f"{what} ({cure})")


def folder_findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Check that a folder is a safe place for the spool; a starting server logs the finding as well."""
    leaving = config.leaving
    platform = setting.platform or platform_of(setting.environ)
    if platform is not None:
        yield error(
            "spool",
            f"a folder on {platform} vanishes with its task, together with unfinished mail (use a bucket)",
        )
        return
    folder = config.spool.folder(setting.folder)
    if not leaving:
        return
    if in_container(setting.environ) and on_container_disk(folder):
        yield warning(
            "spool",
            f"{folder} is on the container's own disk: when the container is removed, mail not yet "
            f"delivered by {', '.join(leaving)} is lost (mount a volume there)",
        )


def _function(config: RelayConfig) -> Iterator[Finding]:
    """Outputs that a cloud function cannot run, and secrets that it cannot read."""
    own = _CLOUD_OF[config.spool.scheme]
    for path, output in config.outputs():
        if not output.runs_in:
            yield error(
                path,
                "a cloud function has no folder to keep mail in (use storage of aws or gcp, or delivery.mode "
                "in-process)",
            )
        elif own not in output.runs_in:
            yield error(
                path,
                f"the function beside {config.spool.url} runs no {output.type} outputs (use delivery.mode "
                "in-process)",
            )
        for place, secret in secrets_of(output):
            if not secret.in_cloud:
                yield error(
                    f"{path}.{place}",
                    f"{secret.shown}: the function reads its secrets from the cloud's store "
                    "(ssm:, secretsmanager: or gcp-secret:)",
                )
        if output.retry is not None and own == "gcp":
            yield warning(
                f"{path}.retry", "Pub/Sub decides when a Cloud Run function tries again (remove it)"
            )
        if output.longest_call > _LONGEST_CALL:
            yield warning(
                f"{path}.timeout",
                f"a run of the function takes 300 s at most (make it {_LONGEST_CALL} s or less)",
            )
        if output.smtp_port == _SMTP_PORT:
            yield warning(f"{path}.nodemailer.port", "clouds block port 25 outwards (use 587 or 465)")


def _outputs(config: RelayConfig) -> Iterator[Finding]:
    ports = {one.port for one in config.resolved_listeners()}
    for path, output in config.outputs():
        if output.sends_as_anybody and config.mode == "events":
            yield warning(f"{path}.ses.identities", "the function may send as any identity (name them)")
        for place, text in output.advice(ports):
            yield warning(f"{path}.{place}", text)


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
