"""The control socket's place and its messages.

It is a Unix socket with mode 0600 in the folder of the spool, so only the server's own user reaches it. A
request is one line of JSON with `do`, and `size` bytes of content behind it; the reply is one line of JSON.
All workers accept from the same socket, and one of them answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from functions.errors import ConfigError, Temporary

NAME: Final = "control"
"""The socket's file in the folder of the spool."""

MAX_LINE: Final = 1_048_576
"""Bytes of a request's line, which holds all recipients, and of a reply."""

PATIENCE: Final = 60.0
"""Seconds that a request and its reply may take."""


def bind_control(folder: Path) -> socket.socket:
    """A socket that listens in the spool's folder, whose lock the caller holds: a file of that name was left
    behind. Raises ConfigError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _reachable(folder) as path:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
            before = os.umask(0o177)
            try:
                made.bind(os.fspath(path))
            finally:
                os.umask(before)
        made.listen(16)
    except OSError as error:
        made.close()
        raise ConfigError(
            os.fspath(folder / NAME),
            error.strerror or str(error),
            "the disk of the spool must take a Unix socket",
        ) from error
    made.setblocking(False)
    return made


def remove_control(folder: Path) -> None:
    """The server ends."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK((folder / NAME).lstat().st_mode):
            (folder / NAME).unlink()


def ask(folder: Path, request: Mapping[str, Any], content: bytes = b"") -> dict[str, Any]:
    """Send a request to the server of a spool; returns its reply. Raises Temporary if it does not answer."""
    line = json.dumps({**request, "size": len(content)}, ensure_ascii=True).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise Temporary("the request is too long")
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as made:
        made.settimeout(PATIENCE)
        try:
            with _reachable(folder) as path:
                made.connect(os.fspath(path))
            # A server that stops does not read everything.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                made.sendall(line)
                made.sendall(content)
                made.shutdown(socket.SHUT_WR)
            with made.makefile("rb") as stream:
                reply = json.loads(stream.readline(MAX_LINE))
        except (OSError, ValueError) as error:
            raise Temporary(f"the server does not answer: {error}") from error
    if not isinstance(reply, dict):
        raise Temporary("the server does not answer")
    return reply


@contextlib.contextmanager
def _reachable(folder: Path) -> Iterator[Path]:
    """The socket's path, short enough for `sun_path`, which takes 104 to 108 bytes."""
    path = folder / NAME
    if len(os.fsencode(path)) < 100:
        yield path
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{fd}") / NAME
    finally:
        os.close(fd)
