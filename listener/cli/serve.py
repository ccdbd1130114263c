"""`serve`: runs the server until a signal stops it."""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path

from functions import __version__
from functions.errors import ConfigError
from listener.cli.arguments import CONFIG
from listener.cli.parser import give_examples
from listener.config.overrides import Given, Overrides


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", **CONFIG)
    parser.add_argument("--config", "-c", dest="file", type=Path, metavar="CONFIG", help="the same")
    parser.add_argument("--port", metavar="PORT", help="the port, instead of the file's; 0: any free one")
    parser.add_argument("--bind", metavar="ADDRESS", help="the address, instead of the file's")
    parser.add_argument(
        "--folder", metavar="DIR", help="where the only output of type file stores, instead of its path"
    )
    noise = parser.add_mutually_exclusive_group()
    noise.add_argument(
        "-v", "--verbose", action="store_const", dest="level", const="DEBUG", help="log the SMTP dialogue too"
    )
    noise.add_argument(
        "-q", "--quiet", action="store_const", dest="level", const="WARN", help="log only warnings and errors"
    )
    parser.add_argument("-V", "--version", action="version", version=f"smtp-relay {__version__}")
    give_examples(
        parser,
        "smtp-relay serve",
        "smtp-relay serve relay.jsonc",
        "smtp-relay serve --port 2525 --bind 0.0.0.0 --folder mails -v",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve; a reload reads the same file again, and the flags stay. Raises ConfigError."""
    from listener.config.load import load, loggers_of
    from listener.config.relay import RelayConfig
    from listener.logs import setup as logs
    from listener.server import run as server

    path = _file(arguments)
    flags = Overrides(
        port=_given("--port", arguments.port),
        bind=_given("--bind", arguments.bind),
        folder=_given("--folder", arguments.folder),
        level=arguments.level,
    )

    def read() -> RelayConfig:
        return load(path, os.environ, flags)

    try:
        config = read()
    except ConfigError:
        with suppress(ConfigError):
            if loggers := loggers_of(path, os.environ):
                logs.configure(loggers)
        raise
    return server.run(config, reload=read)


def _file(arguments: argparse.Namespace) -> Path | None:
    word, flag = arguments.config, arguments.file
    if word is not None and flag is not None and word != flag:
        raise ConfigError(f"--config {flag}", f"another configuration is given: {word}", "leave one out")
    chosen: Path | None = word if flag is None else flag
    return chosen


def _given(flag: str, text: str | None) -> Given | None:
    return None if text is None else Given(flag, text)
