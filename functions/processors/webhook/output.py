"""Output `webhook`: posts each mail to a URL, until the receiver has it (docs/outputs/webhook.md)."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

from functions.errors import ConfigError, Permanent, Temporary
from functions.http.breaker import LONGEST, Breaker, RequestRate
from functions.http.client import Answer, HttpClient, Unanswered
from functions.http.signing import HmacSigner, WebhookSigner, webhook_key
from functions.message.event import cloudevent
from functions.message.event.objects import StoredMail
from functions.message.reading.places import place
from functions.options.types import check_field_value
from functions.processors.base import MIN_SECONDS_LEFT, Job, Processor
from functions.processors.context import BuildContext
from functions.processors.store import Contents
from functions.processors.webhook.options import (
    WebhookAuth,
    WebhookOptions,
    checked_url,
    place_of,
    resolved_headers,
)
from functions.processors.webhook.request import Request, make

LONGEST_WAIT: Final = 3_600.0
"""Most seconds of a Retry-After that are waited for."""

_COME_BACK: Final = frozenset({408, 425, 429})
"""RFC 9110 section 15: request time-out; RFC 8470, RFC 6585: too early, too many requests."""

_LEFT: Final = 2.0  # seconds of the run that are kept to record the result


class Signing:
    """All headers of a request that do not come of the mail: signatures, `Authorization`, configured ones.
    `older` is the signer of the older header."""

    def __init__(
        self, url: str, fixed: Mapping[str, str], signer: WebhookSigner, older: HmacSigner | None
    ) -> None:
        self._url = url
        self._fixed = dict(fixed)
        self._signer = signer
        self._older = older

    def headers(self, webhook_id: str, request: Request) -> dict[str, str]:
        """The headers of one attempt."""
        found = {**self._signer.headers(webhook_id, request.pieces())}
        if self._older is not None:
            found |= self._older.headers(self._url, "POST", request.pieces())
        return found | request.headers | self._fixed


class Webhook(Processor):
    """One endpoint. `name` is the output's label."""

    def __init__(
        self, options: WebhookOptions, name: str, client: HttpClient, signing: Signing, shown: str
    ) -> None:
        self._options = options
        self._client = client
        self._signing = signing
        self.shown = shown
        """The endpoint for logs."""
        # No mail waits longer for the circuit than its own options let it wait.
        longest = LONGEST if options.retry is None else min(LONGEST, options.retry.max / 1000)
        if options.give_up_after is not None:
            longest = min(longest, options.give_up_after / 8_000)
        self._breaker = Breaker(name, longest=max(0.1, longest))
        self._rate = RequestRate(options.max_rate)

    @property
    def room(self) -> int:
        return min(self._breaker.room, self._rate.room)

    def process(self, job: Job) -> None:
        job.once("webhook", lambda: self._deliver(job))

    def send(self, job: Job) -> Answer:
        """One attempt, whatever the circuit says. Raises Unanswered, Temporary and Permanent."""
        stored = self._stored(job)
        contents = Contents(job, cloudevent.limits_for(min(self._options.most, cloudevent.MOST_TEXT)))
        with ExitStack() as held:
            if self._options.format != "raw":
                # Until it is sent: the event takes memory, too.
                held.enter_context(place(job.mail.content.size, contents.limits.text))
                if job.seconds_left() < MIN_SECONDS_LEFT:
                    raise Temporary("too little of the run is left", enhanced="4.4.7")
            request = make(self._options, job, contents, stored)
            del contents
            headers = self._signing.headers(f"msg_{job.key}", request)
            seconds = min(self._options.timeout / 1000, job.seconds_left() - _LEFT)
            return self._client.post(headers, request.body, request.size, seconds)

    def close(self) -> None:
        self._client.close()

    def _deliver(self, job: Job) -> str:
        self._breaker.enter()
        asked = True
        try:
            self._rate.enter()
            answer = self.send(job)
        except Unanswered as reason:
            if not reason.refused:
                asked = False
                self._breaker.failed()
            fault = Temporary(f"{self.shown}: {reason}", enhanced="4.4.1")
            if reason.refused:
                fault.give_up_after = self._options.give_up_4xx / 1000
            raise fault from None
        else:
            asked = False
            return self._judged(answer)
        finally:
            if asked:
                self._breaker.abandoned()

    def _judged(self, answer: Answer) -> str:
        """The status in words. Raises Temporary and Permanent."""
        status, wait = answer.status, retry_after(answer.headers)
        if status < 200 or status >= 500 or status in _COME_BACK:
            self._breaker.failed(wait)
            raise Temporary(f"{self.shown}: HTTP status {status}", enhanced="4.4.0", retry_after=wait)
        self._breaker.succeeded()
        if status < 300:
            return f"HTTP {status}"
        if status == 410:  # RFC 9110 section 15.5.11: gone, likely for good
            raise Permanent(f"{self.shown}: HTTP status 410, the endpoint is gone", enhanced="5.1.6")
        text = f"{self.shown}: HTTP status {status}"
        if status < 400:
            text += f"{_target(answer.headers)}, and redirects are not followed (correct url)"
        # A broken deployment answers 404, and a lost secret 401: neither may kill mail at once.
        fault = Temporary(text, enhanced="4.4.0", retry_after=wait)
        fault.give_up_after = self._options.give_up_4xx / 1000
        raise fault

    def _stored(self, job: Job) -> StoredMail | None:
        """What the output of `stored` has of the mail. Raises Temporary until it has it."""
        name, presign = self._options.stored, self._options.presign
        if name is None:
            return None
        peer = next((one.processor for one in job.peers if one.label == name), None)
        found: StoredMail | None = None if peer is None else peer.stored(job)
        if peer is None or found is None:
            raise Temporary(f"waits for the output {name}, which has not stored the mail yet")
        if presign is not None and (first := found.first) is not None:
            linked = first._replace(link=peer.link(first.key, presign // 1000))
            named = {at: linked if one is first else one for at, one in found.named.items()}
            files = {at: linked if one is first else one for at, one in found.attachments.items()}
            return replace(found, named=named, attachments=files)
        return found


def _target(headers: Mapping[str, str]) -> str:
    """The host of a redirect; the rest of its URL may hold a token."""
    try:
        host = urlsplit(headers.get("location", "")).hostname
    except ValueError:
        host = None
    host = "".join(each for each in host or "" if each.isalnum() or each in ".-:")[:255]
    return f" to {host}" if host else ""


def retry_after(headers: Mapping[str, str], now: float | None = None) -> float | None:
    """The seconds of Retry-After (RFC 9110 section 10.2.3), at most an hour; None without it."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdecimal():
        return min(float(text[:12]), LONGEST_WAIT)
    if not text:
        return None
    try:
        at = parsedate_to_datetime(text)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(0.0, seconds - (time.time() if now is None else now)), LONGEST_WAIT)


def _authorization(auth: WebhookAuth, resolve: Callable[[str], str]) -> str:
    if auth.token is not None:
        return f"Bearer {auth.token.resolve(resolve)}"
    assert auth.pass_ is not None
    pair = f"{auth.user}:{auth.pass_.resolve(resolve)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def build(options: WebhookOptions, name: str, context: BuildContext) -> Webhook:
    """The processor of one `webhook` output. Raises ConfigError if a secret is not available or not of its
    form; the error does not show it."""
    resolve = context.secrets
    url = options.url.resolve(resolve)
    try:
        checked_url(url)
    except ValueError:
        raise ConfigError(
            f"url {options.url.shown}", "the secret is not an http:// or https:// URL"
        ) from None
    keys = []
    for where, secret in options.signing_secrets():
        try:
            keys.append(webhook_key(secret.resolve(resolve)))
        except ValueError as error:
            raise ConfigError(where, str(error)) from None
    try:
        fixed = resolved_headers(options, resolve)
        if (auth := options.auth) is not None:
            fixed["Authorization"] = check_field_value(_authorization(auth, resolve))
    except ValueError as error:
        raise ConfigError("headers or auth", str(error)) from None
    older = None
    if options.hmac is not None:
        older = HmacSigner(options.hmac, options.hmac.secret.resolve(resolve).encode())
    shown = place_of(url, path=not options.url.is_secret)
    return Webhook(options, name, HttpClient(url), Signing(url, fixed, WebhookSigner(keys), older), shown)
