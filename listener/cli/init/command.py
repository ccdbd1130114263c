"""`init`: writes a configuration to start with, and says how to prove it."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from functions.errors import ConfigError
from listener.cli.arguments import write_new
from listener.cli.init.answers import QUESTIONS, InitQuestion, values
from listener.cli.init.kinds import KINDS, Kind
from listener.cli.parser import give_examples
from listener.config.listeners import DEFAULT_PORT
from listener.config.load import NAMES

_SECRETS: Final = ".env.example"
_TRIES: Final = 3
_NAME: Final = re.compile("[A-Z][A-Z_]+(?==)")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "kind", nargs="?", default="debug", choices=tuple(KINDS), metavar="KIND", help=", ".join(KINDS)
    )
    parser.add_argument(
        "--output", "-o", type=Path, metavar="FILE", help=f"the file to write, else {NAMES[0]}"
    )
    for one in QUESTIONS:
        parser.add_argument(f"--{one.name}", metavar=one.name.upper(), help=f"{one.text} ({one.default})")
    give_examples(
        parser,
        "smtp-relay init",
        "smtp-relay init smarthost --host smtp.example.com:587 --user relay@example.com",
        "smtp-relay init mail2s3 --bucket my-mail --domain example.com --region eu-west-1 -o s3.jsonc",
    )


def run(arguments: argparse.Namespace) -> int:
    """Ask what is not given, if a user sits at a terminal, and write the files. Raises ConfigError."""
    kind = KINDS[arguments.kind]
    path = _free(arguments.output)
    given = {one.name: getattr(arguments, one.name) for one in QUESTIONS}
    _check_given(arguments.kind, kind, given)
    asks = sys.stdin.isatty() and sys.stdout.isatty()
    answers: dict[str, str] = {}
    examples: list[str] = []
    for one in kind.questions:
        text = given[one.name]
        if text is None and asks:
            answers[one.name] = _asked(one)
        elif text is None:
            answers[one.name] = one.default
        else:
            answers[one.name] = one.answered(text)
        if one.example and answers[one.name] == one.default:
            examples.append(f"{one.name} {one.default}")
    if arguments.region is not None:
        answers["region"] = next(one for one in QUESTIONS if one.name == "region").answered(arguments.region)
    written = kind.written(values(answers))
    write_new(path, written)
    print(f"{path} is written. {kind.does}.")
    if examples:
        print(f"Examples in it, to be changed: {', '.join(examples)}")
    _secrets(path, kind, written)
    if kind.extra is not None and not _installed(kind.extra[1]):
        print(f"It needs more packages: pip install 'smtp-relay[{kind.extra[0]}]'")
    _prove(path, kind, answers)
    return 0


def _free(output: Path | None) -> Path:
    """The file to write. Raises ConfigError if a configuration is there that it would replace or hide."""
    if output is not None:
        return output
    for name in NAMES:
        if os.path.lexists(name):
            raise ConfigError(name, "exists", "remove it first, or choose another name with --output")
    return Path(NAMES[0])


def _check_given(name: str, kind: Kind, given: dict[str, str | None]) -> None:
    for flag, text in given.items():
        uses = [other for other, each in KINDS.items() if _takes(each, flag)]
        if text is not None and not _takes(kind, flag):
            raise ConfigError(f"--{flag}", f"is not for init {name}", f"it is for {', '.join(uses)}")


def _takes(kind: Kind, flag: str) -> bool:
    return any(one.name == flag for one in kind.questions) or f"@{flag}@" in kind.text


def _asked(question: InitQuestion) -> str:
    """The answer of the user at the terminal, who may try again. Raises ConfigError."""
    for left in reversed(range(_TRIES)):
        text = input(f"{question.text} [{question.default}]: ").strip()
        try:
            return question.answered(text or question.default)
        except ConfigError as mistake:
            if not left:
                raise
            print(mistake)
    raise AssertionError


def _secrets(path: Path, kind: Kind, written: str) -> None:
    """Write the example of the environment beside the file, or say what it would hold."""
    if not kind.environment or (kind.extra is None and "env:" not in written):
        return
    place = path.parent / _SECRETS
    if os.path.lexists(place):
        names = ", ".join(_NAME.findall(kind.environment))
        print(f"{place} exists and stays as it is. The environment of this configuration: {names}")
        return
    write_new(place, kind.environment)
    print(f"{place} is written: copy it to .env, fill it in, and load it: set -a; . ./.env; set +a")


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _prove(path: Path, kind: Kind, answers: dict[str, str]) -> None:
    file = shlex.quote(str(path))
    to = kind.send.replace("you@example.com", f"you@{answers.get('domain', 'example.com')}")
    port = "" if str(path) in NAMES else f"--port {DEFAULT_PORT} "
    print("Prove it:")
    print(f"  smtp-relay check {file}")
    print(f"  smtp-relay serve {file}    and in another terminal: smtp-relay send {port}{to}")
