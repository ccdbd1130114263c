"""Makes the processor of an `aws` output, with only the clients that it needs."""

from __future__ import annotations

import logging
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from functions.aws.clients import ONCE, REPEATABLE, Clients
from functions.aws.output.options import AwsOutputOptions, PublishTarget
from functions.aws.output.request_options import given
from functions.processors.context import BuildContext
from functions.processors.store import CloudProcessor, Storage

if TYPE_CHECKING:
    from functions.aws.output.publisher import TargetPublisher

log: Final = logging.getLogger("smtp_relay.output.aws")


def build(options: AwsOutputOptions, name: str, context: BuildContext) -> CloudProcessor:
    """The processor of one `aws` output: stores to S3, publishes to SQS, SNS or
    EventBridge, sends through SES. Raises
    ConfigError."""
    clients = Clients(context.secrets, options.assume_role)
    release = ExitStack()
    storage = publisher = sender = None
    if options.storage is not None:
        from functions.aws.store import S3Store

        client = clients.make("s3", options.s3_client, REPEATABLE)
        release.callback(client.close)
        target = S3Store(client, options.storage.bucket, given(options.put_options))
        storage = Storage(options.storage, options.identity(), target)
    if options.pubsub is not None:
        publisher = _publisher(options, options.pubsub, clients, release)
    if options.ses is not None:
        sender = _sender(options, clients, release)
    return CloudProcessor(storage, publisher, sender, release.close)


def _publisher(
    options: AwsOutputOptions, target: PublishTarget, clients: Clients, release: ExitStack
) -> TargetPublisher:
    """The publisher to the target's service, whose code and model are loaded for it alone."""
    region, endpoint = target.region, None
    if target.service == "sqs":
        from functions.aws.output.sqs import Queue, place_of

        region, endpoint = place_of(target.topic)
    client = clients.make(target.service, options.sqs_client, ONCE, region_name=region, endpoint_url=endpoint)
    release.callback(client.close)
    if target.service == "sqs":
        return Queue(client, target, options.send_message_options)
    if target.service == "sns":
        from functions.aws.output.sns import SnsTopic

        return SnsTopic(client, target)
    from functions.aws.output.event_bus import EventBus

    return EventBus(client, target)


def _sender(options: AwsOutputOptions, clients: Clients, release: ExitStack) -> Any:
    from functions.aws.output.ses import Sender
    from functions.aws.output.ses_account import Account, instances

    assert options.ses is not None
    client = clients.make("sesv2", options.ses_client, ONCE)
    release.callback(client.close)

    def rate() -> float:
        assert options.ses is not None
        whole = options.ses.max_send_rate or _account_rate(client)
        return whole / instances(whole, os.environ)

    role = options.assume_role.role_arn if options.assume_role else ""
    place = (client.meta.endpoint_url, role, options.ses.max_send_rate)
    account = _accounts.get(place)
    if account is None:
        account = _accounts[place] = Account(rate)
    return Sender(client, account, options.send_raw_email_options)


_accounts: Final[dict[Any, Any]] = {}
"""Outputs that send from the same account share its rate, whatever flow they belong to."""


def _account_rate(client: Any) -> float:
    """The account's own rate, else 1 a second."""
    try:
        quota = client.get_account()["SendQuota"]
        return float(quota["MaxSendRate"])
    except Exception as error:  # noqa: BLE001 - whatever keeps the rate from us, 1 a second is safe
        log.warning("SES does not state its send rate: 1 a second is used", extra={"reason": str(error)})
        return 1.0
