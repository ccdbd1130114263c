"""A listener that stands for every name there is: it counts what comes, and answers with an image."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.net import HOST

GIF: Final = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c000000000100010000020144003b"
)
_TLS: Final = 0x16


class Heard(NamedTuple):
    """One request; header names in lower case."""

    host: str
    target: str
    fields: Mapping[str, str]


class Canary:
    """Counts connections, also those without a byte. `requests` are those that it read."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        self.connections = 0
        self.requests: list[Heard] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        self._listening = socket.create_server((HOST, 0), backlog=256)
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def names(self) -> set[str]:
        """The first labels of the names that were asked for, but for those that the browser's maker has."""
        hosts = [one.host for one in list(self.requests)]
        return {host.partition(".")[0] for host in hosts if not host.endswith(".googleapis.com")}

    def close(self) -> None:
        """Take no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                self.connections += 1
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        peer.settimeout(30)
        with contextlib.suppress(OSError), peer:
            if peer.recv(1, socket.MSG_PEEK)[:1] == bytes([_TLS]):
                with self._context.wrap_socket(peer, server_side=True) as wrapped:
                    self._reply(wrapped)
            else:
                self._reply(peer)

    def _reply(self, peer: socket.socket) -> None:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = peer.recv(65_536)
            if not piece:
                return
            data += piece
        first, *lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        fields = {name.lower(): value.strip() for name, _, value in pairs}
        self.requests.append(Heard(fields.get("host", ""), first.split(" ")[1], fields))
        head = f"HTTP/1.1 200 OK\r\nContent-Type: image/gif\r\nContent-Length: {len(GIF)}\r\n"
        peer.sendall(f"{head}Access-Control-Allow-Origin: *\r\nConnection: close\r\n\r\n".encode() + GIF)


@contextmanager
def canary(certificate: tuple[Path, Path]) -> Iterator[Canary]:
    """Listen until the block ends."""
    made = Canary(certificate)
    try:
        yield made
    finally:
        made.close()
