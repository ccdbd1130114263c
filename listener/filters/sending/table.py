"""Counts of recipients that several listeners share, in a table of DynamoDB.

Each limit of each user is one item with the counts of the parts of its window. A process takes blocks of
recipients out of it, of 1 % of the limit and at most 100, and uses a block only during the part of the window
in which it took it; what is left goes back with the next block. So the counts of all listeners together are
never above a limit, if their clocks agree. An item is read and written on condition that no other process
wrote meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from listener.filters.sending.counts import WARN, Over
from listener.filters.sending.slots import PARTS, Buckets, StoreFault, Taken, Window

log = logging.getLogger("smtp_relay.filters")

TABLE: Final = "SMTP_RELAY_LIMITS_TABLE"
"""Environment variable with the name of the table: its key is the text `id`, its TTL `expiration`."""

PREFIX: Final = "sending-limits/"
"""The start of each item's id."""

_LARGEST: Final = 100
TRIES: Final = 40
"""Attempts to write an item that other processes write at the same time."""

_BLOCKS: Final = 8_192
_PATIENCE: Final = 10.0
"""Seconds for which a server that stops waits for the table."""


class _Block:
    """Recipients that this process may take, and where they are counted."""

    __slots__ = ("buckets", "left", "pending", "share", "warned")

    def __init__(self) -> None:
        self.buckets: Buckets = ()
        self.left = 0
        self.share = 0.0
        self.pending: asyncio.Task[Over | None] | None = None
        self.warned = 0


class TableCounts:
    """The counts in one table. `client` makes the DynamoDB client. Called in the event loop; a call that has
    to ask the table returns an awaitable, which raises StoreFault if there is no answer."""

    def __init__(
        self, table: str, client: Callable[[], Any], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._table = table
        self._make = client
        self._client: Any = None
        self._clock = clock
        self._blocks: dict[tuple[Window, ...], _Block] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, windows: tuple[Window, ...], number: int = 1) -> Taken | Awaitable[Taken | Over]:
        """Count recipients if every limit has room for them."""
        block = self._block(windows)
        if block.left >= number and block.buckets == self._now(windows):
            block.left -= number
            return Taken(block.buckets, block.share)
        return self._later(windows, block, number)

    def prepare(self, windows: tuple[Window, ...]) -> Awaitable[Taken | Over] | None:
        """Take a block for a mail that begins, if there is none; the result takes no recipient."""
        block = self._block(windows)
        if block.left and block.buckets == self._now(windows):
            return None
        return self._later(windows, block, 0)

    def current(self, windows: tuple[Window, ...], buckets: Buckets) -> bool:
        """True if these are the parts of now."""
        return buckets == self._now(windows)

    def renew(
        self, windows: tuple[Window, ...], buckets: Buckets, number: int
    ) -> Taken | Awaitable[Taken | Over]:
        """Let recipients count from now on."""
        if self.current(windows, buckets):
            return Taken(buckets, 0.0)
        return self._renewed(windows, buckets, number)

    def give_back(self, windows: tuple[Window, ...], buckets: Buckets, number: int) -> None:
        """Take recipients out of the counts; it does not wait for the table."""
        block = self._block(windows)
        if block.buckets == buckets == self._now(windows):
            block.left += number
            return
        task = asyncio.get_running_loop().create_task(self._returned(windows, buckets, number))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """Give unused blocks back, for `_PATIENCE` at most: what is not given back stays counted."""
        try:
            async with asyncio.timeout(_PATIENCE):
                for windows, block in self._blocks.items():
                    if block.left:
                        left, block.left = block.left, 0
                        await self._returned(windows, block.buckets, left)
                await asyncio.gather(*self._tasks, return_exceptions=True)
        except TimeoutError:
            log.warning(
                "recipients stay counted", extra={"reason": f"{self._table} is slow, and the server stops"}
            )

    # -- in the event loop ---------------------------------------------------------------------

    def _now(self, windows: Sequence[Window]) -> Buckets:
        now = self._clock()
        return tuple([now * PARTS // one.length for one in windows])

    def _block(self, windows: tuple[Window, ...]) -> _Block:
        block = self._blocks.get(windows)
        if block is None:
            if len(self._blocks) >= _BLOCKS:
                # What they have left stays counted until the windows end.
                self._blocks = {key: one for key, one in self._blocks.items() if one.pending is not None}
            block = self._blocks[windows] = _Block()
        return block

    async def _later(self, windows: tuple[Window, ...], block: _Block, number: int) -> Taken | Over:
        need = max(1, number)
        while not (block.left >= need and block.buckets == self._now(windows)):
            if block.pending is None:
                block.pending = asyncio.create_task(self._refill(windows, block, need))
                block.pending.add_done_callback(_seen)
            # A client that leaves cancels only its own wait.
            over = await asyncio.shield(block.pending)
            if over is not None:
                return over
            if block.left >= need:
                break  # the part of the window may be over already: it was not when the block came
        block.left -= number
        warn = tuple(range(len(windows))) if block.share >= WARN and self._warns(windows, block) else ()
        return Taken(block.buckets, block.share, warn[:1])

    def _warns(self, windows: Sequence[Window], block: _Block) -> bool:
        now = self._clock()
        if block.warned and now - block.warned < max(one.length for one in windows):
            return False
        block.warned = now
        return True

    async def _refill(self, windows: tuple[Window, ...], block: _Block, need: int) -> Over | None:
        back, left, block.left = block.buckets, block.left, 0
        try:
            found = await asyncio.to_thread(self._exchange, windows, back, left, need)
        finally:
            block.pending = None
        if isinstance(found, Over):
            return found
        block.buckets, block.left, block.share = found
        return None

    async def _renewed(self, windows: tuple[Window, ...], buckets: Buckets, number: int) -> Taken | Over:
        found = await asyncio.to_thread(self._exchange, windows, buckets, number, number, exact=True)
        return found if isinstance(found, Over) else Taken(found[0], found[2])

    async def _returned(self, windows: tuple[Window, ...], buckets: Buckets, number: int) -> None:
        try:
            await asyncio.to_thread(self._exchange, windows, buckets, number, 0)
        except StoreFault:
            return  # they stay counted

    # -- in a thread ---------------------------------------------------------------------------

    def _exchange(
        self, windows: Sequence[Window], back: Buckets, left: int, need: int, *, exact: bool = False
    ) -> tuple[Buckets, int, float] | Over:
        """Give recipients back that were counted in the parts `back`, and take at least `need`: where they
        count, how many, and the used part of the fullest limit. Raises StoreFault."""
        try:
            if self._client is None:
                self._client = self._make()
            buckets: list[int] = []
            granted = need
            if need and not exact:
                granted = max(need, min(_LARGEST, min(one.most for one in windows) // 100))
            share = 0.0
            for place, one in enumerate(windows):
                returned = (back[place], left) if left and back else None
                bucket, got, part = self._item(one, returned, granted, need)
                if got < granted:
                    for earlier, at in zip(windows, buckets, strict=False):
                        self._item(earlier, (at, granted - got), 0, 0)
                    granted = got
                if need and not got:
                    for other, where in list(zip(windows, back, strict=False))[place + 1 :] if left else ():
                        self._item(other, (where, left), 0, 0)
                    return Over(place)
                buckets.append(bucket)
                share = max(share, part)
            return tuple(buckets), granted, share
        except StoreFault:
            raise
        except Exception as error:
            raise StoreFault(f"{self._table}: {error}") from error

    def _item(
        self, window: Window, back: tuple[int, int] | None, want: int, need: int
    ) -> tuple[int, int, float]:
        """Change one item: the part of the window that it is now, how many recipients were taken (`want`,
        or fewer, and none if there is no room for `need`), and the used part of the limit."""
        key = {"id": {"S": f"{PREFIX}{window.key:x}"}}
        for attempt in range(TRIES):
            found = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True).get("Item")
            bucket = self._clock() * PARTS // window.length
            ring = current_ring(found, bucket)
            if back is not None and ring.get(back[0], 0) >= back[1]:
                ring[back[0]] -= back[1]
            total = sum(ring.values())
            got = min(want, window.most - total)
            if got < need:
                got = 0
            if back is None and got <= 0:
                return bucket, 0, total / window.most
            ring[bucket] = ring.get(bucket, 0) + max(0, got)
            version = int(found["version"]["N"]) if found else 0
            item = {
                **key,
                "version": {"N": str(version + 1)},
                "ring": {"S": json.dumps({str(at): number for at, number in ring.items() if number})},
                "most": {"N": str(window.most)},
                "seconds": {"N": str(window.length // 1_000_000_000)},
                "label": {"S": json.dumps(window.label.decode("utf-8", "replace").split("\0"))},
                "expiration": {"N": str((self._clock() + 2 * window.length) // 1_000_000_000 + 60)},
            }
            condition: dict[str, Any] = {"ConditionExpression": "attribute_not_exists(id)"}
            if found:
                condition = {
                    "ConditionExpression": "version = :version",
                    "ExpressionAttributeValues": {":version": {"N": str(version)}},
                }
            try:
                self._client.put_item(TableName=self._table, Item=item, **condition)
            except self._client.exceptions.ConditionalCheckFailedException:
                time.sleep(0.002 * (attempt + 1))
                continue
            return bucket, max(0, got), (total + max(0, got)) / window.most
        raise StoreFault(f"{self._table}: too many processes write one item")


def _seen(task: asyncio.Task[Over | None]) -> None:
    """A fault that no client waits for any more is no news for asyncio."""
    if not task.cancelled():
        task.exception()


def current_ring(found: Any, bucket: int) -> dict[int, int]:
    """The counts of an item that are not outside of the window whose last part is `bucket`. Parts that begin
    later, by another clock, stay."""
    if not found:
        return {}
    read = json.loads(found["ring"]["S"])
    return {int(at): int(number) for at, number in read.items() if int(at) >= bucket - PARTS}


def label_of(item: Any) -> tuple[str, ...]:
    """The words that people read about an item: flow, filter, rule, limit, and for whom it counts."""
    text: str = item["label"]["S"]
    # An earlier version put blanks between them.
    return tuple(json.loads(text)) if text.startswith("[") else tuple(text.split(" ", 4))


def client() -> Any:
    """A client that gives up soon: the listener asks it while a client waits."""
    from functions.aws.clients import plain_client

    retries = {"mode": "standard", "total_max_attempts": 3}
    return plain_client("dynamodb", {"connect_timeout": 2, "read_timeout": 3, "retries": retries})
