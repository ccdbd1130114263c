"""Starts the executable in a folder of its own, and ends it with this process."""

from __future__ import annotations

import itertools
import json
import os
import re
import site
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress

# Names of this module, because tools that record HTTP or stop the clock replace those of the library.
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

HOST: Final = "127.0.0.1"
API: Final = "/api/v1"
READY: Final = 30.0
"""Seconds that the server may take to start, and the inbox to answer."""

_SLEEP: Final = (time.sleep,)  # in a tuple, where tools that stop the clock do not find it
_TICK: Final = 0.01
_SHOWN: Final = 4_000

_PROGRAM: Final = """
import os, signal, sys, threading

def follow():
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=follow, daemon=True).start()
from smtp_relay import main
sys.exit(main())
"""
"""The executable, which also ends when its input does: that of a process that was killed ends too."""

_CONFIG: Final = {
    "flows": {
        "mails": {
            "filters": [{"type": "whitelist", "subnets": [f"{HOST}/32"]}, {"type": "respond"}],
            "outputs": [{"type": "file", "path": "mails", "filename": "${id}.eml", "addRawHeaders": True}],
        }
    },
    "port": 0,
    "bind": HOST,
    "options": {"authOptional": True, "disableReverseLookup": True, "hideSTARTTLS": True},
    "inbox": {"port": 0, "bind": HOST, "by": "user"},
}


def now() -> float:
    """Seconds of a clock that tools that stop the time leave alone."""
    return os.times().elapsed


def sleep() -> None:
    """Wait a little before the next look."""
    _SLEEP[0](_TICK)


class Server:
    """The server of one session. `port` takes SMTP, `users` are the names of all its mailboxes. Raises
    RuntimeError if it does not start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.users: set[str] = set()
        self.numbers = itertools.count(1)
        self._log = folder / "server.log"
        config = folder / "smtp-relay.json"
        config.write_text(json.dumps(_CONFIG), encoding="utf-8")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, and a program of ours
                [sys.executable, *_isolated(), "-c", _PROGRAM, "serve", str(config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(_environment()),
                start_new_session=True,  # Ctrl-C ends the tests first, and they end the server
            )
        try:
            self.port, self._inbox = self._addresses()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the server and its inbox."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stored(self) -> int:
        """The number of mails that were answered 250 and not deleted."""
        return sum(name.endswith(".eml") for _, _, names in os.walk(self.folder / "mails") for name in names)

    def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, object] | None = None,
        body: object = None,
        wait: float = READY,
    ) -> tuple[int, bytes]:
        """One request to the inbox, below its address, answered within `wait` seconds. Returns status and
        body. Raises RuntimeError if the inbox does not answer."""
        connection = HTTPConnection(HOST, self._inbox, timeout=wait)
        data = None if body is None else json.dumps(body)
        try:
            fields = {} if data is None else {"Content-Type": "application/json"}
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, fields)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, HTTPException) as error:
            raise RuntimeError(f"the inbox does not answer: {error!r}\n{self._tail()}") from error
        finally:
            connection.close()

    def get(self, path: str, **query: object) -> Any:
        """The JSON of one request. Raises RuntimeError for a refusal."""
        status, body = self.ask("GET", path, query)
        if status != 200:
            raise RuntimeError(f"the inbox answers {status} to {path}: {body[:200]!r}")
        return json.loads(body)

    def _addresses(self) -> tuple[int, int]:
        end = now() + READY
        while True:
            log = self._log.read_text(errors="replace")
            smtp = re.search(rf"listening on {re.escape(HOST)}:(\d+)", log)
            inbox = re.search(r"inbox: http://[^:/\s]+:(\d+)", log)
            if smtp and inbox:
                return int(smtp[1]), int(inbox[1])
            if self._process.poll() is not None or now() > end:
                raise RuntimeError(f"smtp-relay does not start:\n{self._tail()}")
            sleep()

    def _tail(self) -> str:
        return self._log.read_text(errors="replace")[-_SHOWN:]


def _isolated() -> list[str]:
    """Flags that keep modules of the tested project, which may have our names, out of the server."""
    if site.ENABLE_USER_SITE and Path(__file__).is_relative_to(site.getusersitepackages()):
        return ["-P", "-E"]  # `-I` leaves out the user's packages, and this one is there
    return ["-I"]


def _environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if not name.startswith(("PYTHON", "SMTP_RELAY_")):
            yield name, value
