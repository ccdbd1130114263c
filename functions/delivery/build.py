"""The outputs of a cloud function, each built when its first mail comes.

A start pays only for the outputs that it uses. An output that cannot be built, because its secret
is missing for example, does not delay other outputs: its mails are retried.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from functions.config import DeliveryConfig
from functions.delivery.engine import Delivery, Output
from functions.delivery.terms import Terms
from functions.errors import ConfigError, Temporary
from functions.processors.base import PLENTY, Job, OutputOptions, Placed, Processor
from functions.processors.context import BuildContext
from functions.processors.registry import build_processor

log: Final = logging.getLogger("smtp_relay.delivery")

_LATER: Final = 43_200.0  # seconds


def needs_receipts(config: DeliveryConfig) -> bool:
    """True if any output of the configuration takes receipts."""
    return any(output.needs_receipts for flow in config.flows.values() for output in flow.outputs)


def build_outputs(config: DeliveryConfig, build: Callable[[str, OutputOptions], Processor]) -> Delivery:
    """The outputs of every flow, each made by `build` from its label and options."""
    flows = {
        name: [
            Output(label, options.identity(), build(label, options), Terms.of(options))
            for label, options in flow.labelled()
        ]
        for name, flow in config.flows.items()
    }
    return delivery_of(config, flows)


def build_delivery(config: DeliveryConfig, context: BuildContext, *, eager: bool = False) -> Delivery:
    """The outputs of every flow. With `eager` this builds as many of them as it can now."""

    def build(label: str, options: OutputOptions) -> Processor:
        lazy = LazyProcessor(label, _builder(options, label, context))
        if eager:
            lazy.prepare()
        return lazy

    return build_outputs(config, build)


def build_now(
    config: DeliveryConfig,
    context: BuildContext,
    located: Callable[[str, OutputOptions], AbstractContextManager[None]],
) -> Delivery:
    """The outputs of every flow, for a process that delivers out of a bucket and ends if it cannot
    build an output. `located` gives a mistake its place. Raises ConfigError."""

    def build(label: str, options: OutputOptions) -> Processor:
        with located(label, options):
            return _builder(options, label, context)()

    return build_outputs(config, build)


def delivery_of(config: DeliveryConfig, flows: Mapping[str, Sequence[Output]]) -> Delivery:
    """These outputs of every flow, as the configuration delivers."""
    return Delivery(
        flows, give_up_after=config.delivery.give_up_after / 1000, on_doubt=config.delivery.on_doubt
    )


def _builder(options: OutputOptions, label: str, context: BuildContext) -> Callable[[], Processor]:
    def build() -> Processor:
        made = build_processor(options, label, context)
        # Quick outputs take no receipts with a folder as spool, because one commit covers them.
        # Here they need receipts.
        return Receipted(made) if made.quick else made

    return build


class LazyProcessor(Processor):
    """Builds its processor when it is needed."""

    def __init__(self, label: str, build: Callable[[], Processor]) -> None:
        self._label = label
        self._build = build
        self._lock = threading.Lock()
        self._made: Processor | None = None

    def prepare(self) -> None:
        """Build the processor now. An error is logged, and appears again with the first mail."""
        try:
            self._processor()
        except ConfigError as error:
            log.error("an output cannot be built", extra={"output": self._label, "reason": str(error)})

    def process(self, job: Job) -> Placed | None:
        return self._ready().process(job)

    def stored(self, job: Job) -> Any:
        return self._ready().stored(job)

    def link(self, key: str, seconds: int) -> str:
        return self._ready().link(key, seconds)

    @property
    def room(self) -> int:
        return PLENTY if self._made is None else self._made.room

    def close(self) -> None:
        if self._made is not None:
            self._made.close()

    def _ready(self) -> Processor:
        try:
            return self._processor()
        except ConfigError as error:
            raise Temporary(f"the output cannot be built: {error}", enhanced="4.3.5") from error

    def _processor(self) -> Processor:
        with self._lock:
            if self._made is None:
                self._made = self._build()
            return self._made


class Receipted(Processor):
    """Runs, under a receipt, a processor that takes none itself."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    def process(self, job: Job) -> None:
        placed: list[Placed] = []

        def effect() -> None:
            left = self._processor.process(job)
            if left is not None:
                left.fsync()
                placed.append(left)

        job.once("whole", effect)
        for each in placed:
            each.cleanup()

    def close(self) -> None:
        self._processor.close()


class RunElsewhere(Processor):
    """Leaves every mail in the spool, because another process runs the outputs (`delivery.mode` is
    `events`)."""

    def process(self, job: Job) -> None:
        raise Temporary("delivery.mode is events: this process runs no outputs", retry_after=_LATER)
