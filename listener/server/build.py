"""Makes the parts of a running listener from its configuration."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from functions.delivery.build import RunElsewhere, build_outputs, delivery_of
from functions.delivery.engine import Delivery, Output
from functions.errors import ConfigError
from functions.local.archive import Archive
from functions.local.layout import Part, parts
from functions.local.messages import Settings
from functions.local.service import LocalDelivery
from functions.local.view.reader import ids
from functions.message.headers import HeaderEdits, Predicate
from functions.options.secrets import Runtime, SecretResolver
from functions.options.spool import DEFAULT_FOLDER
from functions.processors.base import OutputOptions, Processor
from functions.processors.context import BuildContext as OutputContext
from functions.processors.registry import build_processor
from listener.api.filter import BuildContext as FilterContext
from listener.api.filter import Filter, FilterOptions, SharedScript
from listener.config.errors import locate
from listener.filters.registry import build_filter
from listener.flows.flow import Flow, Flows
from listener.intake.spool import PROBE
from listener.monitoring.events import NULL, Events

if TYPE_CHECKING:
    from functions.bucket.in_process import BucketDelivery
    from functions.delivery.events import DeliveryEvents
    from functions.delivery.terms import Waits
    from listener.config.relay import RelayConfig
    from listener.config.smtp import SmtpOptions
    from listener.intake.bucket_spool import BucketSpool
    from listener.intake.captures import Captures


LEAST_MEMORY: Final = 1_048_576
"""Bytes of memory that one worker has for mails that arrive, however many there are."""


@dataclass(frozen=True, slots=True)
class _Noted(SecretResolver):
    """Resolves secrets, and keeps digests of their values."""

    digests: list[bytes] = field(default_factory=list)

    def __call__(self, reference: str) -> str:
        value = SecretResolver.__call__(self, reference)
        self.digests.append(hashlib.sha256(value.encode()).digest())
        return value


class Filters:
    """The filters of every flow, built once and shared by all listeners. Raises ConfigError.

    `fingerprint` is equal for filters that decide alike: it covers the configuration, the secrets
    behind its references and the files that filters have read.
    """

    def __init__(self, config: RelayConfig, around: Runtime, script: SharedScript | None = None) -> None:
        secrets = _Noted(around.folder, around.environ)
        timeout = config.filter_timeout / 1000
        context = FilterContext(
            around.folder,
            around.environ,
            secrets,
            timeout,
            script=script,
            state=state_folder(config, around),
            mail_headers=config.mail_headers,
        )
        self._flows: list[Flow] = []
        for name, flow in config.flows.items():
            around_flow = replace(context, flow=name)
            built = tuple(
                located_filter(config, f"flows.{name}.filters[{index}]", label, options, around_flow)
                for index, (label, options) in enumerate(flow.labelled_filters())
            )
            listeners = frozenset(flow.listeners) if flow.listeners is not None else None
            self._flows.append(Flow(name, built, flow.filters_operator, listeners))
        self.all: tuple[Filter, ...] = tuple(f for flow in self._flows for f in flow.filters)
        self._timeout = timeout
        read = [config.digest, *(each.fingerprint() for each in self.all)]
        self.fingerprint = hashlib.sha256(b"".join([*secrets.digests, *map(str.encode, read)])).hexdigest()

    def flows(self, options: SmtpOptions, observer: Events, only: Collection[str] | None = None) -> Flows:
        """The flows under one listener's options. `only` are those of mails that come over HTTP."""
        chosen = self._flows
        if only is not None:
            chosen = [replace(flow, listeners=None) for flow in self._flows if flow.name in only]
        return Flows(
            chosen,
            auth_optional=options.auth_optional or only is not None,
            filter_timeout=self._timeout,
            auth_required_message=options.auth_required_message,
            auth_lifted=options.auth_disabled,
            partial_accept=options.partial_accept,
            on_answer=None if observer is NULL else observer.filter_verdict,
        )

    def removals(self, hostname: str) -> list[tuple[str, Predicate]]:
        """Fields that clients must not send, by the filters that write them."""
        return [entry for each in self.all for entry in each.removals(hostname)]

    def observe(self, observer: Events) -> None:
        """Connect the filters that count with the observer."""
        if observer is not NULL:
            for each in self.all:
                each.observe(observer)

    def forget(self) -> None:
        """A reload begins."""
        for each in self.all:
            each.forget()

    async def start(self) -> None:
        """Start every filter in this process."""
        for each in self.all:
            await each.start()

    async def stop(self) -> None:
        """Stop every filter."""
        for each in self.all:
            await each.stop()


def located_filter(
    config: RelayConfig, path: str, label: str, options: FilterOptions, context: FilterContext
) -> Filter:
    """One filter, which stands at `path`. Raises ConfigError with that place."""
    with locate(config, path, options, f"filter {label}"):
        return build_filter(options, label, context)


def located_output(config: RelayConfig, label: str, options: OutputOptions) -> AbstractContextManager[None]:
    """Gives the mistakes in building one output their place in the configuration."""
    path = next(
        f"flows.{name}.outputs[{index}]"
        for name, flow in config.flows.items()
        for index, one in enumerate(flow.outputs)
        if one is options
    )
    return locate(config, path, options, f"output {label}")


def header_edits(config: RelayConfig, filters: Filters, hostname: str) -> HeaderEdits:
    """`mailHeaders`, and the removal of forged results. Raises ConfigError."""
    try:
        return HeaderEdits(config.mail_headers, filters.removals(hostname))
    except ValueError as error:
        raise ConfigError(f"{config.source}: mailHeaders", str(error)) from error


def build_delivery(config: RelayConfig, around: Runtime, *, staging: Path | None) -> Delivery:
    """The outputs of every flow; with mode `events` a placeholder that leaves mail in the spool. Raises
    ConfigError."""
    if config.mode == "events":
        held = {name: [Output("events", "events", RunElsewhere())] for name in config.flows}
        return delivery_of(config, held)
    check_retention(config, around)
    durable = config.spool.durability == "fsync"
    by_user = config.inbox is not None and config.inbox.by == "user"
    context = OutputContext(around.folder, around.environ, around.secrets, durable, staging, by_user)

    def build(label: str, options: OutputOptions) -> Processor:
        with located_output(config, label, options):
            return build_processor(options, label, context)

    return build_outputs(config, build)


def min_free_space(config: RelayConfig) -> int:
    """Bytes that must stay free on the spool's disk: the largest value of all listeners."""
    return max(one.options.min_free_space for one in config.resolved_listeners())


def limit_captures(config: RelayConfig, captures: Captures, workers: int) -> None:
    """Limit the memory and disk space of the arriving mails of one worker: its share of the lowest limits
    of all listeners, but at least enough for one mail."""
    options = [one.options for one in config.resolved_listeners()]
    memory = min(one.max_capture_memory for one in options)
    space = min(one.max_capture_space for one in options)
    captures.max_memory = max(memory // workers, LEAST_MEMORY)
    captures.max_space = max(space // workers, min(space, 2 * max(one.size for one in options)))


def build_local(config: RelayConfig, around: Runtime, part: Part, observer: DeliveryEvents) -> LocalDelivery:
    """In-process delivery of one part of the local spool."""
    settings = delivery_settings(config, around)
    # Outputs choose the place of their temporaries at once, so the staging folder must exist.
    part.create()
    delivery = build_delivery(config, around, staging=part.staging)
    return LocalDelivery(part, delivery, settings, observer)


def check_folders(config: RelayConfig, around: Runtime) -> None:
    """Raises ConfigError if an output of this process keeps mail in a folder that takes no files. Only a
    start checks: later such an output defers its mail, so that no other output waits for the folder."""
    from functions.processors.file.placing import TargetFolder

    if config.mode == "events":
        return
    for name, flow in config.flows.items():
        for index, output in enumerate(flow.outputs):
            if output.file_folder is None:
                continue
            folder = around.folder / output.file_folder
            try:
                TargetFolder(folder, durable=config.spool.durability == "fsync").check()
            except OSError as error:
                raise ConfigError(
                    f"{config.source}: flows.{name}.outputs[{index}].path",
                    f"{folder} cannot take files: {error.strerror}",
                    f"name a folder that user {os.geteuid()} may make files in",
                ) from error


def check_retention(config: RelayConfig, around: Runtime) -> None:
    """Raises ConfigError for limits of a folder that cannot be kept."""
    outputs = config.outputs()
    if any(output.file_retention is not None for _, output in outputs):
        from functions.processors.file.retention import faults

        for path, what, cure in faults(outputs, around.folder, in_bucket=config.spool.in_bucket):
            raise ConfigError(f"{config.source}: {path}", what, cure)


def clear_traces(config: RelayConfig, around: Runtime) -> None:
    """Remove the temporaries of `file` outputs that a crash left, and probes. Call this only before the
    first delivery."""
    from functions.processors.file.cleanup import remove_traces

    task: set[str] = set()
    spool = config.spool.folder(around.folder)
    for probe in spool.glob(f"{PROBE}*"):
        with suppress(OSError):
            probe.unlink()
    found = list(parts(spool))
    for part in found:
        part.renew_log()
        if part.trust.lost:
            # Its unfinished mails are known only after it is rebuilt; the next start cleans up.
            return
        task |= ids(part)
    kept = {output.file_folder for flow in config.flows.values() for output in flow.outputs} - {None}
    folders = {around.folder / str(each) for each in kept} | {part.staging for part in found}
    for folder in folders:
        remove_traces(folder, task.__contains__)


def delivery_settings(config: RelayConfig, around: Runtime) -> Settings:
    """The settings of in-process delivery."""
    options = config.delivery
    durable = config.spool.durability == "fsync"
    keep = Archive(config.cache_path, around.folder, durable=durable).keep if config.keep_cache else None
    return Settings(
        durable=durable,
        wait=options.wait / 1000,
        wait_for_all=options.wait_for == "all",
        first=options.retry.first / 1000,
        longest=options.retry.max / 1000,
        keep=keep,
        threads=options.concurrency or 8,
    )


def build_from_bucket(config: RelayConfig, around: Runtime) -> tuple[Delivery, Waits]:
    """The outputs of every flow and the waits between attempts, for delivery out of a bucket in this
    process. Raises ConfigError."""
    from functions.delivery.build import build_now
    from functions.delivery.terms import Waits

    check_retention(config, around)
    context = OutputContext(around.folder, around.environ, around.secrets)
    retry = config.delivery.retry
    delivery = build_now(config, context, lambda label, options: located_output(config, label, options))
    return delivery, Waits(retry.first / 1000, retry.max / 1000)


def deliver_bucket(config: RelayConfig, around: Runtime, observer: Events) -> BucketDelivery:
    """In-process delivery out of a bucket, not started yet. Raises ConfigError."""
    from functions.bucket.in_process import BucketDelivery, open_runner

    delivery, waits = build_from_bucket(config, around)
    try:
        runner = open_runner(config, delivery, around.folder, around.environ, observer)
    except ConfigError as error:
        if error.where not in ("delivery.mode", "spool.url"):
            raise
        raise ConfigError(f"{config.source}: {error.where}", error.what, error.cure) from error
    return BucketDelivery(runner, waits, observer, threads=config.delivery.concurrency or 4)


def open_bucket_spool(
    config: RelayConfig,
    around: Runtime,
    observer: Events,
    notify: Callable[[Sequence[str]], None] | None = None,
) -> BucketSpool:
    """The spool of a bucket; `notify` is called with each mail's key. Raises ConfigError."""
    from listener.intake.bucket_spool import BucketSpool
    from listener.intake.capture_folder import CaptureFolder
    from listener.intake.object_store import open_object_store, open_uploads

    spool = config.spool
    with locate(config, "spool", spool):
        store = open_object_store(spool, around.environ, around.secrets)
        uploads = open_uploads(spool, around.environ, around.secrets)
    made = BucketSpool(
        store,
        spool.prefix,
        CaptureFolder(capture_folder(config, around)),
        observer,
        budget=spool.bytes_in_flight,
        patience=2 * spool.timeout / 1000,
        min_free=min_free_space(config),
        notify=notify,
    )
    made.uploads = uploads
    return made


def capture_folder(config: RelayConfig, around: Runtime) -> Path:
    """The folder for large mails that arrive, if the spool is a bucket: below that of `cachePath`."""
    return around.folder / config.cache_path.partition("${")[0].rpartition("/")[0] / DEFAULT_FOLDER


def state_folder(config: RelayConfig, around: Runtime) -> Path:
    """The folder where this server remembers what is no mail: the spool, or what stands beside a bucket."""
    return capture_folder(config, around) if config.spool.in_bucket else config.spool.folder(around.folder)


def takes_ascii_only(config: RelayConfig, listener: str) -> bool:
    """True if an output of a flow that this listener serves cannot serve non-ASCII local parts: RCPT
    refuses such recipients (docs/outputs/aws.md)."""
    return any(
        output.ascii_recipients
        for flow in config.flows.values()
        if flow.listeners is None or listener in flow.listeners
        for output in flow.outputs
    )


def host_name(options: SmtpOptions) -> str:
    """The server's own name: `name`, else the machine's."""
    return options.name or socket.gethostname() or "localhost"
