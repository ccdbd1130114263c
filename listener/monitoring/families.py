"""The metric families that the listener exposes, in the order of the scrape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SECONDS: Final = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
"""Upper bounds of duration buckets: from one small write to the longest time that a client waits."""


@dataclass(frozen=True, slots=True)
class Family:
    """One metric family.

    `merge` says how to combine the workers' values of a gauge; counters and histograms are always added.
    `clock` converts stored Unix times: `age` is now less the value, `days_left` the value less now in
    days. With a clock a value of 0 means that there is no value.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    merge: Literal["sum", "min", "max"] = "sum"
    clock: Literal["", "age", "days_left"] = ""

    @property
    def width(self) -> int:
        """The number of doubles of one series: a histogram has a count per bucket, one above the last
        bound, and the sum."""
        return len(self.buckets) + 2 if self.buckets else 1


def _duration(name: str, text: str, *labels: str) -> Family:
    return Family(name, "histogram", text, labels, SECONDS)


EMAILS: Final = Family(
    "smtp_relay_emails_total",
    "counter",
    "Mails by flow and status (accepted), answers 5yz and 4yz (rejected, deferred), "
    "and attempts by output (delivered, error)",
    ("flow", "status", "output"),
)
CONNECTIONS: Final = Family("smtp_relay_connections_total", "counter", "Accepted connections", ("listener",))
CONNECTIONS_OPEN: Final = Family(
    "smtp_relay_connections_open", "gauge", "Connections open now", ("listener",)
)
CONNECTIONS_REFUSED: Final = Family(
    "smtp_relay_connections_refused_total",
    "counter",
    "Connections refused at connect",
    ("listener", "reason"),
)
UNTRUSTED_PROXIES: Final = Family(
    "smtp_relay_untrusted_proxy_headers_total",
    "counter",
    "PROXY headers from addresses that are not trusted",
    ("listener",),
)
CONNECTION_SECONDS: Final = _duration(
    "smtp_relay_connection_duration_seconds", "Duration of connections", "listener"
)
BYTES: Final = Family("smtp_relay_received_bytes_total", "counter", "Bytes of mail content received")
STAGE_SECONDS: Final = _duration(
    "smtp_relay_stage_duration_seconds", "Time of each stage of receiving a mail", "stage"
)
AUTH_FAILURES: Final = Family(
    "smtp_relay_auth_failures_total", "counter", "AUTH commands answered 535", ("listener",)
)
COMMAND_ERRORS: Final = Family(
    "smtp_relay_command_errors_total",
    "counter",
    "Commands and logins that the server answered 5yz",
    ("listener", "code", "mechanism"),
)
FILTER_VERDICTS: Final = Family(
    "smtp_relay_filter_verdicts_total", "counter", "Answers of filters", ("filter", "phase", "verdict")
)
FILTER_SECONDS: Final = _duration(
    "smtp_relay_filter_duration_seconds", "Time until filters answered", "filter"
)
MAIL_AUTH: Final = Family(
    "smtp_relay_mail_auth_results_total",
    "counter",
    "mail-auth's results for mails (RFC 8601)",
    ("filter", "method", "result"),
)
RECIPIENTS_COUNTED: Final = Family(
    "smtp_relay_sending_recipients_total",
    "counter",
    "Recipients that sending-policy counted",
    ("filter", "rule"),
)
LIMIT_USED: Final = Family(
    "smtp_relay_sending_limit_used_ratio",
    "gauge",
    "Used part of a limit of sending-policy: the largest of a user in the last minute with mail",
    ("filter", "rule"),
    merge="max",
)
OVER_LIMIT: Final = Family(
    "smtp_relay_sending_over_limit_total",
    "counter",
    "Recipients above a limit of sending-policy",
    ("filter", "rule", "limit"),
)
SPOOL_SECONDS: Final = _duration("smtp_relay_spool_duration_seconds", "Time until a mail was durable")
SPOOL_ERRORS: Final = Family("smtp_relay_spool_errors_total", "counter", "Mails that the spool did not store")
OUTPUT_SECONDS: Final = _duration(
    "smtp_relay_output_duration_seconds", "Time of outputs' attempts", "flow", "output"
)
RETRIES: Final = Family(
    "smtp_relay_retries_total", "counter", "Attempts to be repeated later", ("flow", "output")
)
DEAD_LETTERS: Final = Family(
    "smtp_relay_dead_letters_total", "counter", "Outputs given up", ("flow", "output")
)
IN_DOUBT: Final = Family(
    "smtp_relay_in_doubt_total",
    "counter",
    "Calls that got no answer and may have taken effect",
    ("flow", "output"),
)
NO_LOGIN: Final = Family(
    "smtp_relay_login_failures_total",
    "counter",
    "Attempts that failed because an output could not log in: refused, or no access token",
    ("flow", "output"),
)
OLDEST: Final = Family(
    "smtp_relay_oldest_unfinished_seconds",
    "gauge",
    "Age of the oldest unfinished mail",
    merge="min",
    clock="age",
)
UNFINISHED: Final = Family("smtp_relay_unfinished_mails", "gauge", "Unfinished mails in the spool")
DEAD: Final = Family("smtp_relay_dead_records", "gauge", "Dead records in the spool")
RESPOND: Final = Family(
    "smtp_relay_respond_active",
    "gauge",
    "1 if clients may get scripted answers (filter respond)",
    merge="max",
)
TLS_EXPIRY: Final = Family(
    "smtp_relay_tls_expiry_days",
    "gauge",
    "Days until a listener's certificate ends",
    ("listener",),
    merge="min",
    clock="days_left",
)

FAMILIES: Final = (
    EMAILS, CONNECTIONS, CONNECTIONS_OPEN, CONNECTIONS_REFUSED, UNTRUSTED_PROXIES, CONNECTION_SECONDS,
    BYTES, STAGE_SECONDS,
    AUTH_FAILURES, COMMAND_ERRORS, FILTER_VERDICTS, FILTER_SECONDS, MAIL_AUTH,
    RECIPIENTS_COUNTED, LIMIT_USED, OVER_LIMIT, SPOOL_SECONDS, SPOOL_ERRORS,
    OUTPUT_SECONDS, RETRIES, DEAD_LETTERS, NO_LOGIN, IN_DOUBT, OLDEST, UNFINISHED, DEAD, RESPOND,
    TLS_EXPIRY,
)  # fmt: skip

BY_NAME: Final = {family.name: family for family in FAMILIES}
