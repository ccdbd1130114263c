"""The mails and outputs of each flow; flows that can never take a mail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from functions.message.text import listed
from listener.checks.finding import Finding, Setting, warning
from listener.checks.strangers import serves
from listener.config.inbox import RELEASE
from listener.config.relay import FlowConfig, RelayConfig


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """For each flow the reason if it never takes a mail, or does nothing with it."""
    if not config.flows:
        yield warning("flows", "there is no flow, so every client is refused (add one)")
    for name, flow in config.flows.items():
        path = f"flows.{name}"
        if _is_of_release(config, name):
            continue
        if reason := never_accepts(config, name, setting.environ):
            yield warning(path, f"takes nothing: {reason}")
        auth, names = _offered(config, flow)
        for index, options in enumerate(flow.filters):
            idle = options.guard and options.never_accepts(setting.environ, auth=auth, names=names)
            if idle:
                yield warning(f"{path}.filters[{index}]", f"never objects: it {idle}")
        if not flow.outputs:
            yield warning(f"{path}.outputs", "there is no output, so the flow's mails go nowhere (add one)")


def never_accepts(config: RelayConfig, name: str, environ: Mapping[str, str]) -> str:
    """The reason why a flow can never take a mail; "" if it can."""
    flow = config.flows[name]
    if not flow.filters:
        return "it has no filter (add a whitelist or another one)"
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


def sentences(config: RelayConfig) -> Iterator[str]:
    """What each flow takes, from whom, and does with it, in one sentence."""
    for name, flow in config.flows.items():
        yield sentence(name, flow, released=_is_of_release(config, name))


def _is_of_release(config: RelayConfig, name: str) -> bool:
    """True for the flow that `inbox.release` makes: its mails come from users of the inbox, and from no
    client."""
    return name == RELEASE and config.inbox is not None and config.inbox.release is not None


def sentence(name: str, flow: FlowConfig, *, released: bool = False) -> str:
    """The sentence about one flow; `released` says that it is the flow of `inbox.release`."""
    text = "mail that users of the inbox release" if released else _taken(flow)
    done = listed([output.effect for output in flow.outputs], most=9, joint="and")
    return f"Flow {name} takes {text}; it {done or 'keeps none'}."


def _taken(flow: FlowConfig) -> str:
    """The mail that a flow takes from clients."""
    operator = flow.filters_operator
    takes = [one.described(operator) for one in flow.filters if not one.guard]
    objects = [one.described(operator) for one in flow.filters if one.guard]
    mail = f" {'or' if operator == 'OR' else 'and'} ".join(takes)
    text = f"mail {mail}" if takes else "no mail"
    if takes and objects:
        text += f", but none {listed(objects)}"
    if flow.listeners:
        text += f", on {'listener' if len(flow.listeners) == 1 else 'listeners'} {listed(flow.listeners)}"
    elif flow.listeners is not None:
        text += ", on no listener"
    return text
