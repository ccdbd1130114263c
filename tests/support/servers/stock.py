"""Stock aiosmtpd with a handler that files each mail: the yardstick of tests and benchmarks.

Run as `python -m tests.support.servers.stock PORT FOLDER`. Nothing of this project is in it.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import signal
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

SIZE_LIMIT = 41_943_040  # as the relay's default


class Filing:
    """Writes each mail to a file of its own: a hidden temporary file, then a rename."""

    def __init__(self, folder: Path, *, fsync: bool) -> None:
        self._folder = folder
        self._fsync = fsync
        self._numbers = itertools.count()
        self._directory = os.open(folder, os.O_RDONLY)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        name = f"{next(self._numbers):08d}.eml"
        hidden = self._folder / f".{name}"
        with hidden.open("wb", buffering=0) as file:
            file.write(envelope.content)
            if self._fsync:
                os.fsync(file.fileno())
        hidden.rename(self._folder / name)
        if self._fsync:
            os.fsync(self._directory)
        return "250 2.0.0 Ok"


class Recording(Filing):
    """Also prints the hooks' arguments, one line each on standard output."""

    async def handle_CONNECT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        return "554 5.7.1 not from here"  # no client asks

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        print("mail", ascii(address), flush=True)
        envelope.mail_from = address
        return "250 Ok"


async def serve(options: argparse.Namespace) -> None:
    """Listen until SIGTERM."""
    loop = asyncio.get_running_loop()
    kind = Recording if options.record else Filing
    handler = kind(options.folder, fsync=options.fsync)
    arguments: dict[str, Any] = {}
    if options.auth:
        arguments = {"auth_require_tls": False, "authenticator": lambda *_: AuthResult(success=True)}

    def protocol() -> SMTP:
        return SMTP(
            handler,
            hostname="stock.example",
            data_size_limit=SIZE_LIMIT,
            enable_SMTPUTF8=True,
            timeout=options.timeout,
            loop=loop,
            **arguments,
        )

    server = await loop.create_server(protocol, "127.0.0.1", options.port, backlog=2048)
    print(f"listening on 127.0.0.1:{options.port}", flush=True)
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    await stop.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="stock aiosmtpd that files each mail")
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fsync", action="store_true")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--auth", action="store_true")
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default="uvloop")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.loop == "uvloop":
        import uvloop

        uvloop.run(serve(options))
    else:
        asyncio.run(serve(options))


if __name__ == "__main__":
    main()
