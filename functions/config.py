"""The configuration as the delivering half reads it: flows with their outputs, spool, delivery.

The listener reads the same file as `RelayConfig`, which adds filters and server options and knows
every key. This half ignores unknown keys, because the listener checks them.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from functions.errors import ConfigError
from functions.options.environment import ignored, variable
from functions.options.jsonc import NotJson, parse
from functions.options.retry import RetryOptions
from functions.options.secrets import Secret
from functions.options.spool import DEFAULT_FOLDER, SpoolOptions
from functions.options.types import Label, Milliseconds, OptionsModel, TemplateText
from functions.processors.base import OutputOptions
from functions.processors.registry import AnyOutput

log: Final = logging.getLogger("smtp_relay.function")

C = TypeVar("C", bound="DeliveryConfig")

DeliveryMode = Literal["in-process", "events"]


class DeliveryOptions(OptionsModel):
    """Where outputs run, and their retries."""

    mode: DeliveryMode | None = None
    """This process delivers, or a function that the bucket's events start. Default: `in-process` for a
    folder, `events` for a bucket."""

    wait: Milliseconds = 10_000
    """Time that a reply waits for the first attempts of `waitFor`."""

    wait_for: Literal["local", "all"] = "local"
    """Outputs to wait for: `local` is `file` and `log`."""

    retry: RetryOptions = RetryOptions()
    """Waits between attempts."""

    give_up_after: Milliseconds = 259_200_000
    """Time after which a failing output becomes a dead record."""

    concurrency: Annotated[int, Field(ge=2, le=1_000)] | None = None
    """Mails that are delivered at a time: threads of this process, or instances of the function. Default: 50,
    10 with a `mailer`, 8 threads; SES's send rate may lower it."""

    on_doubt: Literal["resend", "dead-letter"] = "resend"
    """For a call that is not safe to repeat and got no answer: `resend` risks a second mail."""


class DeliveryFlow(OptionsModel):
    """A flow as the delivering half sees it."""

    model_config = ConfigDict(extra="ignore")

    outputs: tuple[AnyOutput, ...] = ()
    """Each runs once, independently."""

    @model_validator(mode="after")
    def _told_apart(self) -> DeliveryFlow:
        first: dict[str, int] = {}
        for index, output in enumerate(self.outputs):
            if (same := first.setdefault(output.identity(), index)) != index:
                raise ValueError(
                    f"outputs[{index}] and outputs[{same}] cannot be told apart in receipts: "
                    "give one of them another name"
                )
            if misfit := output.misfit(self.outputs):
                raise ValueError(f"outputs[{index}]{misfit}")
        return self

    def labelled(self) -> tuple[tuple[str, OutputOptions], ...]:
        """The outputs with their labels in metrics and logs: their name, else `TYPE_INDEX`."""
        return tuple((label_of(output, index), output) for index, output in enumerate(self.outputs))


class Labelled(Protocol):
    """Options of a filter or output."""

    @property
    def name(self) -> str | None: ...

    @property
    def type(self) -> str: ...


def label_of(options: Labelled, index: int) -> str:
    """The label of the filter or output at this index of its list: its name, else `TYPE_INDEX`."""
    return options.name or f"{options.type}_{index}"


def _spool(value: Any) -> Any:
    return {"url": value} if isinstance(value, str) else value


Spool = Annotated[SpoolOptions, BeforeValidator(_spool, json_schema_input_type=SpoolOptions | str)]


class DeliveryConfig(OptionsModel):
    """The part of the configuration that the delivering half needs."""

    model_config = ConfigDict(extra="ignore")

    flows: Mapping[Label, DeliveryFlow]
    """The flows by name."""

    spool: Spool = SpoolOptions()
    """Keeps accepted mail until every output is done; text is its `url`. Default: the folder `.smtp-relay`,
    beside `cachePath` if set."""

    delivery: DeliveryOptions = DeliveryOptions()
    """Where outputs run, and their retries."""

    cache_path: TemplateText = ".email_${iso8601}_${id}.eml"
    """Its folder holds the default spool and large mails while they arrive; `keepCache` keeps copies at this
    path."""

    keep_cache: bool = False
    """Keep a copy of each finished mail at `cachePath`; in a bucket below `kept/`."""

    log_addresses: bool | None = None
    """Log addresses, subjects and Message-IDs at INFO."""

    @model_validator(mode="before")
    @classmethod
    def _spool_beside_cache(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        cache, spool = value.get("cachePath"), value.get("spool")
        placed = isinstance(spool, str) or (isinstance(spool, Mapping) and "url" in spool)
        if not isinstance(cache, str) or placed or not (spool is None or isinstance(spool, Mapping)):
            return value
        folder = cache.partition("${")[0].rpartition("/")
        if not folder[1]:
            return value
        return {**value, "spool": {**(spool or {}), "url": f"file://{folder[0]}/{DEFAULT_FOLDER}"}}

    @property
    def mode(self) -> DeliveryMode:
        """The process that runs the outputs: `mode` as configured, or its default."""
        return self.delivery.mode or ("events" if self.spool.in_bucket else "in-process")

    def outputs(self) -> list[tuple[str, OutputOptions]]:
        """The outputs of all flows, by their paths in the file."""
        return [
            (f"flows.{name}.outputs[{index}]", output)
            for name, flow in self.flows.items()
            for index, output in enumerate(flow.outputs)
        ]

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the configuration with defaults filled in and without secrets."""
        text = json.dumps(_plain(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: object) -> Any:
    """A configuration's value as JSON values; secrets appear only in the form that may be shown."""
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        return {field.alias or name: _plain(getattr(value, name)) for name, field in fields.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | frozenset | set):
        return [_plain(item) for item in value]
    if isinstance(value, Secret):
        return value.shown
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def load_delivery(path: Path, environ: Mapping[str, str]) -> DeliveryConfig:
    """Read the configuration of a function: `SMTP_RELAY_CONFIG_JSON`, else the file at `path` (JSON or
    JSONC). `SMTP_RELAY_SPOOL` overrides the spool of both. Raises ConfigError."""
    for line in ignored(environ):
        log.warning("%s", line)
    text = variable(environ, "SMTP_RELAY_CONFIG_JSON")
    source = "SMTP_RELAY_CONFIG_JSON" if text is not None else str(path)
    try:
        raw = parse(path.read_text(encoding="utf-8") if text is None else text)
    except OSError as error:
        raise ConfigError(source, f"cannot be read: {error.strerror}") from error
    except NotJson as error:
        raise ConfigError(f"{source}:{error.line}:{error.column}", error.reason, error.cure) from error
    if isinstance(raw, dict) and (spool := variable(environ, "SMTP_RELAY_SPOOL")) is not None:
        raw["spool"] = with_spool_url(raw.get("spool"), spool)
    try:
        return DeliveryConfig.model_validate(raw, by_alias=True, by_name=False)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"{source}: {'.'.join(map(str, first['loc']))}", first["msg"]) from None


def with_spool_url(spool: object, url: str) -> object:
    """The file's `spool` with another URL. Options of a store stay only if the kind of store stays."""
    if not isinstance(spool, Mapping):
        return url
    same = str(spool.get("url", "")).partition(":")[0] == url.partition(":")[0]
    return {**spool, "url": url} if same else url
