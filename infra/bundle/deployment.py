"""The settings of a configuration's deployment on AWS; CDK and Terraform build from the same ones."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from functions.aws.output.options import AwsOutputOptions
from functions.delivery.build import needs_receipts
from functions.errors import ConfigError
from functions.options.spool import SpoolOptions
from functions.processors.mailer.options import MailerOutputOptions
from listener.checks.finding import Finding, Setting
from listener.checks.report import CheckReport
from listener.config.load import load, read
from listener.config.relay import RelayConfig
from listener.server.mistakes import attempt

SMTP: Final = 25
SUBMISSIONS: Final = 465  # RFC 8314 section 3.3: TLS from the first byte
SUBMISSION: Final = 587
_SHIFT: Final = 10_000
"""The offset of privileged ports in the container, because its user may not open them."""

HEALTH: Final = 9090

CLOSE_TIMEOUT: Final = 60_000
"""Milliseconds that a stopping listener gives its clients: less than the balancer's deregistration (90
s) and the container's time to stop (120 s)."""

CLIENTS_PER_ADDRESS: Final = 50
"""`maxClientsPerIp` if strangers reach the balancer and the file has no other value."""

MAX_PORTS: Final = 5
"""Target groups of a service (docs.aws.amazon.com, "Registering multiple target groups with a service")."""

CONCURRENCY: Final = 50
"""Instances of the function by default, because a burst would otherwise take the account's whole quota of
1,000 from its other functions."""

MAILER_CONCURRENCY: Final = 10
"""The same with a `mailer`: smarthosts allow 10 to 50 sessions."""

_UNKNOWN_RATE: Final = 14.0
"""The default of maxSendRate: recipients a second that most accounts may send to outside of the
sandbox."""


def sends_mail(config: RelayConfig) -> bool:
    """True if an output sends mail on, so strangers must not reach the listener."""
    return any(output.sends_on for flow in config.flows.values() for output in flow.outputs)


def concurrency(config: RelayConfig) -> int:
    """Most mails that the function delivers at a time, on both clouds: two at least."""
    outputs = [output for flow in config.flows.values() for output in flow.outputs]
    mails = any(isinstance(output, MailerOutputOptions) for output in outputs)
    whole = config.delivery.concurrency or (MAILER_CONCURRENCY if mails else CONCURRENCY)
    return max(2, min([whole, *(output.concurrency or whole for output in outputs)]))


def with_limit(config: RelayConfig) -> RelayConfig:
    """The configuration of a listener that strangers reach: `maxClientsPerIp` is CLIENTS_PER_ADDRESS
    if the file has no other value."""
    if "max_clients_per_ip" in config.options.model_fields_set:
        return config
    options = config.options.model_copy(update={"max_clients_per_ip": CLIENTS_PER_ADDRESS})
    return config.model_copy(update={"options": options})


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the load balancer, and the container's port behind it."""

    name: str
    outside: int
    inside: int


@dataclass(frozen=True)
class Deployment:
    """One configuration, ready to be deployed."""

    path: Path
    config: RelayConfig
    ports: tuple[Port, ...]
    listener_config: str
    """The configuration as JSON, for `SMTP_RELAY_CONFIG_JSON` of the listener."""
    listeners: str
    """JSON, for `SMTP_RELAY_LISTENERS`."""
    public: bool = True
    """True if strangers reach the load balancer."""
    warnings: tuple[str, ...] = ()

    @property
    def spool(self) -> SpoolOptions:
        """Prefix and encryption of the spool; the bucket's name is the deployment's."""
        return self.config.spool

    @property
    def prefix(self) -> str:
        """The prefix of keys in the spool's bucket: "" or a path that ends in `/`."""
        return self.config.spool.prefix

    @property
    def needs_receipts(self) -> bool:
        """True if an output needs receipts, and so a table for them."""
        return needs_receipts(self.config)

    @property
    def needs_limits(self) -> bool:
        """True if a filter counts recipients, and so a table that the listeners share."""
        return self.config.counts_recipients

    @property
    def sends_mail(self) -> bool:
        """True if an output sends mail on, so strangers must not reach the listener."""
        return sends_mail(self.config)

    @property
    def has_certificate(self) -> bool:
        """True if the file names a certificate for the listener."""
        return any(one.options.cert or one.options.pfx for one in self.config.resolved_listeners())

    @property
    def certificate_secret(self) -> str | None:
        """Name or ARN of the secret of Secrets Manager that holds certificate and key of every listener that
        has one; None for none, or several."""
        certificates = {
            one.options.cert
            for one in self.config.resolved_listeners()
            if one.options.cert is not None
            and one.options.cert.scheme == "secretsmanager"
            and one.options.key in (None, one.options.cert)
        }
        return certificates.pop().shown.partition(":")[2] if len(certificates) == 1 else None

    @property
    def buses(self) -> list[str]:
        """The ARNs of the EventBridge buses that outputs publish to."""
        found = (output for flow in self.config.flows.values() for output in flow.outputs)
        targets = (one.pubsub for one in found if isinstance(one, AwsOutputOptions))
        return sorted({one.topic for one in targets if one is not None and one.service == "events"})

    @property
    def concurrency(self) -> int:
        """Most concurrent instances of the function."""
        return min(concurrency(self.config), self.ses_concurrency or 1000)

    @property
    def ses_concurrency(self) -> int | None:
        """Most instances that may share SES's rate; None if no output sends through SES."""
        found = [
            output.ses
            for flow in self.config.flows.values()
            for output in flow.outputs
            if isinstance(output, AwsOutputOptions) and output.ses is not None
        ]
        if not found:
            return None
        rate = max(one.max_send_rate or _UNKNOWN_RATE for one in found)
        return min(1000, max(2, math.ceil(rate * 0.25)))  # SQS takes 2 to 1,000


def read_deployment(path: Path, *, public: bool | None = None) -> Deployment:
    """Read a configuration and check that it can be deployed. `public` says if strangers reach the load
    balancer; None means yes, and is refused if an output sends mail on. It is never derived from the outputs,
    because a new output would then replace the balancer. Raises ConfigError."""
    raw = read(path, {}).value
    raw.pop("$schema", None)
    spool = raw.get("spool")
    url = spool.get("url", "") if isinstance(spool, dict) else (spool or "")
    environ = {
        "SMTP_RELAY_DEFAULT_BIND": "0.0.0.0",  # noqa: S104 - the task's own address
        "SMTP_RELAY_TRUSTED_PROXIES": "10.0.0.0/8",  # a placeholder for the balancer's subnets
    }
    if not str(url).startswith("s3://"):
        environ["SMTP_RELAY_SPOOL"] = "s3://the-spool"
    listeners, ports = _ports(raw)
    environ["SMTP_RELAY_LISTENERS"] = json.dumps(listeners)
    config = load(path, environ)
    deployment = Deployment(path, config, ports, "", json.dumps(listeners, separators=(",", ":")))
    if public is None and deployment.sends_mail:
        raise ConfigError(
            str(path),
            "an output sends mail on, and it is not said whether strangers may reach the load balancer",
            "say public=true or public=false (cdk: -c public=false, infra.bundle.aws: --public false)",
        )
    reached = public is not False
    defaults: dict[str, Any] = {"closeTimeout": CLOSE_TIMEOUT}
    if reached:
        config = with_limit(config)
        defaults["maxClientsPerIp"] = CLIENTS_PER_ADDRESS
    deployment = replace(
        deployment, config=config, listener_config=_listener_config(raw, defaults), public=reached
    )
    setting = Setting.of(path.parent, {}, public=reached, platform="fargate")
    return replace(deployment, warnings=examine(path, config, setting, _unreachable(config)))


def _ports(raw: Mapping[str, Any]) -> tuple[list[dict[str, Any]], tuple[Port, ...]]:
    """The listeners in the container and their ports at the load balancer. The file's listeners keep
    their names; without any there are the three ports of SMTP."""
    given = raw.get("listeners")
    if not isinstance(given, list) or not given:
        given = [{"port": SMTP}, {"port": SUBMISSIONS, "secure": True}, {"port": SUBMISSION}]
    listeners: list[dict[str, Any]] = []
    ports: list[Port] = []
    for one in given:
        outside = (
            one["port"] - _SHIFT if one["port"] - _SHIFT in (SMTP, SUBMISSIONS, SUBMISSION) else one["port"]
        )
        inside = outside + _SHIFT if outside < 1024 else outside
        name = one.get("name", str(one["port"]))
        kept = {key: value for key, value in one.items() if key != "bind"}
        listeners.append({**kept, "name": name, "port": inside, "useProxy": True})
        ports.append(Port(name, outside, inside))
    twice = {port.outside for port in ports if [each.outside for each in ports].count(port.outside) > 1}
    if twice:
        raise ConfigError("listeners", f"two have the port {min(twice)} at the load balancer")
    if len(ports) > MAX_PORTS:
        raise ConfigError(
            "listeners",
            f"there are {len(ports)}, and a service on ECS takes {MAX_PORTS}",
            "use fewer, or a second deployment",
        )
    return listeners, tuple(ports)


def _listener_config(raw: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The file's content with the deployment's defaults: JSON logs, and those of options."""
    value = {key: item for key, item in raw.items() if key not in {"port", "bind", "listeners"}}
    options = value["options"] = {**defaults, **(value.get("options") or {})}
    if "loggers" not in value and "loggers" not in options:
        value["loggers"] = [{"type": "CONSOLE", "format": "json"}]
    # CloudFormation and Terraform read ${ as their own variable.
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("${", "\\u0024{")


def examine(
    path: Path, config: RelayConfig, setting: Setting, more: Iterable[Finding] = ()
) -> tuple[str, ...]:
    """Warnings for the operator, on both clouds. Raises ConfigError for a configuration that must not be
    deployed, with `more` errors of the caller."""

    def lines(findings: Iterable[Finding]) -> list[str]:
        return [f"{one.where}: {one.text}".removeprefix(f"{config.source}: ") for one in findings]

    tried = attempt(config, setting, offline=True)
    report = CheckReport.of(config, setting, errors=tried.errors, warnings=tried.warnings)
    errors = lines([*report.errors, *more])
    if errors:
        raise ConfigError(str(path), "; ".join(dict.fromkeys(errors)))
    return tuple(lines(report.warnings))


def _unreachable(config: RelayConfig) -> list[Finding]:
    """Secrets that a task on Fargate cannot read, or that its definition would expose."""
    from infra.access.aws.secrets import listener_secrets, refusal

    return [
        Finding("error", path, reason)
        for path, secret in listener_secrets(config)
        if (reason := refusal(secret)) is not None
    ]
