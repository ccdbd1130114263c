"""Several serving processes on the same ports: started, watched and stopped by a parent."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from functions.errors import ConfigError
from listener import build
from listener.build import Surroundings
from listener.counters import SharedCounters
from listener.observer import NULL
from listener.server import Server, Shared, announce, serve_process

if TYPE_CHECKING:
    from listener.config import Listener, RelayConfig

log = logging.getLogger("smtp_relay.server")

QUICK: Final = 5.0
"""A worker that dies within so many seconds of its start is not restarted at once."""


def supervise(
    config: RelayConfig,
    around: Surroundings,
    listeners: Sequence[tuple[Listener, list[socket.socket]]],
    workers: int,
) -> None:
    """Run `workers` processes until SIGTERM or SIGINT; one that dies is started again on its own
    part of the spool. Raises ConfigError when none can start."""
    counters = SharedCounters.create(workers)
    started: dict[int, tuple[int, float]] = {}
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        stopping = True
        for pid in started:
            os.kill(pid, signal.SIGTERM)

    def start(index: int) -> None:
        counters.forget(index)
        pid = _fork(config, around, listeners, index, Shared(counters.of(index), NULL))
        started[pid] = (index, time.monotonic())

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    ready_read, ready_write = os.pipe()
    os.set_inheritable(ready_write, True)
    for index in range(workers):
        start(index)
    announce(listeners)
    os.close(ready_read)
    os.close(ready_write)
    while started:
        try:
            pid, status = os.wait()
        except InterruptedError:
            continue
        except ChildProcessError:
            break
        index, since = started.pop(pid, (-1, 0.0))
        if index < 0 or stopping:
            continue
        code = os.waitstatus_to_exitcode(status)
        if code == ConfigError_EXIT:
            stop(0, None)
            raise ConfigError("worker", "could not start; its own message is above")
        log.error("worker died, starting it again", extra={"worker": index, "exit": code})
        if time.monotonic() - since < QUICK:
            time.sleep(1)
        start(index)


ConfigError_EXIT: Final = 2


def _fork(
    config: RelayConfig,
    around: Surroundings,
    listeners: Sequence[tuple[Listener, list[socket.socket]]],
    index: int,
    shared: Shared,
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        own = [(listener, [_twin(sock) for sock in sockets]) for listener, sockets in listeners]
        serve_process(Server(config, around, own, index, shared), lambda: None)
        code = 0
    except ConfigError as error:
        log.error("%s", error)
        code = ConfigError_EXIT
    except BaseException:
        log.exception("worker failed", extra={"worker": index})
    finally:
        logging.shutdown()
        os._exit(code)


def _twin(sock: socket.socket) -> socket.socket:
    """This worker's own socket on the port that the parent holds: the kernel then spreads
    connections over the workers (SO_REUSEPORT)."""
    host, port = sock.getsockname()[:2]
    twins = build.bind(host, port, shared=True)
    return twins[0]
