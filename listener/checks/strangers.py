"""Checks if an unknown client gets through a flow's filters, and which outputs it then reaches."""

from __future__ import annotations

from collections.abc import Iterator

from listener.checks.finding import Finding, Setting, error, warning
from listener.config.listeners import Listener
from listener.config.relay import FlowConfig, RelayConfig


def serves(flow: FlowConfig, listener: Listener) -> bool:
    """True if the flow takes mail of that listener."""
    return flow.listeners is None or listener.name in flow.listeners


def keeps_mail_here(config: RelayConfig, listener: Listener) -> bool:
    """True if all mail of that listener stays on this machine: a debug server, whose passwords protect
    nothing."""
    flows = [flow for flow in config.flows.values() if serves(flow, listener)]
    return all(output.local for flow in flows for output in flow.outputs)


def knows_users(config: RelayConfig) -> bool:
    """True if AUTH tells right credentials from wrong ones: some filter checks them, and none accepts
    any credentials."""
    filters = [one for flow in config.flows.values() for one in flow.filters]
    return any(one.checks_credentials for one in filters) and not any(one.any_user for one in filters)


def stranger_passes(config: RelayConfig, name: str, listener: Listener) -> bool:
    """True if a client without valid credentials, from anywhere, can send a mail through the listener
    that the flow takes (clients that an HTTP endpoint accepts count as known)."""
    flow = config.flows[name]
    if not serves(flow, listener) or (listener.options.must_authenticate and knows_users(config)):
        return False
    operator = flow.filters_operator
    if any(one.guard and one.identifies(operator) for one in flow.filters):
        return False
    passes = [not one.identifies(operator) for one in flow.filters if not one.guard]
    return bool(passes) and (all(passes) if operator == "AND" else any(passes))


def recipients_limited(flow: FlowConfig) -> bool:
    """True if filters limit the recipients of all mails that the flow takes."""
    limits = [one.limits_recipients for one in flow.filters if not one.guard]
    return bool(limits) and (any(limits) if flow.filters_operator == "AND" else all(limits))


def scripted(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Filters that answer clients by a script: for tests, and not for strangers."""
    make = error if setting.public else warning
    for name, flow in config.flows.items():
        for index, options in enumerate(flow.filters):
            if options.for_tests:
                text = "answers clients by a script, for tests: mail may be refused without a reason"
                yield make(
                    f"flows.{name}.filters[{index}]", f"{text} (remove it from a server for real mail)"
                )


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Scripted answers, and outputs that send mail on and that unknown clients can reach."""
    yield from scripted(config, setting)
    for name, flow in config.flows.items():
        reached = [
            one.name
            for one in config.resolved_listeners()
            if (setting.public or one.exposed) and stranger_passes(config, name, one)
        ]
        if not reached:
            continue
        for index, output in enumerate(flow.outputs):
            if not output.sends_on:
                continue
            whom = "the recipients it lists" if recipients_limited(flow) else "anybody: an open relay"
            text = f"a stranger on {', '.join(reached)} can send through {output.sends_on} to {whom}"
            cure = "add static-auth or http-auth, limit ips or subnets, or require authentication"
            make = error if setting.public else warning
            yield make(f"flows.{name}.outputs[{index}]", f"{text} ({cure})")
