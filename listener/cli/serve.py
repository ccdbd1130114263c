"""`serve`: runs the server until a signal stops it."""

from __future__ import annotations

import argparse
import os

from listener.cli.arguments import CONFIG
from listener.config.load import load
from listener.config.relay import RelayConfig
from listener.server import run as server


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", **CONFIG)


def run(arguments: argparse.Namespace) -> int:
    """Serve; a reload reads the same file again."""

    def read() -> RelayConfig:
        return load(arguments.config, os.environ)

    return server.run(read(), reload=read)
