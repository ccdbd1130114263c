"""What the flows of one listener have in common for all its connections."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from listener.api.decision import ACCEPT, Decision, Phase, Reply
from listener.api.filter import Filter
from listener.api.session import Transaction
from listener.flows.inquiry import Answers
from listener.flows.outcome import DataOutcome, stored_for
from listener.flows.tally import NOTHING_SAID, HasFilters, Hook, Plan, Tallies

_MET: Final = 1_024
"""Most clients of one listener whose tallies are remembered."""


class Serving(NamedTuple):
    """The shared part of the flows of one listener: all hooks by phase, and if AUTH can succeed there,
    with right or with any credentials. `followers` are the filters that are told the end of each mail,
    with the names of their flows. `same_at_mail` says that no filter has to be asked again about a
    reverse-path. `met` has the tallies of clients that were greeted, by their addresses; None if a filter
    has to be asked about each connection."""

    plans: tuple[Plan, ...]
    hooks: tuple[tuple[Hook, ...], ...]
    can_authenticate: bool
    any_user: bool
    nothing_said: Tallies
    followers: tuple[tuple[str, Filter], ...]
    same_at_mail: bool
    met: dict[str, Tallies] | None

    @classmethod
    def of(
        cls, chosen: Sequence[HasFilters], *, checks_credentials: bool, auth_lifted: bool, remembers: bool
    ) -> Serving:
        """The part of the flows that serve a listener. `checks_credentials` says that a filter of any flow
        does; `remembers` that filters may be left unasked."""
        plans = tuple(Plan(flow, place) for place, flow in enumerate(chosen))
        hooks = tuple(tuple(hook for plan in plans for hook in plan.hooks[phase]) for phase in Phase)
        checks = any(one.checks_credentials for flow in chosen for one in flow.filters)
        any_user = any(one.any_user for flow in chosen for one in flow.filters)
        same_at_connect = all(hook.filter.same_at_connect for hook in hooks[Phase.CONNECT])
        return cls(
            plans,
            hooks,
            can_authenticate=not auth_lifted and (checks or any_user or not checks_credentials),
            any_user=any_user or not checks_credentials,
            nothing_said=Tallies([NOTHING_SAID] * len(plans)),
            followers=tuple((flow.name, one) for flow in chosen for one in flow.filters if one.follows_mails),
            same_at_mail=remembers and all(hook.filter.same_at_mail for hook in hooks[Phase.MAIL]),
            met={} if remembers and same_at_connect else None,
        )

    def greeted(self, ip: str, tallies: Tallies, answers: Sequence[tuple[Hook, Decision]]) -> None:
        """The client of that address is greeted: remember it if no filter needs to be asked again."""
        # A filter that defers may have failed.
        if self.met is not None and all(answer.verdict != "defer" for _, answer in answers):
            if len(self.met) >= _MET:
                self.met.clear()
            self.met[ip] = tallies

    def vouched(self, username: str) -> Answers:
        """The answers of the filters that may know a user, as if they had checked its credentials."""
        checking = [hook for hook in self.hooks[Phase.AUTH] if hook.filter.checks_credentials]
        return [(hook, ACCEPT) for hook in checking if hook.filter.may_know(username)]

    def tell_end(
        self, mail: Transaction, outcome: DataOutcome | None, replies: Sequence[Reply], *, lmtp: bool
    ) -> None:
        """Tell the followers the end of a mail."""
        for flow, one in self.followers:
            one.mail_ended(mail, stored_for(flow, outcome, replies, lmtp=lmtp))
