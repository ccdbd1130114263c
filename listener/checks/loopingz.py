"""The intended differences from loopingz/smtp-relay that concern this file (docs/migrating.md)."""

from __future__ import annotations

from collections.abc import Iterator

from functions.options.types import Breaking
from listener.api.filter import FilterOptions
from listener.config.listeners import is_every_address
from listener.config.relay import FlowConfig, RelayConfig


def ordered(config: RelayConfig) -> Iterator[str]:
    """The differences, marked: first those that break what worked, then those that are good to know."""
    found = list(differences(config))
    yield from (f"breaks: {line}" for line in found if isinstance(line, Breaking))
    yield from (f"to know: {line}" for line in found if not isinstance(line, Breaking))


def differences(config: RelayConfig) -> Iterator[str]:
    """One line for each difference, with the part of the file that it concerns."""
    for name, flow in config.flows.items():
        yield from _of_flow(config, f"flows.{name}", flow)
    if _could_pass_otherwise(config):
        yield Breaking(
            "flows: a wrong password is refused (535) even while the mail could still be taken without it"
        )
    yield from _of_listeners(config)
    yield from _of_mail(config)
    yield from _of_loggers(config)


def _of_flow(config: RelayConfig, path: str, flow: FlowConfig) -> Iterator[str]:
    if flow.filters_operator == "AND" and any(one.checks_credentials for one in flow.filters):
        yield Breaking(
            f"{path}: AND means every filter: a client that never authenticates is refused, where the "
            "reference let it pass static-auth"
        )
    if flow.filters_operator == "OR":
        yield Breaking(
            f"{path}: OR is decided for each recipient and each mail: one accepted mail lets no later "
            "recipient through"
        )
    for index, options in enumerate(flow.filters):
        yield from _of_filter(f"{path}.filters[{index}]", options)
    for output in flow.outputs:
        yield from (_at(path, line) for line in output.loopingz_differences)
    awaited = any(output.local or config.delivery.wait_for == "all" for output in flow.outputs)
    if awaited and config.mode == "in-process":
        yield f"{path}: when every output failed for good before the answer, it is 554 and nothing is kept"


def _could_pass_otherwise(config: RelayConfig) -> bool:
    """True if a filter checks credentials, and a mail may be taken with any credentials."""
    flows = [flow for flow in config.flows.values() if any(one.checks_credentials for one in flow.filters)]
    beside = any(flow.filters_operator == "OR" and len(flow.filters) > 1 for flow in flows)
    return bool(flows) and (len(config.flows) > 1 or beside)


def _of_filter(path: str, options: FilterOptions) -> Iterator[str]:
    if options.asks_others:
        what = "defers (451, or 454 for AUTH) when it cannot decide; nothing ends the process"
        yield f"{path}: {options.type} {what}"
    if options.judges_content:
        yield f"{path}: a refusal after DATA is 550, where the reference said 450"
    yield from (_at(path, line) for line in options.loopingz_differences())


def _at(path: str, line: str) -> str:
    return Breaking(f"{path}: {line}") if isinstance(line, Breaking) else f"{path}: {line}"


def _of_listeners(config: RelayConfig) -> Iterator[str]:
    if config.listeners:
        pass  # the reference has only one port
    elif config.bind is None:
        yield Breaking("bind: the default is 127.0.0.1 here; the reference listened on every address")
    elif not is_every_address(config.bind):
        yield Breaking(f"bind: {config.bind} is honoured; the reference listened on every address")
    else:
        yield f"bind: {config.bind} is honoured; the reference listened on every address"
    given = "size" in config.options.model_fields_set
    limit = f"{config.options.size} bytes" + ("" if given else " (the default)")
    yield Breaking(f"options.size: {limit} is enforced while a mail is received (552)")


def _of_loggers(config: RelayConfig) -> Iterator[str]:
    for index, logger in enumerate(config.log_outputs or ()):
        if logger.type == "FILE" and logger.size_limit and logger.keep is not None:
            yield (
                f"loggers[{index}].keep: a rotation keeps the newest {logger.keep} rotated files; the "
                "reference removed none (null keeps all)"
            )


def _of_mail(config: RelayConfig) -> Iterator[str]:
    names = ", ".join(config.mail_headers)
    if names:
        yield (
            f"mailHeaders: {names}: edits apply to every mail, and names are compared without "
            "regard to case; the reference's found nothing to edit in CRLF mail"
        )
    if any(listener.options.received for listener in config.resolved_listeners()):
        yield "options.received: a Received: field is added to every mail (false turns it off)"
    yield "every mail: 250 is answered only when the mail is safe in the spool"
