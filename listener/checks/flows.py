"""The mails and outputs of each flow; flows that can never take a mail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from functions.options.registry import NotAvailable, Registry
from functions.processors.registry import OUTPUTS
from listener.checks.finding import Finding, Setting, error, note, warning
from listener.checks.strangers import serves
from listener.config.relay import FlowConfig, RelayConfig
from listener.filters.registry import FILTERS


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """For each flow: its mails, its outputs, and the reason if it never takes a mail."""
    if not config.flows:
        yield warning("flows", "there is no flow: every client is refused")
    for name, flow in config.flows.items():
        path = f"flows.{name}"
        yield note(path, _described(flow))
        if reason := never_accepts(config, name, setting.environ):
            yield warning(path, f"takes nothing: {reason}")
        auth, names = _offered(config, flow)
        for index, options in enumerate(flow.filters):
            idle = options.guard and options.never_accepts(setting.environ, auth=auth, names=names)
            if idle:
                yield warning(f"{path}.filters[{index}]", f"never objects: it {idle}")
        if not flow.outputs:
            yield warning(f"{path}.outputs", "there is no output: the flow's mails go nowhere")
        yield from _availability(config, flow, path)


def never_accepts(config: RelayConfig, name: str, environ: Mapping[str, str]) -> str:
    """The reason why a flow can never take a mail; "" if it can."""
    flow = config.flows[name]
    if not flow.filters:
        return "it has no filter"
    if not any(serves(flow, one) for one in config.resolved_listeners()):
        return "it serves no listener"
    auth, names = _offered(config, flow)
    reasons = [
        (label, options.never_accepts(environ, auth=auth, names=names))
        for label, options in flow.labelled_filters()
        if not options.guard
    ]
    if not reasons:
        return "its filters only object: at least one must accept"
    if flow.filters_operator == "AND":
        return next((f"{label} {reason}" for label, reason in reasons if reason), "")
    return f"each filter fails: the first {reasons[0][1]}" if all(reason for _, reason in reasons) else ""


def _offered(config: RelayConfig, flow: FlowConfig) -> tuple[bool, bool]:
    """Two booleans: clients of the flow's listeners can authenticate, and their names are looked up."""
    served = [one.options for one in config.resolved_listeners() if serves(flow, one)]
    return (
        any(not one.auth_disabled for one in served),
        any(not one.disable_reverse_lookup for one in served),
    )


def _described(flow: FlowConfig) -> str:
    filters = f" {flow.filters_operator} ".join(
        f"{label} ({detail})" if (detail := options.described()) else label
        for label, options in flow.labelled_filters()
    )
    outputs = ", ".join(f"{label} ({options.identity()})" for label, options in flow.labelled())
    where = f" on {', '.join(flow.listeners)}" if flow.listeners is not None else ""
    return f"takes what {filters or 'nothing'} accepts{where}; then {outputs or 'nothing'}"


def _availability(config: RelayConfig, flow: FlowConfig, path: str) -> Iterator[Finding]:
    for index, options in enumerate(flow.filters):
        yield from _built(FILTERS, options.type, f"{path}.filters[{index}]")
    # Outputs that a function runs on events are built there.
    for index, output in enumerate(flow.outputs if config.mode == "in-process" else ()):
        yield from _built(OUTPUTS, output.type, f"{path}.outputs[{index}]")


def _built(registry: Registry[Any], kind: str, path: str) -> Iterator[Finding]:
    try:
        registry.builder(kind)
    except NotAvailable as absent:
        cure = f" ({absent.cure})" if absent.cure else ""
        yield error(path, f"{registry.noun} {kind} {absent.what}{cure}")
