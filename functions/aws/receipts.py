"""Receipts on AWS: Powertools' idempotency records in DynamoDB (docs/reliability.md).

The key prefix is fixed: Powertools' own prefix holds the names of function and module, and a
changed name would make every effect new. There is one persistence layer, because configuring it
twice changes the prefix of the first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Final

from functions.delivery.engine import Task
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import ABANDONED, Effect, Later, Receipts, Tell, busy, claim_left
from functions.errors import DeliveryFault, Temporary
from functions.message.mail import Mail
from functions.processors.base import Once

TABLE: Final = "SMTP_RELAY_RECEIPTS_TABLE"
"""Environment variable with the name of the receipts' table."""

PREFIX: Final = "smtp-relay"

KEPT: Final = 2_592_000
"""Seconds that a receipt is kept: 30 days, longer than any queue keeps a notification."""

SKEW: Final = 60.0
"""Seconds by which a clock may be wrong before times are corrected."""

LONGEST: Final = 900.0
"""Seconds that a run of Lambda may take at most."""

BUSY: Final = 30.0
"""Seconds to wait when another run holds the claim."""


class DynamoReceipts(Receipts):
    """The receipts in one table."""

    def __init__(
        self, table: str, client: Any, *, give_up_doubts: bool = False, observer: DeliveryEvents | None = None
    ) -> None:
        from aws_lambda_powertools.utilities.idempotency import (
            DynamoDBPersistenceLayer,
            IdempotencyConfig,
            idempotent_function,
        )

        super().__init__(give_up_doubts=give_up_doubts, observer=observer)
        self._config = IdempotencyConfig(
            expires_after_seconds=KEPT, use_local_cache=False, raise_on_no_idempotency_key=True
        )
        layer = DynamoDBPersistenceLayer(table_name=table, boto3_client=client)
        self._claims = layer.client = _Claims(client, table, self._config)
        self._layer = layer

        self._run_claimed = idempotent_function(
            _take,
            data_keyword_argument="receipt",
            persistence_store=layer,
            config=self._config,
            key_prefix=PREFIX,
        )

    def register(self, context: Any) -> None:
        """Sets how long this run may take: the claim of a run that was cut short expires then."""
        self._config.register_lambda_context(context)

    def run(self, key: str, effect: Effect, *, tell: Tell, later: Later) -> str | None:
        """Powertools writes and removes the claim, and writes the receipt."""
        from aws_lambda_powertools.utilities.idempotency.exceptions import (
            IdempotencyAlreadyInProgressError,
            IdempotencyInconsistentStateError,
            IdempotencyPersistenceLayerError,
        )

        def carry_out() -> str | None:
            if self._claims.abandoned and tell is not None:
                tell(ABANDONED)
                if self._give_up_doubts:
                    raise Temporary(ABANDONED, in_doubt=True)
            return effect()

        ran = _Ran(carry_out, self._keeps)
        try:
            found: str | None = self._run_claimed(receipt=key, effect=ran)
            return found
        except _Doubt as doubt:
            later.append(partial(self._give_back, key, doubt.fault))
            raise doubt.fault from None
        except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
            raise busy(BUSY) from error
        except IdempotencyPersistenceLayerError as error:
            if ran.fault is not None:
                raise ran.fault from error
            if ran.done:
                give_back = partial(self._give_back, key, error)
                raise self._unwritten(str(error), tell, later, give_back) from error
            raise Temporary(f"receipts cannot be reached: {error}", enhanced="4.4.1") from error

    def _give_back(self, key: str, claim: Any) -> None:
        """`claim` is the fault that left it, which Powertools logs."""
        try:
            self._layer.delete_record(data=key, exception=claim)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - then it runs out by itself
            claim_left(key, error)


def _take(*, receipt: str, effect: Effect) -> str | None:
    """The function that Powertools runs once for each `receipt`."""
    return effect()


class _Claims:
    """The table's client, which remembers the item that this thread's last claim replaced: none, an
    expired receipt, or the claim of a run that ended without a result.

    Times in the table are those of DynamoDB's own clock (`Date`), because this machine's may be
    days wrong: a claim would then hold for days, or a receipt end early.
    """

    def __init__(self, client: Any, table: str, config: Any) -> None:
        self._client = client
        self._table = table
        self._config = config
        self._replaced = threading.local()
        self._clock = _Clock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def abandoned(self) -> bool:
        """True if it was another run's claim."""
        return bool(getattr(self._replaced, "status", None) == "INPROGRESS")

    def put_item(self, **request: Any) -> Any:
        """The claim of an effect. Powertools' conditions let it replace an old claim."""
        self._replaced.status = None
        if not self._clock.known:
            self._clock.hear(self._client.get_item(TableName=self._table, Key={"id": {"S": PREFIX}}))
        context = self._config.lambda_context
        # The context uses this machine's clock, too.
        left = min(context.get_remaining_time_in_millis() / 1_000, LONGEST) if context is not None else 0.0
        for fields in (request["Item"], request["ExpressionAttributeValues"]):
            self._clock.correct(fields, left)
        answer = self._client.put_item(ReturnValues="ALL_OLD", **request)
        self._clock.hear(answer)
        self._replaced.status = answer.get("Attributes", {}).get("status", {}).get("S")
        return answer

    def update_item(self, **request: Any) -> Any:
        """A receipt. It is written without asking for the time first, because the effect took place."""
        self._clock.correct(request["ExpressionAttributeValues"])
        return self._client.update_item(**request)


class _Clock:
    """DynamoDB's clock, known from the `Date` of its answers."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None
        """The times of DynamoDB's and of this machine's clock when the steady clock began."""

    @property
    def known(self) -> bool:
        """True if an answer came since this machine's clock was last set, or stood still."""
        return self._began is not None and abs(time.time() - time.monotonic() - self._began[1]) < SKEW

    def hear(self, answer: Any) -> None:
        """Read the time of an answer. An answer without `Date` means that the clocks agree."""
        date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
        steady, ours = time.monotonic(), time.time()
        try:
            theirs = parsedate_to_datetime(date).timestamp() if date else ours
        except (ValueError, OverflowError):
            theirs = ours
        self._began = theirs - steady, ours - steady

    def correct(self, fields: dict[str, Any], left: float = 0.0) -> None:
        """Correct the times that Powertools writes, or compares with, if a wrong clock made them. `left`
        is how many seconds the run has left."""
        if self._began is None:
            return
        now = self._began[0] + time.monotonic()
        meant = {
            ":now": (now, 1),
            ":now_in_millis": (now, 1_000),
            "expiration": (now + KEPT, 1),
            ":expiry": (now + KEPT, 1),
            "in_progress_expiration": (now + left, 1_000),
        }
        for name, (at, unit) in meant.items():
            if name in fields and abs(int(fields[name]["N"]) / unit - at) > SKEW:
                fields[name] = {"N": str(int(at * unit))}


class _Doubt(BaseException):
    """Carries a fault in doubt past Powertools, which removes the claim on every Exception."""

    def __init__(self, fault: DeliveryFault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class _Ran:
    """An effect, and how it ended."""

    def __init__(self, effect: Effect, keeps: Callable[[BaseException], bool]) -> None:
        self._effect = effect
        self._keeps = keeps
        self.done = False
        self.fault: DeliveryFault | None = None

    def __call__(self) -> str | None:
        try:
            found = self._effect()
        except DeliveryFault as fault:
            self.fault = fault
            if self._keeps(fault):
                raise _Doubt(fault) from fault
            raise
        self.done = True
        return found


class NoReceipts(Receipts):
    """Receipts if no output needs one."""

    def once(self, mail: Mail, task: Task, later: Later) -> Once:
        """Runs the effect."""
        return lambda part, effect: effect()


class NoTable(Receipts):
    """Receipts if outputs need them and there is no table: nothing is sent, and the mails wait until
    the operator fixes the deployment."""

    def run(self, key: str, effect: Effect, *, tell: Tell, later: Later) -> str | None:
        """Refuses."""
        raise Temporary("there is no table for receipts", enhanced="4.3.5")
