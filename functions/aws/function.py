"""The function's parts, and the handling of any invocation (docs/aws.md)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from functions.aws.clients import REPEATABLE, plain_client
from functions.aws.metrics import EmfObserver
from functions.aws.notifications import S3Notification, read_notifications
from functions.aws.receipts import TABLE, DynamoReceipts, NoTable
from functions.aws.spool import QUEUE, open_spool
from functions.bucket.access import ForeignMessage, SpoolAccess
from functions.bucket.function import BucketFunction
from functions.bucket.runner import Run, RunResult
from functions.config import DeliveryConfig
from functions.delivery.build import needs_receipts
from functions.delivery.engine import backoff, utc
from functions.delivery.receipts import Receipts
from functions.delivery.terms import Waits
from functions.options.environment import variable
from functions.processors.base import MIN_SECONDS_LEFT

log: Final = logging.getLogger("smtp_relay.function")

_LONGEST: Final = 43_200  # seconds; SQS's longest visibility time-out


class RetryMessage(Exception):
    """The message goes back to the queue."""


class LambdaFunction(BucketFunction):
    """One process of the function. `clock` is Unix time in seconds."""

    def __init__(
        self,
        config: DeliveryConfig,
        environ: Mapping[str, str],
        *,
        eager: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.observer = EmfObserver()
        access = open_spool(config, Path.cwd(), environ)
        self._receipts = self._open_receipts(config, environ, access)
        observer, receipts = self.observer, self._receipts
        super().__init__(config, environ, access, receipts, observer=observer, eager=eager, clock=clock)
        retry = config.delivery.retry
        self._waits = Waits(retry.first / 1000, retry.max / 1000)
        self._queue_url = variable(environ, QUEUE)
        self._sqs: Any = None
        self._memory = int(environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")) * 1_048_576

    def handle(self, event: Any, context: Any) -> dict[str, Any]:
        """One invocation: a batch of messages, or `{"sweep": true}`."""
        if isinstance(self._receipts, DynamoReceipts):
            self._receipts.register(context)

        def seconds_left() -> float:
            return float(context.get_remaining_time_in_millis()) / 1000

        try:
            if isinstance(event, dict) and event.get("sweep"):
                return self._sweep(seconds_left)
            if isinstance(event, dict) and _is_batch(event.get("Records")):
                return self._batch(event, context, seconds_left)
            log.error("ignored a foreign event", extra={"event": str(event)[:500]})
            return {"batchItemFailures": []}
        finally:
            self.observer.flush()

    def _sweep(self, seconds_left: Callable[[], float]) -> dict[str, Any]:
        found = self._look_through(seconds_left)
        self.observer.backlog(found.oldest, found.unfinished, found.dead)
        log.info("swept", extra=found._asdict())
        return found._asdict()

    def _batch(self, event: Any, context: Any, seconds_left: Callable[[], float]) -> dict[str, Any]:
        from aws_lambda_powertools.utilities.batch import process_partial_response

        from functions.aws.batch import SmallFirst

        waits: dict[str, tuple[str, int]] = {}

        def one(record: Any) -> None:
            wait = self._message(record.raw_event, seconds_left)
            if wait is not None:
                waits[record.message_id] = (record.receipt_handle, wait)
                raise RetryMessage

        answer = process_partial_response(
            event=event,
            record_handler=one,
            processor=SmallFirst(self._size, self._memory),
            context=context,
        )
        if waits:
            self._hide(event["Records"][0].get("eventSourceARN", ""), waits)
        return dict(answer)

    def _size(self, record: dict[str, Any]) -> int:
        try:
            return sum(each.size for each in read_notifications(record.get("body", ""), self._bucket))
        except ForeignMessage:
            return 0

    def _message(self, record: dict[str, Any], seconds_left: Callable[[], float]) -> int | None:
        """Deliver the mails of one message. None acknowledges it; otherwise the result is the seconds
        that it stays hidden until its next receive."""
        receives = int(record.get("attributes", {}).get("ApproximateReceiveCount", "1"))
        try:
            notifications = read_notifications(record.get("body", ""), self._bucket)
        except ForeignMessage as reason:
            log.warning(
                "ignored a foreign message", extra={"reason": str(reason), "doorbell": record["messageId"]}
            )
            return None
        runs = [self._run(notification, receives, seconds_left) for notification in notifications]
        late = [run for run in runs if run.result is RunResult.LATER]
        if not late:
            return None
        cut_short = all(run.cut_short for run in late)
        if self._leaves([notification.key for notification in notifications], receives, cut_short=cut_short):
            return None
        if cut_short:
            return 0
        first, longest = self._waits
        own = backoff(receives, first=first, longest=longest)
        waits = [max(own, run.retry_after or 0.0) if run.wait is None else run.wait for run in late]
        wait = int(min(_LONGEST, max(waits)))
        keys = [notification.key for notification in notifications]
        again = {"keys": keys, "attempt": receives, "next": utc(self._clock() + wait)}
        log.info("the notification comes again", extra=again)
        return wait

    def _run(self, notification: S3Notification, receives: int, seconds_left: Callable[[], float]) -> Run:
        if seconds_left() < MIN_SECONDS_LEFT:
            return Run(RunResult.LATER, cut_short=True)
        run = self.runner.run(
            notification.key,
            attempts=receives - 1,
            seconds_left=seconds_left,
            stored=notification.stored,
            waits=self._waits,
        )
        if run.result is RunResult.FOREIGN:
            log.warning("ignored a foreign key", extra={"key": notification.key})
        elif run.result is RunResult.FINISHED:
            self.observer.count("Finished")
        if run.report is not None and any(
            o.fault is not None and o.fault.closed for o in run.report.outcomes
        ):
            self.observer.count("SesClosed")
        return run

    def _hide(self, queue_arn: str, waits: Mapping[str, tuple[str, int]]) -> None:
        """Tell SQS when messages may be received again. If this call fails, they come back after the
        queue's own time-out, which is later."""
        try:
            if self._sqs is None:
                region = queue_arn.split(":")[3] if queue_arn.count(":") == 5 else None
                self._sqs = plain_client("sqs", REPEATABLE, region_name=region)
            url = self._queue_url
            if url is None:
                url = self._sqs.get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]
            self._sqs.change_message_visibility_batch(
                QueueUrl=url,
                Entries=[
                    {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": wait}
                    for number, (handle, wait) in enumerate(waits.values())
                ],
            )
        except Exception as error:  # noqa: BLE001 - the messages come back all the same
            log.warning("visibility could not be changed", extra={"reason": str(error)})

    def _open_receipts(
        self, config: DeliveryConfig, environ: Mapping[str, str], access: SpoolAccess
    ) -> Receipts:
        if not needs_receipts(config) or variable(environ, TABLE):
            return access.receipts(self.observer, 0.0)  # `handle` says how long each run may take
        log.error("outputs need receipts, but there is no table", extra={"variable": TABLE})
        return NoTable()


def _is_batch(records: Any) -> bool:
    return (
        isinstance(records, list)
        and bool(records)
        and all(isinstance(each, dict) and each.get("eventSource") == "aws:sqs" for each in records)
    )
