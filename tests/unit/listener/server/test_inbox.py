"""The process of the inbox beside the server."""

from __future__ import annotations

import json
import logging
import os
import signal
from pathlib import Path

from functions.options.secrets import Runtime
from listener.config.load import load
from listener.filters.respond.memory import ScriptMemory
from listener.logs.console import STARTING
from listener.monitoring.failed_logins import FailedLogins
from listener.server.inbox import inbox_of
from tests.support.inbox.client import with_inbox


class Hangup(logging.Handler):
    """Sends SIGHUP to this process when the end of an inbox is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        if "the inbox ended" in record.getMessage():
            signal.raise_signal(signal.SIGHUP)


def test_a_reload_in_the_middle_of_a_restart_is_done(tmp_path: Path) -> None:
    """The supervisor's handler of SIGHUP runs in the thread that starts the inbox again."""
    file = tmp_path / "relay.json"
    file.write_text(json.dumps(with_inbox()))
    config, around = load(file, {}), Runtime.of(tmp_path, {})
    config.spool.folder(tmp_path).mkdir(parents=True)
    inbox = inbox_of(config, around, FailedLogins.new(1), ScriptMemory.new())
    assert inbox is not None
    done: list[int] = []

    def reload(number: int, _: object) -> None:
        inbox.renew(config, around)
        done.append(number)

    handler, before = Hangup(), signal.signal(signal.SIGHUP, reload)
    logging.getLogger(STARTING).addHandler(handler)
    try:
        first = inbox._process.pid
        os.kill(first, signal.SIGKILL)
        assert inbox.ended(first)
        assert done == [signal.SIGHUP]
        assert inbox._process.pid != first
    finally:
        logging.getLogger(STARTING).removeHandler(handler)
        signal.signal(signal.SIGHUP, before)
        inbox.stop()
