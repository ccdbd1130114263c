"""Locates, in a configuration, a secret that is not available."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from functions.errors import ConfigError
from functions.options.secrets import secrets_of

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig


@contextmanager
def locate_secret_errors(config: RelayConfig) -> Iterator[None]:
    """The resolver of a reference does not know its place, so this block turns errors about references
    into errors about the file and the path in it."""
    try:
        yield
    except ConfigError as error:
        places = [
            path
            for path, secret in secrets_of(config)
            if secret.scheme != "plain" and secret.shown == error.where
        ]
        if not places:
            raise
        where = f"{config.source}: {', '.join(places)}"
        raise ConfigError(where, f"{error.where}: {error.what}", error.cure) from error
