"""The campaign against a local AWS: the listener spools to S3, the zip runs as a function, and what
lies between them and AWS fails."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.faults.audit import Found
from tests.faults.campaign import Say, Summary
from tests.faults.clients import busy
from tests.faults.letters import DOOR, FILED, Book, id_of, letter, number_of
from tests.faults.proxy import MOODS, Proxy, proxy
from tests.support.aws_stack import Stack
from tests.support.mails import strip_added_fields
from tests.support.ministack import Ministack
from tests.support.net import HOST, wait_until
from tests.support.servers import Relay

FLOWS: Final = {
    "all": [
        {
            "type": "aws",
            "name": "store-and-tell",
            "storage": {"bucket": "{bucket}", "path": "${id}.eml", "addRawHeaders": False},
            "pubsub": {"topic": "{queue:out}"},
        }
    ]
}
CLIENTS: Final = 4


class Site:
    """A stack, a listener, and a proxy before AWS for each of the two halves."""

    def __init__(self, aws: Ministack, folder: Path, store: Proxy, calls: Proxy) -> None:
        self.store, self.calls = store, calls
        told = dict(aws.environment)
        try:
            aws.environment |= {"AWS_ENDPOINT_URL": calls.url, "AWS_ENDPOINT_URL_S3": calls.url}
            config = {"flows": {name: {"outputs": outputs} for name, outputs in FLOWS.items()}}
            self.stack = Stack(aws, folder, config, visibility=60, timeout=60)
        finally:
            aws.environment = told
        flows = {
            name: {"filters": [{"type": "whitelist", "ips": [HOST]}], **one}
            for name, one in self.stack.raw["flows"].items()
        }
        spool = {"url": self.stack.raw["spool"], "timeout": 3_000}
        environment = told | {"AWS_ENDPOINT_URL": store.url, "AWS_ENDPOINT_URL_S3": store.url}
        loggers = [{"type": "CONSOLE", "format": "json"}]
        raw = {**self.stack.raw, "flows": flows, "spool": spool, "loggers": loggers}
        self.relay = Relay(folder / "relay", raw, env=environment)
        self.events: Counter[str] = Counter()
        self.killed = 0

    def collect(self) -> None:
        """Take what the output queue holds."""
        for event in self.stack.messages("out", least=10**6, seconds=0.3):
            self.events[event["id"]] += 1

    def finish(self, seconds: float = 180) -> None:
        """Ring for what is owed until nothing is. Raises TimeoutError."""
        deadline = time.monotonic() + seconds
        while owed := self.stack.spooled():
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(owed)} mails are still owed:\n{self.stack.aws.log()[-4_000:]}")
            self.stack.expire_claims()
            self.stack.ring(*owed)
            self.collect()
            time.sleep(0.5)
        self.stack.until(lambda: not self.stack.waits()[0], "the doorbells to be heard", 60)
        self.collect()


@contextmanager
def site(aws: Ministack, folder: Path, seed: str) -> Iterator[Site]:
    """Everything, running."""
    folder.mkdir(parents=True, exist_ok=True)
    with proxy(aws.port, f"{seed} store") as store, proxy(aws.port, f"{seed} calls") as calls:
        made = Site(aws, folder, store, calls)
        try:
            made.relay.start()
            yield made
        finally:
            if made.relay.alive:
                made.relay.kill()
            made.stack.close()


def _kill(made: Site, moments: random.Random) -> str:
    made.relay.kill()
    made.relay.start()
    return "SIGKILL"


def _terminate(made: Site, moments: random.Random) -> str:
    status = made.relay.stop()
    assert status == 0, f"ended with {status}:\n{made.relay.log()[-3_000:]}"
    made.relay.start()
    return "SIGTERM"


def _repeat(made: Site, moments: random.Random) -> str:
    """Every mail that is owed is rung for again, twice, in another order."""
    keys = made.stack.spooled()[:100] * 2
    moments.shuffle(keys)
    made.stack.ring(*keys)
    return f"{len(keys)} doorbells repeated"


def _silence(made: Site, moments: random.Random) -> str:
    """No event comes at all for a while; later somebody rings for what is there."""
    made.stack.notify(on=False)
    time.sleep(moments.uniform(0.5, 1.5))
    made.stack.notify()
    return "no events"


def _kill_function(made: Site, moments: random.Random) -> str:
    """A process that runs the function is killed at any moment."""
    keys = made.stack.spooled()[:5]
    run = made.stack.run_apart({"Records": [made.stack.message(key) for key in keys]})
    with contextlib.suppress(Exception):
        run.wait(moments.uniform(0.8, 2.5))
    run.kill()
    run.wait()
    made.killed += len(keys)
    return "a function killed"


def _calm(made: Site, moments: random.Random) -> str:
    time.sleep(moments.uniform(0.2, 0.6))
    return "calm"


BLOWS: Final[tuple[Callable[[Site, random.Random], str], ...]] = (
    _calm, _calm, _kill, _terminate, _repeat, _repeat, _silence, _kill_function,
)  # fmt: skip


def episode(aws: Ministack, folder: Path, rounds: int, mails: int, seed: str, say: Say = print) -> Summary:
    """So many rounds with at least so many mails each. Raises AssertionError with all that is wrong."""
    moments = random.Random(seed)
    summary = Summary(rounds=rounds)
    book = Book()
    began = time.monotonic()
    with site(aws, folder, seed) as made:
        with busy(book, {DOOR: made.relay.port}, CLIENTS, seed):
            for number in range(rounds):
                made.store.mood = moments.choice(MOODS) if moments.random() < 0.6 else "fine"
                made.calls.mood = moments.choice(MOODS) if moments.random() < 0.5 else "fine"
                moods = f"store {made.store.mood}, function's calls {made.calls.mood}"
                done = moments.choice(BLOWS)(made, moments)
                time.sleep(0.3)
                made.store.mood = "fine" if made.store.mood == "down" else made.store.mood
                target = len(book.sent) + mails
                wait_until(lambda t=target: len(book.sent) >= t, seconds=90, what="mails", every=0.02)  # type: ignore[misc]
                made.collect()
                summary.blows[done] += 1
                say(f"  round {number + 1}/{rounds}: {done}; {moods}; {len(book.sent)} mails so far")
        made.store.mood = made.calls.mood = "fine"
        made.finish()
        summary.found = _audit(made, book)
        assert made.relay.stop() == 0
    summary.codes.update(book.codes)
    summary.seconds = time.monotonic() - began
    assert not summary.found.wrong, f"seed {seed!r}:\n" + "\n".join(summary.found.wrong[:40])
    return summary


def _audit(made: Site, book: Book) -> Found:
    found = Found(mails=book.taken, sent=len(book.sent))
    ids: dict[int, str] = {}
    for key, stored in made.stack.stored().items():
        number, mail_id = number_of(stored), id_of(stored)
        ours = stored.find(b"x-smtp-relay: ")
        if number is None or mail_id is None or strip_added_fields(stored[ours:]) != letter(number):
            found.torn.append(f"{key}: {stored[:200]!r}")
        elif number in ids:
            found.repeated.append(f"{number} is stored as {ids[number]} and {mail_id}")
        else:
            ids[number] = mail_id
    if missing := book.acknowledged() - ids.keys():
        found.lost.append(f"answered 250 and not stored: {len(missing)}, {sorted(missing)[:8]}")
    if strange := ids.keys() - book.possible(recipient=FILED):
        found.other.append(f"stored and never sent: {sorted(strange)[:8]}")
    if half := book.cut & ids.keys():
        found.torn.append(f"mails that were never sent whole: {sorted(half)[:8]}")
    if untold := [number for number, mail_id in ids.items() if not made.events[mail_id]]:
        found.lost.append(f"stored without an event: {len(untold)}, {sorted(untold)[:8]}")
    if unknown := made.events.keys() - set(ids.values()):
        found.other.append(f"events of unknown mails: {sorted(unknown)[:5]}")
    twice = sum(times - 1 for times in made.events.values())
    # An answer of SQS that is lost, or a run that dies: nobody can know, and `onDoubt` resends.
    found.doubtful = twice
    if twice > made.calls.lost + made.killed + _cut(made):
        found.repeated.append(
            f"{twice} events twice; {made.calls.lost} answers lost, {made.killed} in killed runs"
        )
    found.other += [f"a dead record: {record}" for record in made.stack.dead_records()]
    found.effects = len(ids) + sum(made.events.values())
    return found


def _cut(made: Site) -> int:
    """Calls whose connection was cut: the function says of which it is in doubt."""
    return made.stack.aws.log().count('"in_doubt"') + made.stack.aws.log().count("in doubt")
