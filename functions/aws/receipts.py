"""Receipts on AWS: Powertools' idempotency records in DynamoDB (SPEC section 6).

The key prefix is fixed: Powertools' own holds the names of function and module, so that renaming one
would make every effect new. There is one persistence layer, since configuring it twice changes the
prefix of the first.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, Final

from functions.delivery import Owed, output_key
from functions.errors import DeliveryFault, Temporary
from functions.home import tell_doubt
from functions.mail import Mail
from functions.observer import NullObserver, Observer
from functions.processors.base import Once, shown, took_place

log: Final = logging.getLogger("smtp_relay.delivery")

TABLE: Final = "SMTP_RELAY_RECEIPTS_TABLE"
"""Environment variable with the name of the receipts' table."""

PREFIX: Final = "smtp-relay"

KEPT: Final = 2_592_000
"""Seconds that a receipt is kept: 30 days, longer than any queue keeps a doorbell."""

BUSY: Final = 30.0
"""Seconds to wait when another run holds the claim."""


class DynamoReceipts:
    """`functions.home.Receipts` in one table. `give_up_doubts` is `onDoubt: "dead-letter"`."""

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

        self._claim: Callable[..., str | None] = idempotent_function(
            _take,
            data_keyword_argument="receipt",
            persistence_store=layer,
            config=self._config,
            key_prefix=PREFIX,
        )

    def register(self, context: Any) -> None:
        """Tell how long this run may take: a claim whose run was cut expires then."""
        self._config.register_lambda_context(context)

    def once(self, mail: Mail, owed: Owed) -> Once:
        """Receipts of one output."""
        return _Once(self, mail, owed)

    def run(self, key: str, effect: Callable[[], str | None], *, tell: Callable[[], None]) -> str | None:
        """`functions.processors.base.Once` for one key. `tell` is called where an effect in doubt is
        done again."""
        from aws_lambda_powertools.utilities.idempotency.exceptions import (
            IdempotencyAlreadyInProgressError,
            IdempotencyInconsistentStateError,
            IdempotencyPersistenceLayerError,
        )

        def carry_out() -> str | None:
            if self._claims.abandoned:
                if self._give_up_doubts:
                    # Powertools removes the claim: the dead record speaks of it from now on.
                    raise Temporary("an earlier run ended before it knew the outcome", in_doubt=True)
                tell()
            return effect()

        ran = _Ran(carry_out)
        try:
            return self._claim(receipt=key, effect=ran)
        except (IdempotencyAlreadyInProgressError, IdempotencyInconsistentStateError) as error:
            raise Temporary("another run is at it", enhanced="4.3.2", retry_after=BUSY) from error
        except IdempotencyPersistenceLayerError as error:
            if ran.fault is not None:
                raise ran.fault from error
            if ran.done:
                raise Temporary(f"no receipt could be written: {error}", in_doubt=True) from error
            raise Temporary(f"receipts cannot be reached: {error}", enhanced="4.4.1") from error


def _take(*, receipt: str, effect: Callable[[], str | None]) -> str | None:
    """What Powertools runs once for each `receipt`."""
    return effect()


class _Claims:
    """The table's client, which remembers what this thread's last claim replaced: nothing, a receipt
    past its time, or the claim of a run that ended without a word."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._replaced = threading.local()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    @property
    def abandoned(self) -> bool:
        """Whether it was another run's claim."""
        return bool(getattr(self._replaced, "status", None) == "INPROGRESS")

    def put_item(self, **request: Any) -> Any:
        """The claim of an effect. Powertools makes it on conditions that let it replace an old one."""
        self._replaced.status = None
        answer = self._client.put_item(ReturnValues="ALL_OLD", **request)
        self._replaced.status = answer.get("Attributes", {}).get("status", {}).get("S")
        return answer


class _Ran:
    """An effect, and how it ended."""

    def __init__(self, effect: Callable[[], str | None]) -> None:
        self._effect = effect
        self.done = False
        self.fault: DeliveryFault | None = None

    def __call__(self) -> str | None:
        try:
            found = self._effect()
        except DeliveryFault as fault:
            self.fault = fault
            raise
        self.done = True
        return found


class _Once:
    """One output's receipts."""

    def __init__(self, receipts: DynamoReceipts, mail: Mail, owed: Owed) -> None:
        self._receipts = receipts
        self._mail = mail
        self._owed = owed

    def __call__(self, part: str, effect: Callable[[], str | None]) -> str | None:
        owed = self._owed
        assert owed.output is not None
        key = output_key(self._mail.envelope, owed.flow, owed.output.identity, part)
        result = self._receipts.run(
            key, effect, tell=lambda: tell_doubt(self._receipts.observer, self._mail, owed, part)
        )
        # Said here, after the receipt: nothing may go wrong between an effect and its receipt.
        about = {"id": self._mail.id, "flow": owed.flow, "output": owed.output.label, "part": part}
        if took_place(result):
            log.info("output done", extra=about | {"provider_id": shown(result)})
        return result


class NoReceipts:
    """`functions.home.Receipts` where no output needs one."""

    def once(self, mail: Mail, owed: Owed) -> Once:
        """Runs the effect."""

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            return effect()

        return run


class NoTable:
    """`functions.home.Receipts` where they are needed and cannot be had: nothing is sent, and the
    mails wait for whoever mends the deployment."""

    def once(self, mail: Mail, owed: Owed) -> Once:
        """Refuses."""

        def run(part: str, effect: Callable[[], str | None]) -> str | None:
            raise Temporary("there is no table for receipts", enhanced="4.3.5")

        return run
