"""`serve`: runs the server until a signal stops it."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress

from functions.errors import ConfigError
from listener.cli.arguments import CONFIG
from listener.config.load import load, loggers_of
from listener.config.relay import RelayConfig
from listener.logs import setup as logs
from listener.server import run as server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", **CONFIG)


def run(arguments: argparse.Namespace) -> int:
    """Serve; a reload reads the same file again."""

    def read() -> RelayConfig:
        return load(arguments.config, os.environ)

    try:
        config = read()
    except ConfigError:
        with suppress(ConfigError):
            if loggers := loggers_of(arguments.config, os.environ):
                logs.configure(loggers)
        raise
    return server.run(config, reload=read)
