"""The Cloud Storage side of a spool: its store, and the notifications that start the function for a mail."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from functions.bucket.access import SpoolAccess
from functions.config import DeliveryConfig
from functions.delivery.events import DeliveryEvents
from functions.delivery.receipts import Receipts
from functions.errors import ConfigError
from functions.gcp.clients import publisher_client, storage_client, topic_path
from functions.gcp.faults import fault_of
from functions.gcp.notifications import notification_message
from functions.gcp.store import GcsStore
from functions.options.environment import variable
from functions.options.secrets import SecretResolver, resolved
from functions.options.spool import SpoolOptions

TOPIC: Final = "SMTP_RELAY_TOPIC"
"""Environment variable with the topic that the spool's notifications go to."""

_TIMEOUT: Final = 10.0


def open_spool(
    config: DeliveryConfig,
    folder: Path,
    environ: Mapping[str, str],
    *,
    clock: Callable[[], float] = time.time,
) -> SpoolAccess:
    """The configuration's bucket, which holds the receipts as well; `folder` is the working folder,
    `clock` the Unix time of receipts. Raises ConfigError."""
    spool = config.spool
    store = open_store(spool, SecretResolver(folder, environ))
    notify = PubSubNotifier(spool.bucket, partial(find_topic, spool, store, environ), environ)
    return SpoolAccess(store, spool.prefix, notify, partial(_receipts, config, store, clock))


def _receipts(
    config: DeliveryConfig,
    store: GcsStore,
    clock: Callable[[], float],
    observer: DeliveryEvents,
    lasting: float,
) -> Receipts:
    from functions.gcp.receipts import GcsReceipts

    return GcsReceipts(
        store,
        config.spool.prefix,
        lasting=lasting,
        give_up_doubts=config.delivery.on_doubt == "dead-letter",
        observer=observer,
        clock=clock,
    )


def open_store(options: SpoolOptions, resolve: Callable[[str], str]) -> GcsStore:
    """The spool's bucket. Raises ConfigError."""
    key = resolved(options.service_account_key, resolve)
    return GcsStore(storage_client(options.endpoint, key), options.bucket)


class PubSubNotifier:
    """Notifies the function of mails: a message for each, in the form of the bucket's notifications. It
    looks for the topic at the first call; `find` gives the topic's full name."""

    def __init__(self, bucket: str, find: Callable[[], str], environ: Mapping[str, str]) -> None:
        self._bucket = bucket
        self._find = find
        self._environ = environ
        self._opened: tuple[Any, str] | None = None

    def __call__(self, keys: Sequence[str]) -> None:
        """Notify the function of the mails under these keys. Raises DeliveryFault, ConfigError."""
        if self._opened is None:
            path = self._find()
            self._opened = publisher_client(self._environ), path
        client, path = self._opened
        messages = [notification_message(self._bucket, key) for key in keys]
        try:
            client.publish(topic=path, messages=messages, retry=None, timeout=_TIMEOUT)
        except Exception as error:
            raise fault_of(error, f"notify at {path}") from error


def find_topic(options: SpoolOptions, store: GcsStore, environ: Mapping[str, str]) -> str:
    """The topic that the spool's notifications go to: by the environment, else by the bucket's
    settings. Raises ConfigError."""
    if name := variable(environ, TOPIC):
        return topic_path(name, None, environ)
    try:
        found = store.topics(f"{options.prefix}spool/")
    except Exception as error:
        raise ConfigError(
            options.url, f"its notifications cannot be read: {error}", f"set {TOPIC}"
        ) from error
    if not found:
        raise ConfigError(options.url, "notifies no topic of its spool", f"set {TOPIC}")
    return str(found[0])
