"""The settings of a stack from `cdk -c NAME=VALUE`."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from functions.errors import ConfigError
from infra.bundle.runtime import Platform

DEFAULT_CONFIG: Final = "configs/mail2s3.jsonc"

PARTS: Final = frozenset(
    {"alarms", "autoscaling", "dashboard", "guard", "listener", "queries", "rules", "schedule"}
)
"""The parts that `-c without=…` may omit: some cost money, and emulators refuse some (`rules`: those
between the balancer's security group and the tasks')."""


_CERTIFICATE: Final = re.compile(r"arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/[0-9a-f-]+")


@dataclass(frozen=True)
class Settings:
    """The context of one stack.

    `config`: the listener's configuration file. `name`: the stack's. `vpc`: the id of an existing
    network. `public`: strangers reach the load balancer. `clients`: networks (CIDR) that reach it.
    `eips`: allocation ids of Elastic IPs, one for each of the balancer's subnets. `zone`, `zone_name`: a
    hosted zone for the names. `image`: an image to run instead of building one. `ephemeral`: delete
    everything with the stack. `alarm_topic`: ARN of the topic that alarms go to. `quiet`: hours without an
    accepted mail that raise an alarm, 0 for none. `environment`: more variables for the functions. `cpu`
    (1,024 for one core), `memory` (MiB), `least` and `most`: the listener's tasks. `function_memory`
    (MB), `function_timeout` (s), `function_subnets`: the function. `certificate`: ARN of an exportable
    certificate of ACM. `tags`: of all resources.
    """

    config: Path = Path(DEFAULT_CONFIG)
    name: str = "SmtpRelay"
    vpc: str | None = None
    public: bool | None = None
    image: str | None = None
    ephemeral: bool = False
    alarm_topic: str | None = None
    quiet: int = 24
    clients: tuple[str, ...] = ()
    eips: tuple[str, ...] = ()
    zone: str | None = None
    zone_name: str | None = None
    cpu: int = 256
    memory: int = 512
    least: int = 2
    most: int = 10
    function_memory: int = 1024
    function_timeout: int = 120
    function_subnets: tuple[str, ...] = ()
    certificate: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    platform: Platform = field(default_factory=Platform)
    environment: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    def has(self, part: str) -> bool:
        """True if the stack includes a part."""
        return part not in self.without


def read_settings(context: Callable[[str], Any]) -> Settings:
    """The settings; `context` gives the value of a name, else None. Raises ConfigError."""
    default = Settings()
    without = frozenset(filter(None, str(context("without") or "").split(",")))
    if unknown := without - PARTS:
        raise ConfigError(f"-c without={min(unknown)}", "is not one", f"parts are {', '.join(sorted(PARTS))}")
    platform = Platform(
        python=str(context("python") or default.platform.python),
        arch=str(context("arch") or default.platform.arch),
    )
    settings = Settings(
        config=Path(str(context("config") or default.config)),
        name=str(context("name") or default.name),
        vpc=_text(context("vpc")),
        public=_truth("public", context("public")),
        image=_text(context("image")),
        ephemeral=bool(_truth("ephemeral", context("ephemeral"))),
        alarm_topic=_text(context("alarmTopic")),
        quiet=_number("quiet", context("quiet"), default.quiet, 0, 24),
        clients=tuple(_network(one) for one in _list(context("clients"))),
        eips=tuple(_list(context("eips"))),
        zone=_text(context("zone")),
        zone_name=_text(context("zoneName")),
        cpu=_number("cpu", context("cpu"), default.cpu, 256, 16_384),
        memory=_number("memory", context("memory"), default.memory, 512, 122_880),
        least=_number("least", context("least"), default.least, 1, 1_000),
        most=_number("most", context("most"), default.most, 1, 1_000),
        function_memory=_number("functionMemory", context("functionMemory"), 1024, 512, 10_240),
        function_timeout=_number("functionTimeout", context("functionTimeout"), 120, 60, 900),
        function_subnets=tuple(_list(context("functionSubnets"))),
        certificate=_certificate(_text(context("certificate"))),
        tags=_variables(context("tags")),
        platform=platform,
        environment=_variables(context("environment")),
        without=without,
    )
    if settings.least > settings.most:
        raise ConfigError("-c least", f"is {settings.least}, more than most, which is {settings.most}")
    if settings.function_subnets and settings.vpc is None:
        raise ConfigError("-c functionSubnets", "names subnets of no network", "say -c vpc=ID")
    if (settings.zone is None) != (settings.zone_name is None):
        raise ConfigError("-c zone", "goes with -c zoneName", "say the zone's id and its name")
    if settings.public is False and settings.eips:
        raise ConfigError("-c eips", "are addresses for strangers", "omit them, or say -c public=true")
    if settings.public is False and settings.vpc is None and not settings.clients:
        raise ConfigError(
            "-c public=false",
            "the new network has no clients in it, so no application could reach the load balancer",
            "say -c vpc=ID of the applications, or -c clients=CIDR,… of networks that you connect to it",
        )
    return settings


def _text(value: Any) -> str | None:
    return str(value) if value else None


def _list(value: Any) -> list[str]:
    """The command line gives text with commas, cdk.json lists."""
    return (
        [str(one) for one in value]
        if isinstance(value, list)
        else [*filter(None, str(value or "").split(","))]
    )


def _network(text: str) -> str:
    try:
        return str(ipaddress.IPv4Network(text.strip()))
    except ValueError as error:
        raise ConfigError(f"-c clients={text}", str(error), "give IPv4 networks, like 10.0.0.0/8") from error


def _certificate(text: str | None) -> str | None:
    if text is not None and not _CERTIFICATE.fullmatch(text):
        raise ConfigError(
            f"-c certificate={text}",
            "is no ARN of a certificate in ACM",
            "give arn:aws:acm:REGION:ACCOUNT:certificate/ID, of the stack's region",
        )
    return text


def _number(name: str, value: Any, default: int, least: int, most: int) -> int:
    if value is None:
        return default
    text = str(value)
    if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
        raise ConfigError(f"-c {name}={text}", f"is not a number from {least} to {most}")
    return int(text)


def _truth(name: str, value: Any) -> bool | None:
    """The command line gives strings, cdk.json booleans."""
    if value is None or isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return bool(value == "true")
    raise ConfigError(f"-c {name}={value}", "is neither true nor false")


def _variables(value: Any) -> dict[str, str]:
    found = json.loads(value) if isinstance(value, str) else (value or {})
    return {str(name): str(text) for name, text in found.items()}
