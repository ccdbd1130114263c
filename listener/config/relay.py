"""The configuration as the listener reads it: flows with filters and outputs, listeners, options.

`listener.config.load` makes one from a file and the environment.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from functions import __version__
from functions.config import DeliveryConfig, DeliveryFlow, label_of
from functions.message.headers import HeaderEdits
from functions.options.types import Deferred, Label, Milliseconds, Port
from listener.api.filter import FilterOptions
from listener.config.http import HealthOptions, PrometheusOptions
from listener.config.inbox import RELEASE, InboxOptions
from listener.config.listeners import DEFAULT_PORT, Listener, ListenerOptions, address_of, is_every_address
from listener.config.smtp import SmtpOptions
from listener.filters.registry import AnyFilter
from listener.logs.options import LoggerOptions


class HttpAddress(NamedTuple):
    """An address and port to serve HTTP on."""

    bind: str
    port: int

    def overlaps(self, other: HttpAddress) -> bool:
        """True if only one of the two can be opened."""
        every = is_every_address(self.bind) or is_every_address(other.bind)
        return bool(self.port) and self.port == other.port and (every or self.bind == other.bind)


def _names(value: Any) -> Any:
    items = value if isinstance(value, list | tuple) else [value]
    return tuple(
        str(item) if isinstance(item, int) and not isinstance(item, bool) else item for item in items
    )


class FlowConfig(DeliveryFlow):
    """Filters that take mail, and outputs that handle it."""

    model_config = ConfigDict(extra="forbid")

    filters: tuple[AnyFilter, ...] = ()
    """They decide about each recipient; without any a flow takes nothing."""

    filters_operator: Literal["AND", "OR"] = "AND"
    """Every filter must accept, or one."""

    listeners: Annotated[
        tuple[str, ...] | None, BeforeValidator(_names, json_schema_input_type=list[str | int] | str | int)
    ] = None
    """Listeners whose mail this flow may take. Default: all."""

    def labelled_filters(self) -> tuple[tuple[str, FilterOptions], ...]:
        """The filters with their labels in metrics and logs: their name, else `TYPE_INDEX`."""
        return tuple((label_of(options, index), options) for index, options in enumerate(self.filters))


class RelayConfig(DeliveryConfig):
    """A relay: its ports, the mail that it takes, and what it does with it."""

    model_config = ConfigDict(extra="forbid")

    schema_: str | None = Field(default=None, alias="$schema")
    """The schema's path, for editors."""

    flows: Mapping[Label, FlowConfig]
    """A mail goes to every flow that took one of its recipients."""

    port: Port = DEFAULT_PORT
    """The port to listen on."""

    bind: str | None = Field(default=None, min_length=1)
    """The address. Default: 127.0.0.1, in the image every address."""

    listeners: tuple[ListenerOptions, ...] = ()
    """Several ports, instead of `port` and `bind`."""

    options: SmtpOptions = SmtpOptions()
    """Options of the SMTP server."""

    mail_headers: Mapping[str, str | int | float | bool | None] = {"x-smtp-relay": __version__}
    """Header edits: `"X": value` adds a field, `"-X"` removes all of that name, `"?X"` adds one if there is
    none. Default: `x-smtp-relay`."""

    filter_timeout: Milliseconds = Field(default=30_000, ge=1)
    """Time that a filter has to answer; then it defers the mail (451)."""

    prometheus: PrometheusOptions | None = None
    """Serve metrics."""

    health: HealthOptions | None = None
    """Serve health. Default: on the port of `prometheus`, in the image 9090."""

    inbox: Annotated[InboxOptions, Deferred(InboxOptions)] | None = None
    """Show stored mails over HTTP."""

    workers: Annotated[int, Field(ge=1, le=256)] | Literal["auto"] = 1
    """Processes; `auto` is one per core."""

    loggers: tuple[LoggerOptions, ...] | None = None
    """Destinations of logs. Default: one CONSOLE logger; `[]` logs nothing."""

    _source: str = PrivateAttr(default="")
    _inbox_by_default: bool = PrivateAttr(default=False)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @field_validator("mail_headers")
    @classmethod
    def _possible_edits(cls, edits: Mapping[str, object]) -> Mapping[str, object]:
        HeaderEdits(edits)
        return edits

    @model_validator(mode="after")
    def _with_release(self) -> RelayConfig:
        """The flow of released mails, which takes none from a listener."""
        if self.inbox is None:
            return self
        if unknown := sorted(set(self.inbox.send) - self.flows.keys()):
            raise ValueError(f"inbox.send: there is no flow {unknown[0]!r}")
        release = self.inbox.release
        named = [
            output
            for flow in self.flows.values()
            for label, output in flow.labelled()
            if release is not None and label == release.output
        ]
        if release is not None and any(one != named[0] for one in named):
            raise ValueError(
                f"inbox.release.output: several outputs are called {release.output!r} (give each a name)"
            )
        for name in self.inbox.send:
            for label, output in self.flows[name].labelled():
                if not output.local and output not in named:
                    raise ValueError(
                        f"inbox.send: output {label} of flow {name!r} sends mails to other machines "
                        "(name it in inbox.release, or leave the flow out)"
                    )
        if release is None:
            return self
        if not named:
            raise ValueError(f"inbox.release.output: there is no output of the name {release.output!r}")
        if RELEASE in self.flows:
            raise ValueError(f"flows.{RELEASE}: is the flow of inbox.release (give yours another name)")
        made = FlowConfig(outputs=(named[0],), listeners=())
        # The model is frozen, and no reader has it yet.
        object.__setattr__(self, "flows", {**self.flows, RELEASE: made})
        return self

    @model_validator(mode="after")
    def _consistent(self) -> RelayConfig:
        if self.listeners and (given := sorted({"port", "bind"} & self.model_fields_set)):
            keys = " and ".join(given)
            raise ValueError(f"{keys} cannot stand beside listeners: each has its own (remove {keys})")
        for key, here, there in (
            ("loggers", self.loggers, self.options.loggers),
            ("logAddresses", self.log_addresses, self.options.log_addresses),
        ):
            if here is not None and there is not None:
                raise ValueError(f"{key} stands in options too: give one of them")
        self._check_listeners()
        leaving = self.leaving
        for name, flow in self.flows.items():
            for index, options in enumerate(flow.filters):
                if reason := options.forbidden_beside(leaving):
                    raise ValueError(f"flows.{name}.filters[{index}]: {reason}")
        return self

    def _check_listeners(self) -> None:
        listeners = self.resolved_listeners()
        taken = [("listeners", HttpAddress(one.bind, one.port)) for one in listeners]
        served = (("prometheus", self.metrics_endpoint), ("health", self.health_endpoint))
        ours = [(key, at) for key, at in served if at is not None]
        for index, (key, at) in enumerate([*taken, *ours]):
            for _, other in taken[:index]:
                if at.overlaps(other):
                    both = f"and {other.bind}:{other.port} are the same port"
                    what = "stands 2 times" if at == other else both
                    raise ValueError(f"{key}: {at.bind}:{at.port} {what} (give one of them another port)")
        if len(ours) == 2 and ours[0][1].overlaps(ours[1][1]) and ours[0][1] != ours[1][1]:
            (_, metrics), (_, health) = ours
            raise ValueError(
                f"health: {health.bind}:{health.port} and {metrics.bind}:{metrics.port} of prometheus are "
                "the same port (give both the same bind, or one of them another port)"
            )
        names = [one.name for one in listeners]
        if len(set(names)) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise ValueError(f"listeners: two have the name {twice!r} (give one of them another name)")
        for one in listeners:
            # Each part may be valid while their combination is not.
            if reason := one.options.versions_out_of_order():
                raise ValueError(f"listeners: {one.name}: {reason}")
        for flow, options in self.flows.items():
            for name in options.listeners or ():
                if name not in names:
                    raise ValueError(
                        f"flows.{flow}.listeners: no listener is named {name!r}; there are {', '.join(names)}"
                    )

    def resolved_listeners(self) -> tuple[Listener, ...]:
        """The listeners, each with its own options over `options`."""
        if not self.listeners:
            return (Listener(str(self.port), address_of(self.bind), self.port, self.options),)
        return tuple(
            Listener(
                _name(one, index),
                address_of(one.bind),
                one.port,
                one.over(self.options),
                frozenset(one.model_fields_set),
            )
            for index, one in enumerate(self.listeners)
        )

    def place_of(self, listener: str) -> str:
        """The place in the file of the options of the listener of that name."""
        names = [one.name for one in self.resolved_listeners()]
        return f"listeners[{names.index(listener)}]" if self.listeners else "options"

    @property
    def metrics_endpoint(self) -> HttpAddress | None:
        """The place of the metrics, None if they are not served."""
        served = self.prometheus
        return None if served is None else HttpAddress(address_of(served.bind), served.port_number)

    @property
    def health_endpoint(self) -> HttpAddress | None:
        """The place of health, None if it is not served."""
        if self.health is None:
            return self.metrics_endpoint
        return HttpAddress(address_of(self.health.bind), self.health.port_number)

    @property
    def log_outputs(self) -> tuple[LoggerOptions, ...]:
        """The destinations of logs; empty for none."""
        given = self.loggers if self.loggers is not None else self.options.loggers
        return (LoggerOptions(type="CONSOLE"),) if given is None else given

    @property
    def logs_addresses(self) -> bool:
        """True if addresses and subjects are logged at INFO."""
        return bool(self.log_addresses or self.options.log_addresses)

    @property
    def processes(self) -> int:
        """The number of serving processes; `auto` is one per core."""
        return (os.cpu_count() or 1) if self.workers == "auto" else self.workers

    @property
    def leaving(self) -> list[str]:
        """The types of the outputs that send mail to other machines, in the order of the alphabet."""
        return sorted({one.type for _, one in self.outputs() if not one.local})

    @property
    def is_scripted(self) -> bool:
        """True if a flow has a filter that answers clients by a script."""
        return any(one.for_tests for flow in self.flows.values() for one in flow.filters)

    @property
    def counts_recipients(self) -> bool:
        """True if a filter limits how many recipients a client has in some time."""
        return any(one.counts_recipients for flow in self.flows.values() for one in flow.filters)

    @cached_property
    def digest(self) -> str:
        return super().digest

    @property
    def source(self) -> str:
        """The source of the configuration: a path, or words if it is not a file."""
        return self._source

    @property
    def inbox_by_default(self) -> bool:
        """True if no file and no flag asks for the inbox: the server starts without it where it cannot be."""
        return self._inbox_by_default

    @property
    def warnings(self) -> tuple[str, ...]:
        """Options without effect, or probably mistaken, one line each."""
        advice = [
            f"flows.{name}.filters[{index}].{line}"
            for name, flow in self.flows.items()
            for index, options in enumerate(flow.filters)
            for line in options.advice()
        ]
        return (*self._warnings, *advice)


def _name(options: ListenerOptions, index: int) -> str:
    if options.name is not None:
        return options.name
    return str(options.port) if options.port else f"0-{index}"
