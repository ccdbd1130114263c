"""The command line. Each command imports its modules when it runs, so no command pays for the
others."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from functions import __version__

COMMANDS: Final = (
    "serve",
    "check",
    "schema",
    "dkim-generate",
    "hash-password",
    "deadletter",
    "sweep",
    "send",
    "auth-check",
)

_CONFIG_HELP: Final = (
    "the configuration; else ./smtp-relay.jsonc, .json, .yaml or .yml, else a debug server on "
    "localhost:10025 that stores into ./received_emails/"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0, 2 for a user's mistake, 1 otherwise."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from functions.errors import ConfigError

    try:
        if not arguments or arguments[0] not in (*COMMANDS, "-h", "--help", "--version"):
            _not_a_typo(arguments)
            arguments.insert(0, "serve")
        chosen = _parse(arguments)
        status: int = chosen.run(chosen)
    except ConfigError as mistake:
        print(f"smtp-relay: {mistake}".replace("\n", "\nsmtp-relay: "), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader of the output is gone; buffered text must not cause an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception:
        import logging

        logging.basicConfig()
        logging.getLogger("smtp_relay").critical("unexpected fault, please report it", exc_info=True)
        return 1
    return status


def _not_a_typo(arguments: Sequence[str]) -> None:
    """A word that is not a command is a file, unless there is no such file and the word does not look
    like one. Raises ConfigError."""
    if not arguments or arguments[0].startswith("-") or Path(arguments[0]).exists():
        return
    import difflib

    from functions.errors import ConfigError

    if near := difflib.get_close_matches(arguments[0], COMMANDS, n=1):
        raise ConfigError(arguments[0], "is not a command or a file", f"did you mean {near[0]!r}?")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    chosen, rest = parser.parse_known_args(arguments)
    # argparse accepts no positionals after options that follow the first ones.
    if rest and (chosen.command != "deadletter" or any(one.startswith("-") for one in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:
        chosen.ids = [*chosen.ids, *rest]
    return chosen


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="smtp-relay",
        description="A dynamic SMTP server: filters decide, mails go to folders, buckets, queues or SES.",
        epilog="`smtp-relay CONFIG` is short for `smtp-relay serve CONFIG`.",
    )
    parser.add_argument("--version", action="version", version=f"smtp-relay {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, run: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(run=run)
        return command

    serve = add("serve", _serve, "receive mail and deliver it, until SIGTERM")
    serve.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help=_CONFIG_HELP)
    _check_arguments(add("check", _check, "validate a configuration and explain it"))
    add("schema", _schema, "print the JSON Schema of the configuration")
    _dkim_arguments(add("dkim-generate", _dkim, "make a DKIM key: DNS record and configuration"))
    _password_arguments(add("hash-password", _password, "hash a password for static-auth"))
    _deadletter_arguments(add("deadletter", _deadletter, "list, replay or drop outputs that were given up"))
    sweep = add("sweep", _sweep, "make one pass over the spool for mail that is due again")
    sweep.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help=_CONFIG_HELP)
    _send_arguments(add("send", _send, "send a test mail"))
    _auth_check_arguments(add("auth-check", _auth_check, "show mail-auth's results for one mail"))
    return parser


def _check_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("config", nargs="?", type=Path, metavar="CONFIG", help=_CONFIG_HELP)
    command.add_argument("--public", action="store_true", help="refuse what the internet must not reach")
    command.add_argument(
        "--from-loopingz",
        action="store_true",
        help="print every difference from loopingz/smtp-relay that concerns this file",
    )
    command.add_argument(
        "--on", choices=("fargate", "cloud-run"), help="the platform that will run it, else this machine"
    )


def _dkim_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("domain", metavar="DOMAIN", help="the signing domain")
    command.add_argument("selector", metavar="SELECTOR", help="names the key: `default`, `jan2026` …")
    kind = command.add_mutually_exclusive_group()
    kind.add_argument(
        "--bits", type=int, choices=(1024, 2048, 3072, 4096), default=2048, help="RSA key size (2048)"
    )
    kind.add_argument("--ed25519", action="store_true", help="an Ed25519 key (RFC 8463)")
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="write the private key there (mode 0600), not to the screen"
    )


def _password_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--algorithm",
        default="argon2id",
        metavar="NAME",
        help="argon2id (default), bcrypt, plain, or a hash: sha256, sha512, RSA-SHA256 …",
    )
    command.add_argument("--salt", help="the salt of static-auth (with a hash: HMAC)")


def _deadletter_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("action", choices=("list", "show", "replay", "drop"))
    command.add_argument("ids", nargs="*", metavar="ID", help="a mail's id, or ID/OUTPUTKEY for one output")
    command.add_argument("--config", "-c", type=Path, metavar="CONFIG", help=_CONFIG_HELP)
    command.add_argument(
        "--since", metavar="TIME", help="given up at or after: 2026-01-02T03:04, or 90m, 12h, 3d ago"
    )
    command.add_argument("--until", metavar="TIME", help="given up before")
    command.add_argument("--flow", help="selects by flow")
    command.add_argument("--output", help="selects by output")
    command.add_argument("--reason", help="selects by a text in the reason or code")
    command.add_argument("--all", action="store_true", help="replay or drop all dead letters")
    command.add_argument(
        "--kept",
        action="store_true",
        help="replay kept mail: by IDs, the time it was received (--since, --until), --prefix, or --all",
    )
    command.add_argument(
        "--prefix", metavar="TEXT", help="with --kept: the start of the key below kept/, or of the path"
    )
    command.add_argument("--now", action="store_true", help="do not wait for the sweep")
    command.add_argument("--dry-run", action="store_true", help="only print the planned actions")
    command.add_argument("--json", action="store_true", help="one JSON object per line")


def _send_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--server", default="localhost:10025", metavar="HOST[:PORT]")
    command.add_argument("--from", dest="sender", default="", metavar="ADDRESS", help="the reverse-path")
    command.add_argument("--to", action="append", required=True, metavar="ADDRESS", help="may be repeated")
    command.add_argument("--subject", default="A test mail")
    command.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    command.add_argument(
        "--body", default="This is a test mail.", metavar="TEXT", help="@FILE, or - for stdin"
    )
    command.add_argument("--attach", action="append", default=[], type=Path, metavar="FILE")
    command.add_argument(
        "--data",
        metavar="FILE",
        help="the whole mail, sent unchanged (- for stdin), instead of the four above",
    )
    command.add_argument(
        "--auth", metavar="USER[:PASSWORD]", help="the password may be env:NAME or file://PATH"
    )
    command.add_argument("--tls", action="store_true", help="STARTTLS, or fail")
    command.add_argument("--tls-on-connect", action="store_true", help="TLS from the first byte")
    command.add_argument("--insecure", action="store_true", help="accept any certificate")
    command.add_argument("--helo", metavar="NAME", help="the client's host name")
    command.add_argument("--lmtp", action="store_true", help="speak LMTP")
    command.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS")
    command.add_argument("--verbose", "-v", action="store_true", help="show the dialogue")


def _auth_check_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("file", metavar="FILE.eml", help="the mail, - for stdin")
    command.add_argument("--ip", required=True, metavar="ADDRESS", help="the client that sent it")
    command.add_argument("--helo", default="", metavar="NAME", help="the client's name in HELO or EHLO")
    command.add_argument(
        "--mail-from", default="", metavar="ADDRESS", help="the reverse-path; default: the null sender"
    )
    command.add_argument("--receiver", metavar="NAME", help="the relay's name in the header fields")
    command.add_argument(
        "--refuse",
        action="append",
        choices=("dmarc-reject", "dmarc-quarantine", "spf-fail", "dkim-fail"),
        help="as in the filter's options (dmarc-reject); may be repeated",
    )
    command.add_argument("--enforce-dmarc", metavar="RECORD", help="as in the filter's options")
    command.add_argument("--min-bits", type=int, default=1_024, metavar="N", help="least RSA key size (1024)")
    command.add_argument("--allow-sha1", action="store_true", help="accept rsa-sha1, which RFC 8301 forbids")
    command.add_argument(
        "--nameserver", action="append", default=[], metavar="ADDRESS", help="else those of the system"
    )
    command.add_argument("--dns-port", type=int, default=53, metavar="PORT")
    command.add_argument("--timeout", type=float, default=5.0, metavar="SECONDS", help="for one question (5)")
    command.add_argument("--zone", type=Path, metavar="FILE", help="ask this JSON file, not the DNS")
    command.add_argument("--json", action="store_true", help="one JSON object")


def _serve(arguments: argparse.Namespace) -> int:
    from listener.config.load import load
    from listener.config.relay import RelayConfig
    from listener.server.run import run

    def read() -> RelayConfig:
        return load(arguments.config, os.environ)

    return run(read(), reload=read)


def _check(arguments: argparse.Namespace) -> int:
    from listener.checks.finding import Setting
    from listener.checks.report import run

    setting = Setting(Path.cwd(), os.environ, public=arguments.public, platform=arguments.on)
    return run(
        arguments.config, setting, from_loopingz=arguments.from_loopingz, out=sys.stdout, err=sys.stderr
    )


def _schema(_: argparse.Namespace) -> int:
    from listener.cli.schema import text

    print(text(), end="")
    return 0


def _dkim(arguments: argparse.Namespace) -> int:
    from listener.cli.dkim_generate import run

    return run(arguments)


def _password(arguments: argparse.Namespace) -> int:
    from listener.cli.hash_password import run

    return run(arguments)


def _deadletter(arguments: argparse.Namespace) -> int:
    from listener.cli.deadletter import run

    return run(arguments)


def _sweep(arguments: argparse.Namespace) -> int:
    from listener.cli.sweep import run

    return run(arguments)


def _send(arguments: argparse.Namespace) -> int:
    from listener.cli.send import run

    return run(arguments)


def _auth_check(arguments: argparse.Namespace) -> int:
    from listener.cli.auth_check import run

    return run(arguments)


def entry() -> NoReturn:
    """For `python -m`."""
    raise SystemExit(main())


if __name__ == "__main__":
    entry()
