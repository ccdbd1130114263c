"""Rules about senders: outputs that change what they judged, and counts that are not shared."""

from __future__ import annotations

from collections.abc import Iterator

from listener.checks.finding import Finding, Setting, error, note, warning
from listener.config.relay import RelayConfig
from listener.filters.sending.table import TABLE


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Flow by flow: behind a guard of senders no output may name another one."""
    for name, flow in config.flows.items():
        for number, options in enumerate(flow.filters):
            if not options.limits_senders:
                continue
            path = f"flows.{name}.filters[{number}]"
            for index, output in enumerate(flow.outputs):
                if output.sets_sender:
                    where = f"flows.{name}.outputs[{index}].{output.sets_sender}"
                    text = f"names a sender that {options.type} does not judge"
                    yield error(where, f"{text} (write it with mailHeaders, which come before the rules)")
            alone = options.counts_recipients and config.spool.in_bucket and not setting.environ.get(TABLE)
            if alone and config.spool.scheme == "s3":
                if setting.platform is None:  # CDK and Terraform make the table
                    cure = f"name a DynamoDB table in {TABLE}"
                    yield note(f"{path}.rules", f"limits count for each listener alone ({cure})")
            elif alone:
                cure = "divide them by the number of listeners"
                yield warning(f"{path}.rules", f"limits count for each listener alone ({cure})")
