"""`check`: the mistakes in a configuration, and its effects."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from functions.errors import ConfigError
from listener.checks.finding import Finding, Setting
from listener.checks.report import CheckReport
from listener.cli.arguments import CONFIG
from listener.cli.parser import give_examples
from listener.config.load import default_file, load

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", nargs="?", **CONFIG)
    parser.add_argument("-c", "--config", dest="named", default=None, **{**CONFIG, "help": "the same"})
    parser.add_argument("--public", action="store_true", help="refuse what the internet must not reach")
    parser.add_argument("--strict", action="store_true", help="end with 1 if there are warnings")
    parser.add_argument(
        "--offline",
        action="store_true",
        help="another machine will run it: build nothing of this one, and check secrets for their form only",
    )
    parser.add_argument(
        "--send",
        action="store_true",
        help="post a sample by each webhook, log in at the server of each mailer, and tell the answers",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--from-loopingz",
        action="store_true",
        help="print every difference from loopingz/smtp-relay that concerns this file",
    )
    parser.add_argument(
        "--on", choices=("fargate", "cloud-run"), help="the platform that will run it; implies --offline"
    )
    give_examples(
        parser,
        "smtp-relay check",
        "smtp-relay check --public relay.jsonc",
        "smtp-relay check --on fargate relay.jsonc",
    )


def run(arguments: argparse.Namespace) -> int:
    """Check the file and print the report. Returns 0, with `--strict` 1 for warnings, or 2 for errors."""
    path = arguments.named or arguments.config
    setting = Setting.of(
        Path.cwd(),
        dict(os.environ),
        public=arguments.public,
        platform=arguments.on,
        offline=arguments.offline,
    )
    if arguments.send and setting.elsewhere:
        raise ConfigError("check --send", "sends from this machine", "leave out --offline and --on")
    report = examine(path, setting, from_loopingz=arguments.from_loopingz)
    if arguments.send and not report.errors:
        config = load(path, setting.environ)
        report = _with_trials(_with_logins(report, config, setting), config)
    print(report.as_json() if arguments.json else "\n".join(report.lines(strict=arguments.strict)))
    return report.status(strict=arguments.strict)


def _with_trials(report: CheckReport, config: RelayConfig) -> CheckReport:
    """The report with what came of a sample by each output that may get one."""
    from listener.cli.webhook import posted, webhooks

    errors = []
    sentences = []
    for place, flow, label, options in webhooks(config):
        found = posted(options, label, flow)
        if found["delivered"]:
            sentences.append(f"A sample by {flow}/{label} was taken: status {found['status']}.")
        else:
            reason = f"status {found['status']}" if "status" in found else f"no answer: {found['reason']}"
            text = f"a sample was not taken: {reason} (smtp-relay webhook test {flow}/{label} shows more)"
            errors.append(Finding("error", f"{config.source}: {place}", text))
    return replace(report, sentences=(*report.sentences, *sentences), errors=(*report.errors, *errors))


def _with_logins(report: CheckReport, config: RelayConfig, setting: Setting) -> CheckReport:
    """The report with what came of a login at the server of each mailer."""
    from listener.checks.logins import tried

    found = list(tried(config, setting))
    errors = [
        one._replace(where=f"{config.source}: {one.where}") for one in found if isinstance(one, Finding)
    ]
    sentences = [one for one in found if isinstance(one, str)]
    return replace(report, sentences=(*report.sentences, *sentences), errors=(*report.errors, *errors))


def examine(path: Path | None, setting: Setting, *, from_loopingz: bool = False) -> CheckReport:
    """The report about one file: what it says, and what came of building it."""
    try:
        config = load(path, setting.environ)
    except ConfigError as mistake:
        return CheckReport.of_mistake(str(path or default_file() or "the configuration"), mistake)
    from listener.server.mistakes import attempt

    tried = attempt(config, setting, offline=setting.elsewhere)
    return CheckReport.of(
        config, setting, errors=tried.errors, warnings=tried.warnings, from_loopingz=from_loopingz
    )
