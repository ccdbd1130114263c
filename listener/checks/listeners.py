"""Addresses of the listeners, their reach, and secrets in clear text."""

from __future__ import annotations

from collections.abc import Iterator

from listener.checks.finding import Finding, Setting, error, warning
from listener.checks.strangers import keeps_mail_here, knows_users, serves
from listener.config.listeners import Listener, is_every_address, is_loopback
from listener.config.relay import RelayConfig
from listener.config.smtp import SmtpOptions

_SMTP_PORT = 25
_SUBMISSIONS = (465, 10_465)  # behind a balancer the containers' ports are 10,000 higher
_LEAST_MEANT = 100
_NEEDS = {
    "XOAUTH2": "an http-auth filter, which checks the token",
    "CRAM-MD5": "a static-auth filter with plain: passwords",
}


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """Listener by listener, then health and metrics."""
    for listener in config.resolved_listeners():
        yield from _clear_text(config, listener, setting)
        yield from _believed(listener, setting)
        if setting.public and listener.options.max_clients_per_ip is None:
            yield error(
                _path(config, listener),
                "maxClientsPerIp is not set: one address may take every connection that maxClients allows",
            )
        yield from _odd(config, listener)
        announced = listener.options.secure or not listener.options.hide_starttls
        if announced and not listener.options.has_certificate and (listener.exposed or setting.public):
            yield warning(
                _path(config, listener),
                "no key and cert: a self-signed certificate is made at each start, which clients that "
                "verify refuse (give key and cert)",
            )
    yield from _unchecked(config, setting)
    yield from _probes(config, setting)


def _unchecked(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """A required AUTH that accepts any credentials; only a server that keeps all mail to itself may have
    it. An optional AUTH protects nothing, and needs no check."""
    requiring = [one for one in config.resolved_listeners() if one.options.must_authenticate]
    filters = [one for flow in config.flows.values() for one in flow.filters]
    if any(one.checks_credentials or one.any_user for one in filters):
        return
    if any(setting.public or not keeps_mail_here(config, one) for one in requiring):
        yield warning(
            "options",
            "AUTH is required and no filter checks credentials: any name and password are accepted "
            "(add static-auth or http-auth, or set authOptional)",
        )


def sentences(config: RelayConfig) -> Iterator[str]:
    """One sentence for each port: SMTP, health, metrics."""
    for listener in config.resolved_listeners():
        yield _sentence(listener)
    for what, endpoint in (("Health", config.health_endpoint), ("Metrics", config.metrics_endpoint)):
        if endpoint is not None:
            verb = "are" if what == "Metrics" else "is"
            yield f"{what} {verb} served on http://{endpoint.bind}:{endpoint.port}."


def _sentence(listener: Listener) -> str:
    options = listener.options
    tls = "TLS from the first byte" if options.secure else "STARTTLS"
    if options.hide_starttls and not options.secure:
        tls = "STARTTLS not announced"
    if options.starttls_disabled and not options.secure:
        tls = "clear text"
    if options.auth_disabled:
        auth = "no AUTH"
    else:
        after = "" if options.secure or options.clear_text_auth else " after STARTTLS"
        need = "optional" if options.auth_optional else "required"
        auth = f"AUTH {' '.join(options.auth_methods)}{after} ({need})"
    reach = "every address" if is_every_address(listener.bind) else "the network"
    reach = "this machine only" if is_loopback(listener.bind) else reach
    kind = "LMTP" if options.lmtp else "SMTP"
    bind = f"[{listener.bind}]" if ":" in listener.bind else listener.bind
    address = f"{bind}:{listener.port}"
    return f"Listener {listener.name} speaks {kind} on {address} ({reach}), with {tls} and {auth}."


def _clear_text(config: RelayConfig, listener: Listener, setting: Setting) -> Iterator[Finding]:
    options = listener.options
    if options.secure or options.auth_disabled or not options.clear_text_auth:
        return
    if keeps_mail_here(config, listener) and not setting.public:
        return
    said = next(
        words
        for holds, words in (
            (options.allow_insecure_auth, "allowInsecureAuth"),
            (options.hide_starttls, "hideSTARTTLS"),
            (True, "STARTTLS among disabledCommands"),
        )
        if holds
    )
    text = f"listener {listener.name}: {said} lets passwords pass in clear text (remove it)"
    yield error("options", text) if setting.public else warning("options", text)


def _believed(listener: Listener, setting: Setting) -> Iterator[Finding]:
    """A trusted peer without a named address can claim any client address."""
    options = listener.options
    for key, trusted in (
        ("useProxy", options.use_proxy),
        ("useXClient", options.use_xclient),
        ("useXForward", options.use_xforward),
    ):
        if trusted is True and (listener.exposed or setting.public):
            text = (
                f"listener {listener.name}: true trusts every peer, so any client can claim any "
                "address: list the addresses of the proxies"
            )
            yield (error if setting.public else warning)(f"options.{key}", text)


def _odd(config: RelayConfig, listener: Listener) -> Iterator[Finding]:
    options = listener.options
    path = _path(config, listener)
    if listener.port in _SUBMISSIONS and not options.secure:
        yield warning(
            path,
            f"port {listener.port} is for TLS from the first byte (465, RFC 8314), and clients will not "
            'connect without it (add "secure": true)',
        )
    for name, key, value in _short(options):
        place = path if name in listener.own else "options"
        yield warning(f"{place}.{key}", f'{value} is {value} milliseconds (write "{value}s" for seconds)')
    if options.lmtp and listener.port == _SMTP_PORT:
        yield warning(
            path, "LMTP must not be spoken on port 25, RFC 2033 section 5 says (choose another port)"
        )
    checked = {
        name for flow in config.flows.values() for one in flow.filters for name in one.checked_mechanisms
    }
    for mechanism, cure in _NEEDS.items():
        if mechanism in options.auth_methods and mechanism not in checked and not options.auth_disabled:
            yield warning("options.authMethods", f"{mechanism} needs {cure}")
    mine = [one for flow in config.flows.values() if serves(flow, listener) for one in flow.filters]
    if options.must_authenticate and knows_users(config) and not any(one.checks_credentials for one in mine):
        yield warning(
            path,
            "authentication is required, and no flow of this listener checks "
            "credentials (add static-auth to one, or set authOptional)",
        )


def _short(options: SmtpOptions) -> Iterator[tuple[str, str, int]]:
    """Durations of milliseconds that were probably meant as seconds."""
    for name in ("socket_timeout", "close_timeout", "max_data_time"):
        value: int = getattr(options, name)
        if name in options.model_fields_set and 0 < value < _LEAST_MEANT:
            yield name, str(SmtpOptions.model_fields[name].alias), value


def _path(config: RelayConfig, listener: Listener) -> str:
    return config.place_of(listener.name)


def _probes(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    for what, endpoint in (("health", config.health_endpoint), ("metrics", config.metrics_endpoint)):
        if endpoint is None:
            continue
        if what == "metrics" and (setting.public or not is_loopback(endpoint.bind)):
            yield warning(
                "prometheus", "strangers must not reach the metrics (bind them to an address of your network)"
            )
