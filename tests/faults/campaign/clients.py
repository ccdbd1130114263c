"""Clients of several kinds that send numbered mails until the campaign stops them. A broken connection ends a
mail, never the client."""

from __future__ import annotations

import contextlib
import random
import smtplib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from tests.faults.campaign.numbered_mails import CHECKED, DOOR, SENDER, Book, letter, recipients
from tests.support.clients.wire import Closed, Reply, Wire, stuffed
from tests.support.net import HOST

PATIENCE: Final = 30.0
_REST: Final = 0.03  # seconds after a connection failed

Ports = Mapping[str, int]
Client = Callable[[Book, int, str, random.Random, threading.Event], None]
"""One connection: sends some mails to a port, then ends."""


def one_shot(book: Book, port: int, door: str, moments: random.Random, stop: threading.Event) -> None:
    """smtplib, a mail for each connection."""
    number = book.number()
    wanted = recipients(number, door)
    with smtplib.SMTP(HOST, port, "client.example", timeout=PATIENCE) as client:
        client.ehlo()
        book.leaves(number, door, wanted)
        try:
            refused = client.sendmail(SENDER, wanted, letter(number))
        except smtplib.SMTPDataError as error:
            book.answered(number, error.smtp_code)
        except smtplib.SMTPRecipientsRefused as error:
            book.answered(number, next(iter(error.recipients.values()))[0], ())
        except smtplib.SMTPSenderRefused as error:
            book.answered(number, error.smtp_code, ())
        else:
            book.answered(number, 250, tuple(each for each in wanted if each not in refused))


def steady(book: Book, port: int, door: str, moments: random.Random, stop: threading.Event) -> None:
    """Command by command, mail after mail over one connection."""
    with Wire(port, patience=PATIENCE) as wire:
        wire.greet()
        for _ in range(moments.randrange(1, 60)):
            if stop.is_set() or book.full:
                break
            number = book.number()
            if (reply := wire.command(f"MAIL FROM:<{SENDER}>")).code != 250:
                book.heard(reply.code)
                break
            accepted = []
            for each in recipients(number, door):
                reply = wire.command(f"RCPT TO:<{each}>")
                book.heard(reply.code)
                if reply.code == 250:
                    accepted.append(each)
            if not accepted or (reply := wire.command("DATA")).code != 354:
                book.heard(reply.code)
                break
            _send_content(book, wire, number, door, tuple(accepted))
        with contextlib.suppress(OSError, Closed):
            wire.command("QUIT")


def pipelining(book: Book, port: int, door: str, moments: random.Random, stop: threading.Event) -> None:
    """Each envelope in one write (RFC 2920), as smtp-source and Postfix do."""
    with Wire(port, patience=PATIENCE) as wire:
        wire.greet()
        for _ in range(moments.randrange(1, 40)):
            if stop.is_set() or book.full:
                break
            number = book.number()
            wanted = recipients(number, door)
            lines = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{each}>" for each in wanted), "DATA"]
            wire.send("".join(f"{line}\r\n" for line in lines).encode())
            replies = [wire.reply() for _ in lines]
            for reply in replies[1:]:
                book.heard(reply.code)
            accepted = tuple(
                each for each, reply in zip(wanted, replies[1:-1], strict=True) if reply.code == 250
            )
            if replies[-1].code != 354:
                break
            _send_content(book, wire, number, door, accepted, chunks=moments.choice([None, 1_000]))
        with contextlib.suppress(OSError, Closed):
            wire.command("QUIT")


def quitting(book: Book, port: int, door: str, moments: random.Random, stop: threading.Event) -> None:
    """Hangs up at any point: after the banner, EHLO, MAIL, RCPT, DATA, within the mail, right before or
    after its last byte, before the answer."""
    number = book.number()
    content = stuffed(letter(number))
    point = moments.randrange(8)
    with Wire(port, patience=PATIENCE) as wire:
        if point == 0:
            return
        wire.greet()
        if point == 1:
            return
        steps = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{each}>" for each in recipients(number, door)), "DATA"]
        accepted: tuple[str, ...] = ()
        for line in steps[: 1 if point == 2 else 2 if point == 3 else len(steps)]:
            reply = wire.command(line)
            book.heard(reply.code)
            if reply.code not in (250, 354):
                return
            if line.startswith("RCPT"):
                accepted = (*accepted, line[9:-1])
        if point <= 4:
            return
        if point in (5, 6):
            book.hung_up(number)
            wire.send(content[: moments.randrange(1, len(content)) if point == 5 else -1])
            return
        book.leaves(number, door, accepted)
        wire.send(content)


def _send_content(
    book: Book, wire: Wire, number: int, door: str, accepted: tuple[str, ...], chunks: int | None = None
) -> Reply:
    content = stuffed(letter(number))
    book.leaves(number, door, accepted)
    wire.send(content, chunks=chunks if len(content) < 5_000 else None)
    reply = wire.reply()
    book.answered(number, reply.code)
    return reply


_MAKES: Final[tuple[tuple[Client, str], ...]] = (
    (one_shot, DOOR),
    (steady, DOOR),
    (pipelining, DOOR),
    (quitting, DOOR),
    (steady, CHECKED),
    (steady, DOOR),
    (one_shot, DOOR),
    (pipelining, DOOR),
)


@contextmanager
def busy(book: Book, ports: Ports, count: int, seed: str) -> Iterator[None]:
    """Keep `count` clients of all makes busy during the block. Raises AssertionError when one hangs
    or finds the server to break the protocol."""
    stop = threading.Event()
    wrong: list[BaseException] = []

    def work(index: int) -> None:
        client, door = _MAKES[index % len(_MAKES)]
        moments = random.Random(f"{seed} {index}")
        while not stop.is_set():
            if book.full:
                stop.wait(_REST)
                continue
            try:
                client(book, ports[door], door, moments, stop)
                if client is quitting:
                    stop.wait(_REST)
            except (OSError, Closed, smtplib.SMTPException):
                stop.wait(_REST)
            except AssertionError as error:
                # A relay that is going away may say 421 at any point (RFC 5321 section 3.8).
                if "421" not in str(error):
                    wrong.append(error)
                stop.wait(_REST)

    threads = [threading.Thread(target=work, args=(index,), daemon=True) for index in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE + 5)
    assert not any(thread.is_alive() for thread in threads), "a client hangs"
    assert not wrong, wrong[:3]
