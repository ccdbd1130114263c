"""From what was read to a configuration: environment, obsolete keys, models, messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pydantic import ValidationError

from listener.config.environment import overlay, sources
from listener.config.errors import config_errors
from listener.config.load import ConfigFile
from listener.config.obsolete import without_obsolete

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig


def validate(model: type[RelayConfig], found: ConfigFile, environ: Mapping[str, str]) -> RelayConfig:
    """The configuration that was found, with the environment laid over it. Raises ConfigError."""
    value, warnings = without_obsolete(overlay(found.value, environ))
    try:
        config = model.model_validate(value, by_alias=True, by_name=False)
    except ValidationError as error:
        raise config_errors(error, model, value, {"": found.source, **sources(environ)}) from None
    config._source = found.source
    config._warnings = warnings
    return config
