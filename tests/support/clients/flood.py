"""Clients that send commands as fast as they can, in a process of their own.

python -m tests.support.clients.flood PORT COUNT < SCRIPT

keeps COUNT connections open, sends the script over each of them and over again, and reads and drops the
answers. A connection that the server ends is made anew.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.net import HOST
from tests.support.servers.relay import ROOT


def _connect(port: int) -> socket.socket:
    made = socket.create_connection((HOST, port), timeout=30)
    made.setblocking(False)
    return made


def main() -> None:
    port, count = map(int, sys.argv[1:])
    script = sys.stdin.buffer.read()
    at: dict[socket.socket, int] = {}
    with selectors.DefaultSelector() as ready:

        def add() -> None:
            made = _connect(port)
            at[made] = 0
            ready.register(made, selectors.EVENT_READ | selectors.EVENT_WRITE)

        for _ in range(count):
            add()
        while True:
            for key, events in ready.select():
                one = key.fileobj
                assert isinstance(one, socket.socket)
                try:
                    if events & selectors.EVENT_READ and not one.recv(262_144):
                        raise ConnectionResetError
                    if events & selectors.EVENT_WRITE:
                        at[one] = (at[one] + one.send(memoryview(script)[at[one] :])) % len(script)
                except BlockingIOError:
                    continue
                except OSError:
                    ready.unregister(one)
                    del at[one]
                    one.close()
                    add()


@contextmanager
def flood(port: int, count: int, script: bytes) -> Iterator[None]:
    """So many connections send the script over and over while the block runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.clients.flood", str(port), str(count)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    try:
        process.stdin.write(script)
        process.stdin.close()
        yield
        assert process.poll() is None, "the flood goes on to the end"
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


if __name__ == "__main__":
    main()
