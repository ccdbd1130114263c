"""Several SMTP clients that send at the same time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.support.clients.wire import Reply, Wire, stuffed


def send_together(port: int, mails: Sequence[bytes], *, patience: float = 120) -> list[Reply]:
    """One client for each mail. The last line of every mail waits until all clients have sent the rest, so
    the server gets the mails whole at once. Returns the replies."""
    barrier = threading.Barrier(len(mails))

    def send(mail: bytes) -> Reply:
        data = memoryview(stuffed(mail))
        with Wire(port, patience=patience) as wire:
            wire.begin()
            for at in range(0, len(data) - 5, 1_048_576):
                wire.socket.sendall(data[at : min(at + 1_048_576, len(data) - 5)])
            barrier.wait(patience)
            wire.socket.sendall(data[-5:])
            return wire.reply()

    with ThreadPoolExecutor(len(mails)) as pool:
        return list(pool.map(send, mails))
