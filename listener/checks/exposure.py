"""What a stranger can reach, for `check --public`."""

from __future__ import annotations

from collections.abc import Iterator

from functions.processors.base import OutputOptions
from functions.processors.registry import type_of
from listener.checks.finding import Finding, Setting, error, warning
from listener.checks.strangers import recipients_limited, stranger_passes
from listener.config.relay import RelayConfig


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Outputs that send mail on, reached by clients that nobody knows."""
    for name, flow in config.flows.items():
        reached = [
            one.name
            for one in config.resolved_listeners()
            if (setting.public or one.exposed) and stranger_passes(config, name, one)
        ]
        if not reached:
            continue
        for index, output in enumerate(flow.outputs):
            if (sends := _sends(output)) is None:
                continue
            whom = "the recipients it lists" if recipients_limited(flow) else "anybody: an open relay"
            text = f"a stranger on {', '.join(reached)} can send through {sends} to {whom}"
            cure = "add static-auth or http-auth, limit ips or subnets, or require authentication"
            make = error if setting.public else warning
            yield make(f"flows.{name}.outputs[{index}]", f"{text} ({cure})")


def _sends(output: OutputOptions) -> str | None:
    """What sends the mail on; None for outputs that do not."""
    kind = type_of(output)
    if kind in {"mailer", "nodemailer"}:
        return "the mailer"
    return "SES" if getattr(output, "ses", None) is not None else None
