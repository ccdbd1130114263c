"""The events of the listener; the class here ignores them.

The server always holds one. Without `prometheus` it is this class, whose methods cost a
call and nothing else; with it, `listener.monitoring.metrics.Metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from functions.delivery.events import DeliveryEvents
from listener.api.decision import Phase, Verdict

Stage = Literal["tls", "auth", "receive", "filters", "spool", "reply"]
"""Stages of receiving a mail: TLS handshake, AUTH command, DATA until the final dot, data filters, spool
write, and final dot until the reply."""


class Events(DeliveryEvents):
    """Receives events, those of deliveries too, and keeps nothing. Durations are in seconds. Names
    come from the configuration, so the number of series stays bounded.

    Call from the event loop's thread, unless a method says otherwise.
    """

    __slots__ = ()

    def expect(self, listeners: Iterable[str], flows: Mapping[str, Iterable[str]]) -> None:
        """These listeners, and these flows with their outputs, may have events."""

    def scripted(self, active: bool) -> None:
        """The configuration has a filter that answers clients by a script, or has none."""

    def connection_opened(self, listener: str) -> None:
        """A connection was accepted; pairs with connection_closed."""

    def connection_closed(self, listener: str, seconds: float) -> None:
        """An accepted connection is closed."""

    def connection_refused(self, listener: str, reason: str) -> None:
        """A connection was refused at connect; `reason` is `limit`, `proxy` (the required PROXY header
        is missing), `filters` or `early` (the client spoke before the greeting)."""

    def untrusted_proxy(self, listener: str) -> None:
        """A client that is not a trusted proxy sent a PROXY header."""

    def bytes_received(self, octets: int) -> None:
        """Bytes of a mail's content arrived."""

    def stage(self, stage: Stage, seconds: float) -> None:
        """One stage of receiving a mail took this long."""

    def auth_failed(self, listener: str) -> None:
        """An AUTH command was answered 535."""

    def command_error(self, listener: str, code: int, mechanism: str) -> None:
        """A command was answered 5yz by the server itself. `mechanism` is that of a login, else ""."""

    def filter_verdict(self, name: str, phase: Phase, verdict: Verdict, seconds: float) -> None:
        """A filter answered."""

    def mail_auth(self, name: str, method: str, result: str) -> None:
        """The filter `name` has a result for a mail: `spf`, `dkim` … and a result of RFC 8601."""

    def recipient_counted(self, name: str, rule: str, share: float) -> None:
        """The filter `name` counted a recipient under a rule; `share` is the used part of the fullest limit
        of its user."""

    def over_limit(self, name: str, rule: str, limit: str) -> None:
        """The filter `name` had no room for a recipient under a limit of a rule."""

    def mail_accepted(self, flows: Iterable[str]) -> None:
        """A mail was answered 250 and goes to these flows."""

    def mail_rejected(self) -> None:
        """The flows refused a MAIL, RCPT or mail for good (5yz)."""

    def mail_deferred(self) -> None:
        """A MAIL, RCPT or mail was answered 4yz."""

    def tls_expiry(self, listener: str, not_after: float | None) -> None:
        """A listener's certificate ends at this Unix time; None when it has no certificate."""


NULL = Events()
"""The observer of a listener without metrics."""
