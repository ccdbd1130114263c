"""Receipts on AWS: Powertools' idempotency records in DynamoDB (docs/reliability.md).

The key prefix is fixed: Powertools' own prefix holds the names of function and module, and a
changed name would make every effect new. There is one persistence layer, because configuring it
twice changes the prefix of the first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from functions.bucket.runner import ABANDONED, Later, tell_doubt
from functions.delivery.engine import Owed, output_key
from functions.delivery.events import NullObserver, Observer
from functions.errors import DeliveryFault, Temporary
from functions.message.mail import Mail
from functions.processors.base import Once, shown, took_place

log: Final = logging.getLogger("smtp_relay.delivery")

TABLE: Final = "SMTP_RELAY_RECEIPTS_TABLE"
"""Environment variable with the name of the receipts' table."""

PREFIX: Final = "smtp-relay"

KEPT: Final = 2_592_000
"""Seconds that a receipt is kept: 30 days, longer than any queue keeps a notification."""

BUSY: Final = 30.0
"""Seconds to wait when another run holds the claim."""


class DynamoReceipts:
    """`functions.bucket.runner.Receipts` in one table. `give_up_doubts` is `onDoubt: "dead-letter"`."""

    def __init__(
        self, table: str, client: Any, *, give_up_doubts: bool = False, observer: Observer | None = None
    ) -> None:
        from aws_lambda_powertools.utilities.idempotency import (
            DynamoDBPersistenceLayer,
            IdempotencyConfig,
            idempotent_function,
        )

        self._client = client
        self._table = table
        self._give_up_doubts = give_up_doubts
        self.observer = observer or NullObserver()
        self._config = IdempotencyConfig(
            expires_after_seconds=KEPT, use_local_cache=False, raise_on_no_idempotency_key=True
        )
        layer = DynamoDBPersistenceLayer(table_name=table, boto3_client=client)
        self._claims = layer.client = _Claims(client)
        self._layer = layer

        self._claim: Callable[..., str | None] = idempotent_function(
            _take,
            data_keyword_argument="receipt",
            persistence_store=layer,
            config=self._config,
            key_prefix=PREFIX,
        )

    def register(self, context: Any) -> None:
        """Sets how long this run may take: the claim of a run that was cut short expires then."""
        self._config.register_lambda_context(context)

    def once(self, mail: Mail, owed: Owed, later: Later) -> Once:
        """Receipts of one output."""
        return _Once(self, mail, owed, later)

    def run(
        self, key: str, effect: Callable[[], str | None], *, tell: Callable[[str], None], later: Later
    ) -> str | None:
        """`functions.processors.base.Once` for one key. It calls `tell` with the reason if more is in
        doubt than the effect itself says; `later` as in `functions.bucket.runner.Receipts`."""
        from aws_lambda_powertools.utilities.idempotency.exceptions import (
            IdempotencyAlreadyInProgressError,
            IdempotencyInconsistentStateError,
            IdempotencyPersistenceLayerError,
        )

        def carry_out() -> str | None:
            if self._claims.abandoned:
                tell(ABANDONED)
                if self._give_up_doubts:
                    raise Temporary(ABANDONED, in_doubt=True)
            return effect()

        ran = _Ran(carry_out, keeps_doubts=self._give_up_doubts)
        try:
            return self._claim(receipt=key, effect=ran)
        except _Doubt as doubt:
            later.append(partial(self._forget, key, doubt.fault))
            raise doubt.fault from None
        except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
            raise Temporary("another run works on it", enhanced="4.3.2", retry_after=BUSY) from error
        except IdempotencyPersistenceLayerError as error:
            if ran.fault is not None:
                raise ran.fault from error
            if ran.done:
                fault = Temporary(f"no receipt could be written: {error}", in_doubt=True)
                tell(fault.reason)
                later.append(partial(self._forget, key, fault))
                raise fault from error
            raise Temporary(f"receipts cannot be reached: {error}", enhanced="4.4.1") from error

    def _forget(self, key: str, fault: Exception) -> None:
        """The dead record describes the effect from now on; a replay begins anew."""
        try:
            self._layer.delete_record(data=key, exception=fault)  # type: ignore[arg-type]
        except Exception as error:  # noqa: BLE001 - then it runs out by itself
            log.warning("a claim could not be released", extra={"reason": str(error)})


def _take(*, receipt: str, effect: Callable[[], str | None]) -> str | None:
    """The function that Powertools runs once for each `receipt`."""
    return effect()


class _Claims:
    """The table's client, which remembers the item that this thread's last claim replaced: none, an
    expired receipt, or the claim of a run that ended without a result."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._replaced = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def abandoned(self) -> bool:
        """True if it was another run's claim."""
        return bool(getattr(self._replaced, "status", None) == "INPROGRESS")

    def put_item(self, **request: Any) -> Any:
        """The claim of an effect. Powertools' conditions let it replace an old claim."""
        self._replaced.status = None
        answer = self._client.put_item(ReturnValues="ALL_OLD", **request)
        self._replaced.status = answer.get("Attributes", {}).get("status", {}).get("S")
        return answer


class _Doubt(BaseException):
    """Carries a fault in doubt past Powertools, which removes the claim on every Exception."""

    def __init__(self, fault: Temporary) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class _Ran:
    """An effect, and how it ended."""

    def __init__(self, effect: Callable[[], str | None], *, keeps_doubts: bool) -> None:
        self._effect = effect
        self._keeps_doubts = keeps_doubts
        self.done = False
        self.fault: DeliveryFault | None = None

    def __call__(self) -> str | None:
        try:
            found = self._effect()
        except DeliveryFault as fault:
            self.fault = fault
            if self._keeps_doubts and isinstance(fault, Temporary) and fault.in_doubt:
                raise _Doubt(fault) from fault
            raise
        self.done = True
        return found


class _Once:
    """One output's receipts."""

    def __init__(self, receipts: DynamoReceipts, mail: Mail, owed: Owed, later: Later) -> None:
        self._receipts = receipts
        self._mail = mail
        self._owed = owed
        self._later = later

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        owed = self._owed
        assert owed.output is not None
        key = output_key(self._mail.envelope, owed.flow, owed.output.identity, part)
        tell = partial(tell_doubt, self._receipts.observer, self._mail, owed, part)
        result = self._receipts.run(key, effect, tell=tell, later=self._later)
        # The log comes after the receipt, because nothing may fail between an effect and its
        # receipt.
        about = {"id": self._mail.id, "flow": owed.flow, "output": owed.output.label, "part": part}
        if took_place(result):
            log.info("output done", extra=about | {"provider_id": shown(result)})
        return result


class NoReceipts:
    """`functions.bucket.runner.Receipts` if no output needs one."""

    def once(self, mail: Mail, owed: Owed, later: Later) -> Once:
        """Runs the effect."""

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            return effect()

        return run


class NoTable:
    """`functions.bucket.runner.Receipts` if outputs need them and there is no table: nothing is sent,
    and the mails wait until the operator fixes the deployment."""

    def once(self, mail: Mail, owed: Owed, later: Later) -> Once:
        """Refuses."""

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            raise Temporary("there is no table for receipts", enhanced="4.3.5")

        return run
