"""Sends through SES v2: the `ses` of an `aws` output (docs/outputs/aws.md)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from functions.aws.faults import error_code, fault_of, is_throttled, named
from functions.aws.output.request_options import SendRawEmailOptions
from functions.aws.output.ses_account import Account
from functions.errors import Permanent, Temporary
from functions.message.addresses import in_ascii
from functions.message.headers import HeaderEdits
from functions.message.mail import Mail
from functions.processors.base import MIN_SECONDS_LEFT, Job

MAX_RECIPIENTS: Final = 50
"""Recipients of one SendEmail (SES quotas)."""

MAX_RAW: Final = 41_943_040
"""Most bytes of a raw mail (SES quotas)."""

TAG: Final = "smtp-relay-id"

_WHAT: Final = "send through SES"

_RATE_TRIES: Final = 8
_HEAVY: Final = 4_194_304
"""Above these bytes mails are sent one at a time, because a request takes six times its mail's memory."""

_CLOSED: Final = frozenset({"LimitExceededException", "AccountSuspendedException", "SendingPausedException"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException"})

_WITHOUT_BCC: Final = HeaderEdits({"-Bcc": ""})
_one_heavy: Final = threading.Lock()


class Sender:
    """Sends mails raw, to this flow's recipients of the envelope. The client makes one attempt."""

    def __init__(self, client: Any, account: Account, options: SendRawEmailOptions) -> None:
        self._client = client
        self._account = account
        self._destinations = options.destinations
        self._fixed = _fixed(options)
        self._tags = [{"Name": tag.name, "Value": tag.value} for tag in options.tags if tag.name != TAG]

    def send(self, job: Job) -> None:
        """Send to all recipients, in parts of 50, each part once. Raises Temporary while a part can
        still succeed, else Permanent if a part cannot."""
        if job.mail.content.size > MAX_RAW:
            raise Permanent(f"SES takes mails of at most {MAX_RAW} bytes", enhanced="5.3.4")
        recipients = addressed(self._destinations or job.recipients)
        failed: list[tuple[Permanent, list[str]]] = []
        for part, at in enumerate(range(0, len(recipients), MAX_RECIPIENTS)):
            if part and job.seconds_left() < MIN_SECONDS_LEFT:
                raise Temporary("too little of the run is left", enhanced="4.4.7")
            some = recipients[at : at + MAX_RECIPIENTS]
            try:
                job.once(f"ses-{part}", self._effect(job, some))
            except Permanent as fault:
                failed.append((fault, some))
        if failed:
            first = failed[0][0]
            about = [recipient for _, some in failed for recipient in some]
            whole = len(about) == len(recipients)
            raise Permanent(first.reason, enhanced=first.enhanced, recipients=() if whole else tuple(about))

    def _effect(self, job: Job, recipients: list[str]) -> Callable[[], str | None]:
        return lambda: self._send(job, recipients)

    def _send(self, job: Job, recipients: list[str]) -> str | None:
        mail = job.mail
        with _memory(mail.content.size):
            request = {
                **self._fixed,
                "Destination": {"ToAddresses": recipients},
                "Content": {"Raw": {"Data": raw(mail, job.flow)}},
                "EmailTags": [{"Name": TAG, "Value": mail.id}, *self._tags],
            }
            for attempt in range(_RATE_TRIES):
                self._account.wait(len(recipients), job.seconds_left)
                try:
                    answer = self._client.send_email(**request)
                except Exception as error:  # noqa: BLE001 - raised again as a fault
                    self._refused(error, last=attempt == _RATE_TRIES - 1)
                    continue
                self._account.accepted()
                return named(str(answer.get("MessageId", "")), _WHAT)
        raise AssertionError("unreachable")

    def _refused(self, error: Exception, *, last: bool) -> None:
        """Raises for every error except a refused rate that the run has time to wait out."""
        fault = fault_of(error, _WHAT, repeatable=False)
        code = error_code(error)
        if code in _CLOSED or (is_throttled(error) and "daily" in str(error).lower()):
            raise self._account.close(fault.reason) from error
        if code in _DENIED:
            # Policies name the identities: a forbidden identity stays forbidden.
            raise Permanent(fault.reason, enhanced="5.7.1") from error
        if not is_throttled(error):
            raise fault from error
        self._account.refused()
        if last:
            raise fault from error


def raw(mail: Mail, flow: str) -> bytes:
    """The mail as it is sent: byte for byte, but without Bcc fields."""
    data = mail.raw(flow)
    head = mail.flow_fields(flow) + mail.head
    kept = _WITHOUT_BCC.kept(head)
    if len(kept) == len(head):
        return data
    return b"".join((kept, memoryview(data)[len(head) :]))


def addressed(recipients: tuple[str, ...]) -> list[str]:
    """Each address once, domains in their ASCII form (RFC 5890), because SES accepts no other. Raises
    Permanent for an address without this form."""
    found: dict[str, None] = {}
    for recipient in recipients:
        address = in_ascii(recipient)
        if address is None:
            # RFC 6531 section 3.5; the listener refuses such recipients at RCPT already.
            raise Permanent("SES takes no addresses without an ASCII form", enhanced="5.6.7")
        found[address] = None
    return list(found)


def _fixed(options: SendRawEmailOptions) -> dict[str, Any]:
    """SendRawEmail's parameters under the names of version 2. There is one identity for the From
    address: that of the source if it is given, else that of the mail's own From."""
    first, second = options.from_arn, options.source_arn
    if options.source is not None:
        first, second = second, first
    found = {
        "FromEmailAddress": options.source,
        "FromEmailAddressIdentityArn": first or second,
        "FeedbackForwardingEmailAddressIdentityArn": options.return_path_arn,
        "ConfigurationSetName": options.configuration_set_name,
    }
    return {name: value for name, value in found.items() if value is not None}


@contextmanager
def _memory(size: int) -> Iterator[None]:
    if size <= _HEAVY:
        yield
        return
    with _one_heavy:
        yield
