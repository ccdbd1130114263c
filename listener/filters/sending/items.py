"""The counts that several listeners share, as an operator reads and resets them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from listener.filters.sending.counts import Used
from listener.filters.sending.slots import PARTS, StoreFault
from listener.filters.sending.table import PREFIX, TRIES, current_ring, label_of

_PAGE: Final = 1_000
"""Items of one answer."""


class TableItems:
    """The items of one table; `client` makes the DynamoDB client. Blocks that listeners have taken count as
    used."""

    def __init__(
        self, table: str, client: Callable[[], Any], clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._table = table
        self._make = client
        self._client: Any = None
        self._clock = clock

    def used(self) -> Iterator[Used]:
        """The counts that are not zero. Raises StoreFault."""
        for item in self._items():
            if used := self._count(item):
                yield Used(label_of(item), used, int(item["most"]["N"]), _seconds(item))

    def reset(self, user: str | None = None) -> int:
        """Forget the counts of a user, or of all; returns how many counts were not zero. What listeners have
        left of their blocks they may still use. Raises StoreFault."""
        found = 0
        for item in self._items():
            if user is None or label_of(item)[-1] == user:
                found += self._empty(item)
        return found

    def _items(self) -> Iterator[dict[str, Any]]:
        more: dict[str, Any] = {}
        while True:
            try:
                self._client = self._client or self._make()
                page = self._client.scan(TableName=self._table, ConsistentRead=True, Limit=_PAGE, **more)
            except Exception as error:
                raise StoreFault(f"{self._table}: {error}") from error
            for item in page.get("Items", ()):
                if item["id"]["S"].startswith(PREFIX):
                    yield item
            if not page.get("LastEvaluatedKey"):
                return
            more = {"ExclusiveStartKey": page["LastEvaluatedKey"]}

    def _count(self, item: dict[str, Any]) -> int:
        """The recipients of an item that are in its window."""
        length = _seconds(item) * 1_000_000_000
        return sum(current_ring(item, self._clock() * PARTS // length if length else 0).values())

    def _empty(self, item: dict[str, Any] | None) -> bool:
        """Empty one item; true if it counted recipients."""
        try:
            for attempt in range(TRIES):
                if not item or not self._count(item):
                    return False
                version = item["version"]["N"]
                changed = {**item, "ring": {"S": "{}"}, "version": {"N": str(int(version) + 1)}}
                try:
                    self._client.put_item(
                        TableName=self._table,
                        Item=changed,
                        ConditionExpression="version = :version",
                        ExpressionAttributeValues={":version": {"N": version}},
                    )
                except self._client.exceptions.ConditionalCheckFailedException:
                    time.sleep(0.002 * (attempt + 1))  # a listener writes this item, too
                    key = {"id": item["id"]}
                    found = self._client.get_item(TableName=self._table, Key=key, ConsistentRead=True)
                    item = found.get("Item")
                    continue
                return True
        except Exception as error:
            raise StoreFault(f"{self._table}: {error}") from error
        raise StoreFault(f"{self._table}: too many processes write one item")


def _seconds(item: dict[str, Any]) -> int:
    """The length of an item's window; 0 for one of an earlier version, which does not tell."""
    return int(item["seconds"]["N"]) if "seconds" in item else 0
