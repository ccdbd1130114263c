"""The image's health check, against real sockets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from listener.cli.healthcheck import main
from tests.support.net import HOST, free_port


@contextmanager
def answering(reply: bytes) -> Iterator[str]:
    """A server that answers one request; gives its port."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        yield str(server.getsockname()[1])
        thread.join(5)


@pytest.mark.parametrize(
    ("reply", "status", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0, "healthy"),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", 1, "unhealthy: 503"),
        (b"220 mail.example.com ESMTP\r\n", 1, "unhealthy: 220 mail.example.com ESMTP"),
        (b"", 1, "unhealthy: "),
    ],
)
def test_what_the_server_says(
    reply: bytes, status: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(reply) as port:
        assert main({"SMTP_RELAY_HEALTH_PORT": port}) == status
    assert capsys.readouterr().out.startswith(says)


def test_no_server_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main({"SMTP_RELAY_HEALTH_PORT": str(free_port())}) == 1
    assert capsys.readouterr().out.startswith("unhealthy: ")


@pytest.mark.parametrize("environ", [{}, {"SMTP_RELAY_HEALTH_PORT": ""}])
def test_health_served_nowhere(environ: dict[str, str]) -> None:
    assert main(environ) == 0
