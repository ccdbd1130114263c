"""What each flow takes and where it goes; which flows can never take anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from functions.options.registry import NotAvailable, Registry
from functions.processors.registry import OUTPUTS
from functions.processors.registry import type_of as output_type
from listener.api.filter import FilterOptions
from listener.checks.finding import Finding, Setting, error, note, warning
from listener.checks.strangers import checks_credentials, serves
from listener.config.relay import FlowConfig, RelayConfig
from listener.filters.registry import FILTERS
from listener.filters.registry import type_of as filter_type

_WHITELIST = ("from", "to", "ips", "domains", "subnets")


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Flow by flow: what it takes, what it does, why it never can."""
    if not config.flows:
        yield warning("flows", "there is no flow: every client is refused")
    for name, flow in config.flows.items():
        path = f"flows.{name}"
        yield note(path, _described(flow))
        if reason := never_accepts(config, name, setting.environ):
            yield warning(path, f"takes nothing: {reason}")
        if not flow.outputs:
            yield warning(f"{path}.outputs", "there is no output: what the flow takes goes nowhere")
        yield from _availability(config, flow, path)


def never_accepts(config: RelayConfig, name: str, environ: Mapping[str, str]) -> str:
    """Why a flow can never take a mail; "" when it can."""
    flow = config.flows[name]
    if not flow.filters:
        return "it has no filter"
    listeners = [one for one in config.resolved_listeners() if serves(flow, one)]
    if not listeners:
        return "it serves no listener"
    auth = any(not one.options.auth_disabled for one in listeners)
    names = any(not one.options.disable_reverse_lookup for one in listeners)
    reasons = [_never(options, auth=auth, names=names, environ=environ) for options in flow.filters]
    if flow.filters_operator == "AND":
        for (label, _), reason in zip(flow.labelled_filters(), reasons, strict=True):
            if reason:
                return f"{label} {reason}"
        return ""
    return "" if not all(reasons) else f"each filter fails: the first {reasons[0]}"


def _never(options: FilterOptions, *, auth: bool, names: bool, environ: Mapping[str, str]) -> str:
    kind = filter_type(options)
    if checks_credentials(options) and not auth:
        return "needs AUTH, which no listener offers"
    if kind == "static-auth" and not _has_users(options, environ):
        return "knows no user: give username and password, or set SMTP_USERNAME and SMTP_PASSWORD"
    if kind != "whitelist":
        return ""
    given = [key for key in _WHITELIST if _value(options, key)]
    if not given:
        return "lists nothing"
    if not names and "domains" in given and not {"ips", "subnets"} & set(given):
        return "asks for the client's name, and disableReverseLookup leaves clients without one"
    return ""


def _has_users(options: FilterOptions, environ: Mapping[str, str]) -> bool:
    if _value(options, "users") or _value(options, "htpasswd"):
        return True
    user = _value(options, "username") or environ.get("SMTP_USERNAME")
    return bool(user and (_value(options, "password") or environ.get("SMTP_PASSWORD")))


def _value(options: FilterOptions, key: str) -> Any:
    return getattr(options, "from_" if key == "from" else key, None)


def _described(flow: FlowConfig) -> str:
    filters = f" {flow.filters_operator} ".join(
        f"{label} ({detail})" if (detail := _detail(options)) else label
        for label, options in flow.labelled_filters()
    )
    outputs = ", ".join(f"{label} ({options.identity()})" for label, options in flow.labelled())
    where = f" on {', '.join(flow.listeners)}" if flow.listeners is not None else ""
    return f"takes what {filters or 'nothing'} accepts{where}; then {outputs or 'nothing'}"


def _detail(options: FilterOptions) -> str:
    if filter_type(options) == "whitelist":
        return "; ".join(
            f"{key} {', '.join(map(str, value))}" for key in _WHITELIST if (value := _value(options, key))
        )
    # Where it asks; a URL may hold a token in its path or query.
    return urlsplit(str(getattr(options, "url", ""))).netloc


def _availability(config: RelayConfig, flow: FlowConfig, path: str) -> Iterator[Finding]:
    for index, options in enumerate(flow.filters):
        yield from _built(FILTERS, filter_type(options), f"{path}.filters[{index}]")
    # Outputs that events bring to a function are built there.
    for index, output in enumerate(flow.outputs if config.mode == "in-process" else ()):
        yield from _built(OUTPUTS, output_type(output), f"{path}.outputs[{index}]")


def _built(registry: Registry[Any], kind: str, path: str) -> Iterator[Finding]:
    try:
        registry.builder(kind)
    except NotAvailable as absent:
        cure = f" ({absent.cure})" if absent.cure else ""
        yield error(path, f"{registry.noun} {kind} {absent.what}{cure}")
