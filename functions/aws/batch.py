"""A batch of messages: small mails first, several at a time as memory permits (Powertools' Batch)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType

from functions.bucket.memory_limit import FACTOR, LEAST

THREADS: Final = 5


class SmallFirst(BatchProcessor):
    """Reports single failures, never the failure of the batch, because Lambda reacts to that with less
    concurrency.

    `size_of` gives the bytes of a raw record's mails; `memory` is the function's, in bytes.
    """

    def __init__(self, size_of: Callable[[dict[str, Any]], int], memory: int) -> None:
        super().__init__(event_type=EventType.SQS, raise_on_entire_batch_failure=False)
        self._size_of = size_of
        self._budget = memory // 2 // FACTOR

    def process(self) -> list[tuple[Any, ...]]:
        ordered = sorted(self.records, key=self._size_of)
        done: list[tuple[Any, ...]] = []
        for group in self._groups(ordered):
            if len(group) == 1:
                done.append(self._process_record(group[0]))
                continue
            with ThreadPoolExecutor(min(THREADS, len(group)), thread_name_prefix="mail") as pool:
                done += pool.map(self._process_record, group)
        return done

    def _groups(self, records: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
        group: list[dict[str, Any]] = []
        used = 0
        for record in records:
            size = max(LEAST, self._size_of(record))
            if group and used + size > self._budget:
                yield group
                group, used = [], 0
            group.append(record)
            used += size
        if group:
            yield group
