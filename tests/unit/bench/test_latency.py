"""The client that times mails counts what it should, by a server that owns the clock."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from bench import latency
from tests.support.net import HOST

COSTS = {b"MAIL": 1.0, b"RCPT": 2.0, b"DATA": 3.0}
GREETING = 100.0


class Server:
    """Answers connections one after the other. Each reply moves the clock on; the content of mail number n
    costs `content(n)`."""

    def __init__(self, content: Callable[[int], float], refused: bytes = b"") -> None:
        self.now = 0.0
        self.mails: list[bytes] = []
        self.connections = 0
        self._content = content
        self._refused = refused
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                self.connections += 1
                self._reply(connection, GREETING, b"220 ready")
                for line in lines:
                    self._answer(connection, line.strip(), lines)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _answer(self, connection: socket.socket, line: bytes, lines: Iterator[bytes]) -> None:
        verb = line[:4]
        if verb == self._refused:
            self._reply(connection, 0, b"550 no")
        elif verb == b"EHLO":
            connection.sendall(b"250-first\r\n250")
            connection.sendall(b"-second\r\n")
            self._reply(connection, GREETING, b"250 last")
        elif verb == b"QUIT":
            self._reply(connection, GREETING, b"221 bye")
        elif verb == b"DATA":
            self._reply(connection, COSTS[verb], b"354 go on")
            self.mails.append(b"".join(iter(lines.__next__, b".\r\n")))
            self._reply(connection, self._content(len(self.mails)), b"250 kept")
        else:
            self._reply(connection, COSTS[verb], b"250 ok")

    def _reply(self, connection: socket.socket, cost: float, reply: bytes) -> None:
        self.now += cost
        connection.sendall(reply + b"\r\n")


@contextmanager
def running(server: Server) -> Iterator[Server]:
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        with closing(server):
            yield server
    finally:
        thread.join()


@pytest.fixture
def mail(tmp_path: Path) -> Path:
    path = tmp_path / "mail.eml"
    path.write_bytes(b"Subject: a\n\n.dot\nlast\n")
    return path


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        (range(1, 101), 0.5, 50),
        (range(1, 101), 0.99, 99),
        (range(1, 101), 0.07, 7),
        (range(1, 101), 1, 100),
        (range(1, 101), 0, 1),
        ([3, 1, 2], 0.5, 2),
        ([3, 1, 2], 0.99, 3),
        ([7], 0.5, 7),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], share: float, expected: float) -> None:
    assert latency.percentile(list(values), share) == expected


def test_no_values_have_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        latency.percentile([], 0.5)


@pytest.mark.parametrize(
    ("mail", "sent"),
    [
        (b"a\nb\n", b"a\r\nb\r\n.\r\n"),
        (b"a\r\nb", b"a\r\nb\r\n.\r\n"),
        (b".\n..x\na.b\n", b"..\r\n...x\r\na.b\r\n.\r\n"),
    ],
)
def test_content_is_sent_as_smtp_wants_it(mail: bytes, sent: bytes) -> None:
    assert latency.content(mail) == sent


def test_the_clock_runs_from_mail_to_the_last_reply(mail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Server(lambda number: 50.0 if number == 10 else 4.0)) as server:
        monkeypatch.setattr(latency, "perf_counter", lambda: server.now)
        found = latency.measure(server.port, mail, mails=10, connections=1)
    assert found == latency.Latency(p50=10.0, p99=56.0, mails=10)
    assert server.connections == 1
    assert server.mails == [b"Subject: a\r\n\r\n..dot\r\nlast\r\n"] * 10


def test_the_start_of_a_connection_is_not_timed(mail: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(Server(lambda number: 4.0)) as server:
        monkeypatch.setattr(latency, "perf_counter", lambda: server.now)
        found = latency.measure(server.port, mail, mails=3, connections=1, reuse=False)
    assert found == latency.Latency(p50=10.0, p99=10.0, mails=3)
    assert server.connections == 3


@pytest.mark.parametrize("reuse", [True, False])
def test_mails_go_on_until_the_load_ends(mail: Path, reuse: bool) -> None:
    with running(Server(lambda number: 4.0)) as server:
        found = latency.measure(
            server.port, mail, connections=1, reuse=reuse, until=lambda: len(server.mails) >= 7
        )
        assert found.mails == len(server.mails) == 7
        found = latency.measure(server.port, mail, connections=1, reuse=reuse, until=lambda: True)
        assert found.mails == 1


def test_a_refused_mail_ends_the_measurement(mail: Path) -> None:
    with (
        running(Server(lambda number: 4.0, refused=b"RCPT")) as server,
        pytest.raises(ConnectionError, match=r"answers b'550 no\\r\\n' where 250 is due"),
    ):
        latency.measure(server.port, mail, mails=2, connections=1)
