"""The differences from loopingz/smtp-relay that touch a file, on purpose (SPEC section 3)."""

from __future__ import annotations

from collections.abc import Iterator

from functions.processors.registry import LOCAL
from functions.processors.registry import type_of as output_type
from listener.api.filter import FilterOptions
from listener.checks.strangers import checks_credentials
from listener.config.relay import FlowConfig, RelayConfig
from listener.filters.registry import type_of as filter_type

_ASKS_OTHERS = frozenset({"http-auth", "http-filter", "mail-auth"})
_AFTER_DATA = frozenset({"http-filter", "mail-auth"})
_REGEXP = "regexp:"


def differences(config: RelayConfig) -> Iterator[str]:
    """One line for each difference, with the part of the file that it touches."""
    for name, flow in config.flows.items():
        yield from _of_flow(config, f"flows.{name}", flow)
    if _could_pass_otherwise(config):
        yield "flows: a wrong password is refused (535) even while the mail could still be taken without it"
    yield from _of_listeners(config)
    yield from _of_mail(config)


def _of_flow(config: RelayConfig, path: str, flow: FlowConfig) -> Iterator[str]:
    if flow.filters_operator == "AND" and any(checks_credentials(one) for one in flow.filters):
        yield (
            f"{path}: AND means every filter: a client that never authenticates is refused, where the "
            "reference let it pass static-auth"
        )
    if flow.filters_operator == "OR":
        yield (
            f"{path}: OR is decided for each recipient and each mail: one accepted mail lets no later "
            "recipient through"
        )
    if any(_values(one, "to") for one in flow.filters):
        yield f"{path}: a refused RCPT concerns that recipient alone: the mail goes to the others"
    for index, options in enumerate(flow.filters):
        yield from _of_filter(f"{path}.filters[{index}]", options)
    kinds = {output_type(one) for one in flow.outputs}
    if kinds & {"mailer", "nodemailer"}:
        yield (
            f"{path}: the mailer forwards the mail unchanged, to the envelope's recipients instead of "
            "those in its header"
        )
    if "file" in kinds:
        yield f"{path}: file names are unique: a taken name gets a suffix instead of being overwritten"
    awaited = kinds & LOCAL or (kinds and config.delivery.wait_for == "all")
    if awaited and config.mode == "in-process":
        yield f"{path}: when every output failed for good before the answer, it is 554 and nothing is kept"


def _could_pass_otherwise(config: RelayConfig) -> bool:
    """Whether something checks credentials, and a mail may be taken whatever it says of them."""
    flows = [flow for flow in config.flows.values() if any(map(checks_credentials, flow.filters))]
    beside = any(flow.filters_operator == "OR" and len(flow.filters) > 1 for flow in flows)
    return bool(flows) and (len(config.flows) > 1 or beside)


def _of_filter(path: str, options: FilterOptions) -> Iterator[str]:
    kind = filter_type(options)
    if kind in _ASKS_OTHERS:
        yield f"{path}: {kind} defers (451, or 454 for AUTH) when it cannot decide; nothing ends the process"
    if kind in _AFTER_DATA:
        yield f"{path}: a refusal after DATA is 550, where the reference said 450"
    if kind != "whitelist":
        return
    values = [value for key in ("from", "to", "ips", "domains") for value in _values(options, key)]
    if any(value.startswith(_REGEXP) for value in values):
        yield (
            f"{path}: regexps match the whole value (anchored at both ends), without lookaround or "
            "backreferences"
        )
    if any(not value.startswith(_REGEXP) for value in values):
        yield f"{path}: exact values are compared without regard to case"
    if _values(options, "domains"):
        yield f"{path}.domains: a client's reverse name counts only when it leads back to its address"


def _of_listeners(config: RelayConfig) -> Iterator[str]:
    if config.listeners:
        pass  # the reference knows one port only
    elif config.bind is None:
        yield "bind: not given means 127.0.0.1 here; the reference listened on every address"
    else:
        yield f"bind: {config.bind} is honoured; the reference listened on every address"
    given = "size" in config.options.model_fields_set
    limit = f"{config.options.size} octets" + ("" if given else " (the default)")
    yield f"options.size: {limit} is enforced while a mail comes in (552)"


def _of_mail(config: RelayConfig) -> Iterator[str]:
    names = ", ".join(config.mail_headers)
    if names:
        yield (
            f"mailHeaders: {names}: edits take effect on every mail, and names are compared without "
            "regard to case; the reference's found nothing to edit in CRLF mail"
        )
    if any(listener.options.received for listener in config.resolved_listeners()):
        yield "options.received: a Received: field is added to every mail (false turns it off)"
    yield "every mail: 250 is answered only when the mail is safe in the spool"


def _values(options: FilterOptions, key: str) -> tuple[str, ...]:
    found: tuple[object, ...] = getattr(options, "from_" if key == "from" else key, None) or ()
    return tuple(map(str, found)) if filter_type(options) == "whitelist" else ()
