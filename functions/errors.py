"""The two ways an output fails, and the one way a configuration does.

Faults carry an RFC 3463 enhanced status code and a reason in words for the operator. The reason may
quote the provider's answer. Dead records and logs hold it. An SMTP client sees it only if every
output failed permanently (554).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class DeliveryFault(Exception):
    """An output did not take effect; raise one of the two subclasses.

    `closed` says that the other side accepts nothing for a while. `retry_after` is the least wait,
    in seconds, that it asked for. `recipients` are the recipients of the fault, if the others were
    served; it is empty if the fault is about all of them. The dead record then names only these.
    The client is never told of a refusal then, because its mail is partly delivered.
    """

    closed: ClassVar[bool] = False
    retry_after: float | None = None

    def __init__(self, reason: str, *, enhanced: str, recipients: tuple[str, ...] = ()) -> None:
        super().__init__(reason)
        self.reason = reason
        self.enhanced = enhanced
        self.recipients = recipients


class Temporary(DeliveryFault):
    """Worth a retry: throttled, 5xx, time-out, connection closed.

    `in_doubt` says that a call that is not safe to repeat got no answer, so its effect may have
    happened (`delivery.onDoubt`). `no_login` says that the output could not log in, so the operator may
    have to act. `give_up_after` is the age of a mail, in seconds, at which this fault gives it up, if that
    comes before `giveUpAfter`.
    """

    give_up_after: float | None = None

    def __init__(
        self,
        reason: str,
        *,
        enhanced: str = "4.3.0",
        retry_after: float | None = None,
        in_doubt: bool = False,
        no_login: bool = False,
        recipients: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason, enhanced=enhanced, recipients=recipients)
        self.retry_after = retry_after
        self.in_doubt = in_doubt
        self.no_login = no_login


class HeldBack(Temporary):
    """No attempt was made, because the output takes no mail at the moment; `retry_after` says how long,
    as far as is known."""


class Permanent(DeliveryFault):
    """No retry can succeed as things stand: no such bucket, unverified sender, malformed."""

    def __init__(self, reason: str, *, enhanced: str = "5.3.0", recipients: tuple[str, ...] = ()) -> None:
        super().__init__(reason, enhanced=enhanced, recipients=recipients)


class Damaged(Permanent):
    """The stored mail is not the one that was accepted. No output may deliver it, and its record says
    so with `reason`, to which `more` adds the details."""

    def __init__(self, more: str = "") -> None:
        reason = "the stored mail is damaged"
        super().__init__(f"{reason}: {more}" if more else reason, enhanced="5.6.0")


class ConfigError(Exception):
    """A mistake in a configuration: where it is, what is wrong, how to fix it.

    `str()` is the one line shown to the user.
    """

    def __init__(self, where: str, what: str, cure: str = "") -> None:
        super().__init__(f"{where}: {what}" + (f" ({cure})" if cure else ""))
        self.where = where
        self.what = what
        self.cure = cure


class ConfigErrors(ConfigError):
    """Several mistakes found at once; `str()` is one line for each of `problems`."""

    def __init__(self, problems: Sequence[ConfigError]) -> None:
        Exception.__init__(self, "\n".join(map(str, problems)))
        self.problems = tuple(problems)
        self.where, self.what, self.cure = problems[0].where, problems[0].what, problems[0].cure
