"""`check`: the mistakes in a configuration, and its effects."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from listener.checks import report
from listener.checks.finding import Setting
from listener.cli.arguments import CONFIG
from listener.cli.parser import give_examples


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", **CONFIG)
    parser.add_argument("--public", action="store_true", help="refuse what the internet must not reach")
    parser.add_argument(
        "--from-loopingz",
        action="store_true",
        help="print every difference from loopingz/smtp-relay that concerns this file",
    )
    parser.add_argument(
        "--on", choices=("fargate", "cloud-run"), help="the platform that will run it, else this machine"
    )
    give_examples(
        parser,
        "smtp-relay check",
        "smtp-relay check --public relay.jsonc",
        "smtp-relay check --on fargate relay.jsonc",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the file and print the findings. Returns 0, or 2 for an error."""
    setting = Setting.of(Path.cwd(), os.environ, public=arguments.public, platform=arguments.on)
    return report.run(
        arguments.config, setting, from_loopingz=arguments.from_loopingz, out=sys.stdout, err=sys.stderr
    )
