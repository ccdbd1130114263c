"""The settings of a stack from `cdk -c NAME=VALUE`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from functions.errors import ConfigError
from infra.bundle.runtime import Platform

DEFAULT_CONFIG: Final = "configs/mail2s3.jsonc"

PARTS: Final = frozenset({"alarms", "autoscaling", "dashboard", "guard", "listener", "rules", "schedule"})
"""The parts that `-c without=…` may omit: some cost money, and emulators refuse some (`rules`: those
between the balancer's security group and the tasks')."""


@dataclass(frozen=True)
class Settings:
    """The context of one stack.

    `config`: the listener's configuration file. `name`: the stack's. `vpc`: the id of an existing
    network. `public`: strangers reach the load balancer (by default unless an output sends mail
    on). `image`: an image to run instead of building one. `ephemeral`: delete everything with the
    stack. `alarm_topic`: ARN of the topic that alarms go to. `environment`: more variables for the
    functions.
    """

    config: Path = Path(DEFAULT_CONFIG)
    name: str = "SmtpRelay"
    vpc: str | None = None
    public: bool | None = None
    image: str | None = None
    ephemeral: bool = False
    alarm_topic: str | None = None
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
    return Settings(
        config=Path(str(context("config") or default.config)),
        name=str(context("name") or default.name),
        vpc=_text(context("vpc")),
        public=_truth("public", context("public")),
        image=_text(context("image")),
        ephemeral=bool(_truth("ephemeral", context("ephemeral"))),
        alarm_topic=_text(context("alarmTopic")),
        platform=platform,
        environment=_variables(context("environment")),
        without=without,
    )


def _text(value: Any) -> str | None:
    return str(value) if value else None


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
