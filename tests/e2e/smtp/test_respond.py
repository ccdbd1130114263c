"""Servers whose answers are scripted."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.support.clients.wire import Wire
from tests.support.net import HOST, free_port, wait_until
from tests.support.servers.relay import Relay, flow

HERE = {"type": "whitelist", "ips": [HOST]}

Make = Callable[..., Relay]


def scripted(*rules: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    return {"flows": {"only": flow(HERE, {"type": "respond", "rules": list(rules), **options})}}


def code_of_mail(relay: Relay) -> int:
    with Wire(relay.port) as wire:
        wire.greet()
        return wire.command("MAIL FROM:<a@c.example>").code


def test_two_workers_count_and_draw_together(new_relay: Make) -> None:
    rules = (
        {"phase": "mail", "nth": [1, 2, 3], "reply": "451"},
        {"phase": "mail", "rate": 10, "reply": "452"},
    )
    relay = new_relay({**scripted(*rules), "workers": 2}).start()
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: code_of_mail(relay), range(40)))
    assert sorted(codes) == [250] * 7 + [451] * 3 + [452] * 30
    assert relay.stop() == 0
    assert "Traceback" not in relay.log()


@pytest.mark.parametrize("active", [True, False])
def test_a_server_says_that_its_answers_are_scripted(new_relay: Make, active: bool) -> None:
    port = free_port()
    config = scripted() if active else {}
    relay = new_relay({**config, "prometheus": {"portNumber": port}, "workers": 2}).start()
    assert ("flows.only.filters[1]: answers clients by a script" in relay.log()) is active
    shown = httpx.get(f"http://{HOST}:{port}/metrics", timeout=30).text
    assert f"\nsmtp_relay_respond_active {int(active)}" in shown


def test_refusals_and_drops_by_script_count_as_others_do(new_relay: Make) -> None:
    port = free_port()
    rules = (
        {"to": "a@h.example", "reply": "450"},
        {"to": "b@h.example", "reply": "550"},
        {"to": "c@h.example", "drop": True},
    )
    relay = new_relay({**scripted(*rules), "prometheus": {"portNumber": port}}).start()
    with Wire(relay.port) as wire:
        wire.greet()
        wire.command("MAIL FROM:<a@c.example>")
        for name in "abc":
            wire.send(f"RCPT TO:<{name}@h.example>\r\n".encode())
        assert len(wire.rest().splitlines()) == 2
    shown = httpx.get(f"http://{HOST}:{port}/metrics", timeout=30).text
    for status, count in (("rejected", 1), ("deferred", 2)):
        line = next(one for one in shown.splitlines() if "emails_total{" in one and f'"{status}"' in one)
        assert line.endswith(f" {count}")
    assert 'phase="rcpt",verdict="refuse"} 1' in shown
    assert "refused=1" in relay.log()


def test_a_server_that_sends_mail_on_does_not_start_with_a_script(new_relay: Make) -> None:
    away = {"type": "mailer", "nodemailer": {"host": HOST, "port": 9}}
    config = {"flows": {"only": {**flow(HERE, {"type": "respond"}), "outputs": [away]}}}
    relay = new_relay(config)
    done = subprocess.run(relay.command(), capture_output=True, text=True, cwd=relay.folder, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert "flows.only.filters[0]" in line or "flows.only.filters[1]" in line
    assert 'say "testOnly": true' in line


def test_a_reload_may_bring_a_script_and_take_it_away(new_relay: Make) -> None:
    relay = new_relay({"workers": 2}).start()
    assert code_of_mail(relay) == 250
    plain = relay.config["flows"]
    script = scripted({"phase": "mail", "nth": 2, "reply": "451"})["flows"]
    for flows, code in ((script, 451), (plain, 250)):
        relay.config["flows"] = flows
        seen = relay.log().count("configuration read again")
        relay.command()  # writes the file
        assert relay.process is not None
        relay.process.send_signal(signal.SIGHUP)
        wait_until(
            lambda seen=seen: relay.log().count("configuration read again") == seen + 2,  # type: ignore[misc]
            seconds=30,
            what="both workers",
        )
        assert [code_of_mail(relay) for _ in range(3)] == [250, code, 250]
