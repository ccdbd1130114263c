"""What a dead webhook costs: `python -m bench.webhook --mails 5000 --seconds 600`.

A server takes mails for an endpoint that nothing listens on, or that hangs (`--hanging`). When all are
stored, it measures the CPU time and the memory of the server while they wait; then the endpoint works, and
all must come.
"""

from __future__ import annotations

import argparse
import smtplib
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.support.net import HOST, free_port
from tests.support.servers import receiver as faults
from tests.support.servers.receiver import Receiver, answer, receiving
from tests.support.servers.relay import Relay

_MAIL = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: hello\r\n\r\n" + b"x" * 1000 + b"\r\n"


def main() -> int:
    """Measure and print. Returns 1 if a mail is missing at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mails", type=int, default=5_000)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--hanging", action="store_true", help="the endpoint accepts and does not answer")
    given = parser.parse_args()
    port = free_port()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="webhook-")))
        hanging: Receiver | None = None
        if given.hanging:
            hanging = stack.enter_context(receiving(port=port))
            hanging.react = faults.hang
        hook = {"type": "webhook", "name": "hook", "url": f"http://{HOST}:{port}/", "timeout": 2_000}
        flow = {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [hook]}
        relay = Relay(folder, {"flows": {"all": flow}}).start()
        stack.callback(relay.kill)
        with smtplib.SMTP(HOST, relay.port, timeout=60) as client:
            for _ in range(given.mails):
                client.sendmail("a@example.com", ["b@example.com"], _MAIL)
        time.sleep(15)  # the first attempts end
        before, memory, start = relay.cpu(), relay.resident(), time.monotonic()
        time.sleep(given.seconds)
        spent, after = relay.cpu() - before, relay.resident()
        percent = 100 * spent / (time.monotonic() - start)
        print(f"{given.mails} mails waiting for {given.seconds} s: {percent:.2f} % of one CPU")
        print(f"memory {memory / 1e6:.1f} to {after / 1e6:.1f} MB")
        return _delivered(stack, hanging, port, given.mails)


def _delivered(stack: ExitStack, hanging: Receiver | None, port: int, mails: int) -> int:
    """All mails come when the endpoint works; prints how long that takes."""
    receiver = hanging or stack.enter_context(receiving(port=port))
    receiver.react = answer(204, b"")
    receiver.received.clear()
    start = time.monotonic()
    while (came := len(set(receiver.ids()))) < mails and time.monotonic() - start < 1_000:
        time.sleep(0.2)
    print(f"{came} came {time.monotonic() - start:.0f} s after the endpoint worked again")
    return int(came < mails)


if __name__ == "__main__":
    raise SystemExit(main())
