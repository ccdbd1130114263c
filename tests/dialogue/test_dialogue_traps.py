"""The traps of stock aiosmtpd 1.4.6: each check passes on the relay and fails on the stock class.

If the stock side of a trap starts to pass, the trap is gone: the test then fails, so a developer
can review the code that avoids it.
"""

from __future__ import annotations

import shutil
import time
from base64 import b64encode
from collections.abc import Callable

import pytest

from tests.support.clients.wire import Closed, Wire, submit
from tests.support.servers.relay import Relay, Server, Stock, flow

Make = Callable[..., Relay]
MakeStock = Callable[..., Stock]
Check = Callable[[Server], bool]


def _memory_stays_flat(server: Server) -> bool:
    line = b"x" * 76 + b"\r\n"
    assert submit(server.port, b"a: b\r\n\r\n" + line).code == 250
    server.reset_peak()
    before = server.peak()
    assert submit(server.port, b"a: b\r\n\r\n" + line * (30 * 2**20 // len(line))).code == 250
    return server.peak() - before < 8 * 2**20


def test_a_large_mail_is_not_held_in_memory(relay: Relay, stock_for: MakeStock) -> None:
    assert _memory_stays_flat(relay)
    assert not _memory_stays_flat(stock_for())


def _slow_upload_succeeds(server: Server) -> bool:
    with Wire(server.port) as wire:
        wire.begin()
        try:
            for _ in range(14):
                wire.send(b"a: b\r\n" + b"c" * 600 + b"\r\n")
                time.sleep(0.2)
            wire.send(b".\r\n")
            return wire.reply().code == 250
        except (Closed, OSError):
            return False


def test_a_slow_upload_outlives_the_idle_timeout(new_relay: Make, stock_for: MakeStock) -> None:
    assert _slow_upload_succeeds(new_relay(socketTimeout=1500).start())
    assert not _slow_upload_succeeds(stock_for("--timeout", "1.5"))


def _fault_stays_inside(server: Server) -> bool:
    """A disk that fails under the server: the client gets 4xx, without the reason."""
    for path in (server.received, server.folder / "spool"):
        if path.is_dir():
            shutil.rmtree(path)
            path.write_text("not a folder any more")
    reply = submit(server.port, b"a: b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 1000)
    assert reply.code >= 400
    words = ("Error", "Errno", str(server.folder), "Exception", "No such file", "Not a directory")
    return reply.code < 500 and not any(word in reply.text for word in words)


def test_a_fault_never_shows_its_text(new_relay: Make, stock_for: MakeStock) -> None:
    assert _fault_stays_inside(new_relay().start())
    assert not _fault_stays_inside(stock_for())


def _null_sender_is_empty(server: Server) -> bool:
    assert submit(server.port, b"a: b\r\n\r\nx\r\n", "").code == 250
    if isinstance(server, Stock):
        return "mail ''" in server.log()
    return server.files()[0].name == "null=_=.eml"  # the name part that an empty value becomes


def test_the_null_sender_is_the_empty_string(new_relay: Make, stock_for: MakeStock) -> None:
    relay = new_relay({"flows": {"all": flow(filename="null=${from}=.eml")}}).start()
    assert _null_sender_is_empty(relay)
    assert not _null_sender_is_empty(stock_for("--record"))


def _refuses_at_connect(server: Server) -> bool:
    with Wire(server.port) as wire:
        return wire.reply().code == 554


def test_a_client_can_be_refused_at_connect(new_relay: Make, stock_for: MakeStock) -> None:
    elsewhere = {"type": "whitelist", "ips": ["192.0.2.1"]}
    assert _refuses_at_connect(new_relay({"flows": {"all": flow(elsewhere)}}).start())
    assert not _refuses_at_connect(stock_for("--record"))  # its handler has a handle_CONNECT


def _recipients_are_bounded(server: Server) -> bool:
    with Wire(server.port) as wire:
        wire.greet()
        assert wire.command("MAIL FROM:<a@client.example>").code == 250
        for start in range(0, 5000, 100):
            wire.send(b"".join(b"RCPT TO:<u%d@server.example>\r\n" % (start + n) for n in range(100)))
            for _ in range(100):
                if wire.reply().code == 452:
                    return True
    return False


def test_five_thousand_recipients_are_too_many(relay: Relay, stock_for: MakeStock) -> None:
    assert _recipients_are_bounded(relay)
    assert not _recipients_are_bounded(stock_for())


def _nul_in_an_address_is_refused(server: Server) -> bool:
    with Wire(server.port) as wire:
        wire.greet()
        return wire.command(b"MAIL FROM:<a\0b@client.example>").code in (501, 553)


def test_nul_in_an_address_is_refused(relay: Relay, stock_for: MakeStock) -> None:
    assert _nul_in_an_address_is_refused(relay)
    assert not _nul_in_an_address_is_refused(stock_for())


def _content_has_only_crlf(server: Server) -> bool:
    submit(server.port, b"a: b\r\n\r\none\ntwo\rthree\n.\nfour\r\n")
    return all(set(mail.replace(b"\r\n", b"")).isdisjoint(b"\r\n") for mail in server.mails())


def test_bare_newlines_do_not_reach_the_content(relay: Relay, stock_for: MakeStock) -> None:
    assert _content_has_only_crlf(relay)
    assert not _content_has_only_crlf(stock_for())


def _mechanisms_ignore_case(server: Server) -> bool:
    with Wire(server.port) as wire:
        wire.greet()
        return wire.command("AUTH plain " + b64encode(b"\0user\0pass").decode()).code == 235


def test_mechanism_names_ignore_case(new_relay: Make, stock_for: MakeStock) -> None:
    assert _mechanisms_ignore_case(new_relay(allowInsecureAuth=True).start())
    assert not _mechanisms_ignore_case(stock_for("--auth"))


def _long_lines_are_taken(server: Server) -> bool:
    return submit(server.port, b"a: b\r\n\r\n" + b"x" * 2000 + b"\r\n").code == 250


def test_lines_over_a_thousand_bytes_are_accepted(relay: Relay, stock_for: MakeStock) -> None:
    assert _long_lines_are_taken(relay)
    assert not _long_lines_are_taken(stock_for())


def _cpu(server: Server, work: Callable[[], object]) -> float:
    work()
    before = server.cpu()
    work()
    return server.cpu() - before


@pytest.mark.slow
def test_a_connection_costs_little(relay: Relay, stock_for: MakeStock) -> None:
    """Stock aiosmtpd walks its class by reflection for each connection."""

    def connect(port: int) -> None:
        for _ in range(1_000):
            with Wire(port) as wire:
                wire.greet()
                wire.command("QUIT")

    stock = stock_for()
    ours = _cpu(relay, lambda: connect(relay.port))
    theirs = _cpu(stock, lambda: connect(stock.port))
    assert ours < theirs * 0.7, (ours, theirs)


@pytest.mark.slow
def test_a_megabyte_costs_little(relay: Relay, stock_for: MakeStock) -> None:
    """Stock aiosmtpd reads DATA a line at a time."""
    mail = b"a: b\r\n\r\n" + (b"x" * 76 + b"\r\n") * 130_000

    stock = stock_for()
    ours = _cpu(relay, lambda: submit(relay.port, mail))
    theirs = _cpu(stock, lambda: submit(stock.port, mail))
    assert ours < theirs / 3, (ours, theirs)
