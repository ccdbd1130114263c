"""`queue` beside a running server: the reason why a mail waits, a retry now, and no harm to the server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients.load import Load, settle
from tests.support.clients.wire import submit
from tests.support.net import HOST, PATIENCE, free_port, wait_until
from tests.support.servers.relay import ROOT, Relay, flow
from tests.support.servers.smarthost import Heard, smarthost

MAIL = b"From: app@h.example\r\nTo: ann@h.example\r\nSubject: hello\r\n\r\nhi\r\n"


def queue(relay: Relay, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", "queue", *arguments, "-c", str(relay.path)],
        cwd=relay.folder,
        env={**relay.environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def listed(relay: Relay) -> list[Any]:
    return [json.loads(line) for line in queue(relay, "--json").splitlines()]


def names(relay: Relay) -> list[str]:
    return sorted(path.name for path in (relay.spool / "part-0").iterdir())


@pytest.fixture
def hop(new_relay: Callable[..., Relay]) -> tuple[Relay, int]:
    """A relay whose next hop is down, and that tries again in an hour; and the hop's port."""
    port = free_port()
    output = {"type": "mailer", "name": "hop", "nodemailer": {"host": HOST, "port": port, "ignoreTLS": True}}
    flows = {"all": {**flow(), "outputs": [output]}}
    delivery = {"retry": {"first": 3_600_000, "max": 3_600_000}}
    return new_relay({"flows": flows, "delivery": delivery}).start(), port


def test_a_mail_that_waits_is_explained_and_a_retry_is_made_now(hop: tuple[Relay, int]) -> None:
    relay, port = hop
    assert submit(relay.port, MAIL, "a@b.example", "ann@h.example").code == 250
    wait_until(lambda: bool(listed(relay)[0]["failures"]), seconds=PATIENCE, what="the first attempt")
    (mail,) = listed(relay)
    sentence = queue(relay, "explain")
    assert sentence.startswith(f"{mail['id']}: waits because output all/hop failed once: {HOST}:{port} ")
    assert "; next attempt at " in sentence
    with smarthost(port=port) as there:
        assert queue(relay, "retry", mail["id"][:18]).startswith(mail["id"])
        wait_until(lambda: len(there.taken) == 1, seconds=30, what="the retry")
        wait_until(lambda: not listed(relay), seconds=PATIENCE, what="the end")
    assert queue(relay) == "0 waiting, 0 given up\n"


def test_a_mail_that_was_given_up_names_the_command(hop: tuple[Relay, int]) -> None:
    relay, port = hop

    def script(heard: Heard) -> str | None:
        return "550 5.1.1 no such user" if heard.verb == "RCPT" else None

    with smarthost(script, port=port):
        assert submit(relay.port, MAIL, "a@b.example", "ann@h.example").code == 250
        wait_until(
            lambda: [each["state"] for each in listed(relay)] == ["parked"], seconds=PATIENCE, what="it"
        )
    (mail,) = listed(relay)
    assert "no such user" in queue(relay, "explain", mail["id"])
    assert f"`smtp-relay deadletter replay {mail['id']}`" in queue(relay, "retry", mail["id"], status=1)


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_without_a_server_it_says_so_and_leaves_the_files_alone(
    hop: tuple[Relay, int], end: signal.Signals
) -> None:
    relay, _ = hop
    assert submit(relay.port, MAIL, "a@b.example", "ann@h.example").code == 250
    wait_until(lambda: bool(listed(relay)[0]["failures"]), seconds=PATIENCE, what="the first attempt")
    assert "no server" not in queue(relay)
    if end is signal.SIGTERM:
        relay.stop()
    else:
        relay.kill()
    before = names(relay)
    assert "(no server seems to run on this spool)" in queue(relay)
    assert "the next attempt is made when one starts" in queue(relay, "explain")
    assert names(relay) == before
    relay.start()
    wait_until(lambda: listed(relay)[0]["attempts"] == 2, seconds=PATIENCE, what="the attempt of the start")


def test_a_spool_that_does_not_exist_is_empty_and_not_made(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", "queue"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert "does not exist: no server has started here" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_readers_that_stop_or_loop_cost_the_server_nothing(new_relay: Callable[..., Relay]) -> None:
    port = free_port()  # a hop that is down fills the queue, so a list takes several pages
    hop = {"type": "mailer", "name": "hop", "nodemailer": {"host": HOST, "port": port, "ignoreTLS": True}}
    flows = {
        "all": flow(),
        "slow": {
            "filters": [
                {"type": "whitelist", "ips": [HOST]},
                {"type": "whitelist", "to": ["later@h.example"]},
            ],
            "filtersOperator": "AND",
            "outputs": [hop],
        },
    }
    relay = new_relay({"flows": flows}).start()
    for _ in range(1_200):
        assert submit(relay.port, MAIL, "a@b.example", "later@h.example").code == 250
    relay.forget()
    program = (
        "import sys\nsys.argv = ['smtp-relay', 'queue', '--json', '-c', sys.argv[1]]\n"
        "from listener.cli.main import main\nwhile True: main(sys.argv[1:])"
    )
    log = relay.spool / "part-0" / "spool.db-wal"
    environment = {**relay.environment(), "PYTHONPATH": str(ROOT)}
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(relay.path)],
            cwd=relay.folder,
            env=environment,
            # The second one stops in its output, because its reader takes nothing after the first line.
            stdout=subprocess.DEVNULL if number == 0 else subprocess.PIPE,
        )
        for number in range(2)
    ]
    try:
        assert readers[1].stdout is not None
        assert readers[1].stdout.readline().startswith(b"{")
        load = Load()
        largest = 0
        with load.senders(relay.port, 4):

            def enough() -> bool:
                nonlocal largest
                largest = max(largest, log.stat().st_size)
                return len(load.answered) >= 3_000

            wait_until(enough, seconds=PATIENCE, what="3,000 mails", every=0.05)
        assert all(reader.poll() is None for reader in readers)
        assert largest < 32 << 20
    finally:
        for reader in readers:
            reader.kill()
            reader.communicate()
    settle(relay, least=len(load.answered))
    load.audit(relay.files())
    assert "Traceback" not in relay.log()
