"""Limits of `sending-policy` that several listeners share in a table of DynamoDB."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from functions.aws.clients import REPEATABLE, plain_client
from listener.cli.main import main
from listener.filters.sending import items
from listener.filters.sending.counts import Over
from listener.filters.sending.slots import StoreFault, Taken, Window
from listener.filters.sending.table import TABLE, TableCounts
from tests.support.clients.wire import Wire
from tests.support.clouds.ministack import Ministack
from tests.support.net import HOST
from tests.support.servers.relay import Relay, flow

NAME: Final = "sending-limits"


@pytest.fixture
def client(aws: Ministack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in aws.environment.items():
        monkeypatch.setenv(name, value)
    made = plain_client("dynamodb", REPEATABLE)
    made.create_table(
        TableName=NAME,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    yield made
    made.delete_table(TableName=NAME)


def window(most: int, seconds: int = 86_400) -> tuple[Window, ...]:
    return (Window.of(f"ann/{seconds}", seconds, most, "out", "policy", "rules[0]", f"{most}/day", "ann"),)


async def take(counts: TableCounts, windows: tuple[Window, ...], number: int = 1) -> Taken | Over:
    found = counts.take(windows, number)
    return await found if isinstance(found, Awaitable) else found


def test_several_listeners_together_take_exactly_the_limit(client: Any) -> None:
    listeners = [TableCounts(NAME, lambda: client) for _ in range(4)]
    windows = window(1_000)

    async def send(counts: TableCounts, seed: int) -> int:
        chance, sent = random.Random(seed), 0
        while isinstance(found := await take(counts, windows), Taken):
            if chance.random() < 0.1:
                counts.give_back(windows, found.buckets, 1)
            else:
                sent += 1
        return sent

    async def all_send() -> int:
        first = sum(await asyncio.gather(*(send(one, seed) for seed, one in enumerate(listeners))))
        for one in listeners:
            await one.stop()
        # What a listener had left in its block is there for the others.
        return first + await send(TableCounts(NAME, lambda: client), 99)

    assert asyncio.run(all_send()) == 1_000


def test_a_listener_that_dies_has_spent_its_block_and_no_more(client: Any) -> None:
    windows = window(1_000)

    async def run() -> int:
        assert isinstance(await take(TableCounts(NAME, lambda: client), windows), Taken)
        other, sent = TableCounts(NAME, lambda: client), 0
        while isinstance(await take(other, windows), Taken):
            sent += 1
        return sent

    assert asyncio.run(run()) == 990


def test_no_window_of_all_listeners_is_above_the_limit(client: Any) -> None:
    machine = [1_800_000_000_000_000_000]
    windows = (*window(30, 60), *window(100, 600))
    listeners = [TableCounts(NAME, lambda: client, lambda: machine[0]) for _ in range(3)]
    chance = random.Random(5)
    log: list[int] = []

    async def run() -> None:
        held: list[tuple[TableCounts, Sequence[int]]] = []
        for _ in range(600):
            machine[0] += int(chance.choice((0, 0.02, 0.4, 5)) * 1e9)
            if held and chance.random() < 0.4:
                one, buckets = held.pop(chance.randrange(len(held)))
                if chance.random() < 0.3:
                    one.give_back(windows, tuple(buckets), 1)
                    continue
                renewed = one.renew(windows, tuple(buckets), 1)
                if isinstance(await renewed if isinstance(renewed, Awaitable) else renewed, Taken):
                    log.append(machine[0])
                continue
            one = chance.choice(listeners)
            found = await take(one, windows)
            if isinstance(found, Taken):
                held.append((one, found.buckets))
        for one in listeners:
            await one.stop()

    asyncio.run(run())
    assert log
    for at in log:
        for one in windows:
            assert sum(at - one.length < other <= at for other in log) <= one.most


def test_a_table_that_cannot_be_reached_is_a_fault(client: Any) -> None:
    async def run() -> None:
        with pytest.raises(StoreFault):
            await take(TableCounts("no-such-table", lambda: client), window(10))

    asyncio.run(run())


def served(make: Callable[..., Relay], aws: Ministack, table: str, **options: Any) -> Relay:
    rule = {"ip": "127.0.0.0/8", "limits": ["5/day"]}
    guard = {"type": "sending-policy", "name": "policy", "rules": [rule], **options}
    config = {"flows": {"out": flow(guard, {"type": "whitelist", "ips": [HOST]})}}
    return make(config, env={**aws.environment, TABLE: table}).start()


def send(relay: Relay) -> str:
    with Wire(relay.port) as wire:
        wire.greet()
        for command in ("MAIL FROM:<a@b.example>", "RCPT TO:<c@d.example>"):
            if (reply := wire.command(command)).code != 250:
                return str(reply)
        wire.command("DATA")
        wire.send(b"From: a@b.example\r\n\r\nhi\r\n.\r\n")
        return str(wire.reply())


def test_two_servers_share_a_limit(client: Any, aws: Ministack, new_relay: Callable[..., Relay]) -> None:
    first, second = served(new_relay, aws, NAME), served(new_relay, aws, NAME)
    replies = [send(relay) for _ in range(3) for relay in (first, second)]
    assert [reply[:3] for reply in replies] == ["250"] * 5 + ["451"]
    assert "5/day" in replies[-1]


def test_a_server_without_its_table_defers_or_accepts_as_the_file_says(
    client: Any, aws: Ministack, new_relay: Callable[..., Relay]
) -> None:
    began = time.monotonic()
    assert send(served(new_relay, aws, "none")).startswith("451 4.3.0")
    assert send(served(new_relay, aws, "none", onStoreError="accept")).startswith("250")
    assert time.monotonic() - began < 60


@pytest.fixture
def config(client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration whose listeners count in the table."""
    monkeypatch.setenv(TABLE, NAME)
    guard = {"type": "sending-policy", "rules": [{"user": "glob:*", "limits": "1000/day"}]}
    flows = {"out": {"filters": [guard], "outputs": []}}
    (tmp_path / "relay.json").write_text(json.dumps({"spool": f"file://{tmp_path}/spool", "flows": flows}))
    return str(tmp_path / "relay.json")


def of(user: str, most: int = 50, seconds: int = 86_400) -> tuple[Window, ...]:
    label = ("the flow", "policy", "rules[0]", f"{most}/day", user)
    return (Window.of(f"{user}/{seconds}", seconds, most, *label),)


def test_quota_shows_and_resets_the_table_beside_listeners(
    client: Any, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = TableCounts(NAME, lambda: client)

    def quota(*words: str) -> list[str]:
        assert main(["quota", *words, "-c", config]) == 0
        return capsys.readouterr().out.splitlines()

    assert quota() == ["nothing counts now"]
    for user, number in (("ann lee@example.com", 3), ("bob", 49), ("eve", 5)):
        for _ in range(number):
            assert isinstance(asyncio.run(take(counts, of(user))), Taken)
    assert quota() == [
        "bob: 49 of 50/day  (the flow/policy rules[0])",
        "eve: 5 of 50/day  (the flow/policy rules[0])",
        "ann lee@example.com: 3 of 50/day  (the flow/policy rules[0])",
    ]
    (row,) = map(json.loads, quota("show", "ANN lee@example.com", "--json"))
    assert (row["flow"], row["who"], row["used"], row["most"]) == ("the flow", "ann lee@example.com", 3, 50)
    assert row["seconds"] == 86_400
    assert quota("reset", "BOB", "nobody") == ["bob: 1 counts forgotten", "nobody: 0 counts forgotten"]
    assert asyncio.run(take(counts, of("bob"), 50)) != Over(0)
    assert asyncio.run(take(counts, of("bob"), 1)) == Over(0)
    assert quota("reset", "--all", "--json") == ['{"who": null, "counts": 3}']
    assert quota() == ["nothing counts now"]


def test_quota_reads_a_table_of_many_pages_and_counts_no_window_that_ended(
    client: Any, config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(items, "_PAGE", 7)
    long_ago = time.time_ns() - 200 * 1_000_000_000
    old = TableCounts(NAME, lambda: client, lambda: long_ago)
    now = TableCounts(NAME, lambda: client)
    client.put_item(TableName=NAME, Item={"id": {"S": "another/item"}})

    async def count() -> None:
        await take(old, of("old", seconds=60))
        for number in range(40):
            await take(now, of(f"user{number}"))

    asyncio.run(count())
    assert main(["quota", "--json", "-c", config]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(row["who"] for row in rows) == sorted(f"user{number}" for number in range(40))
    assert main(["quota", "reset", "--all", "-c", config]) == 0
    assert capsys.readouterr().out == "everybody: 40 counts forgotten\n"


def test_a_reset_waits_its_turn_while_a_listener_counts(client: Any) -> None:
    counts = TableCounts(NAME, lambda: client)

    class Busy:
        """The client of an operator, before whose first write a listener counts once more."""

        exceptions = client.exceptions
        scan, get_item = client.scan, client.get_item
        writes = 0

        def put_item(self, **given: Any) -> None:
            Busy.writes += 1
            if Busy.writes == 1:
                asyncio.run(take(counts, of("ann")))
            client.put_item(**given)

    asyncio.run(take(counts, of("ann")))
    table = items.TableItems(NAME, Busy)
    assert table.reset() == 1
    assert Busy.writes == 2
    assert list(table.used()) == []


def test_a_table_that_is_not_there_is_one_line(
    config: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(TABLE, "no-such-table")
    assert main(["quota", "-c", config]) == 1
    error = capsys.readouterr().err
    assert error.startswith("smtp-relay: no-such-table: ")
    assert "dynamodb:Scan" in error
    assert error.count("\n") == 1
