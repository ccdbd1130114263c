"""The rules of `sending-policy` at work: which one applies, and what it counts."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from functions.message.domains import fold_ascii
from listener.api.network import network_of
from listener.api.session import Session
from listener.filters.sending.options import Limit, SendingRule
from listener.filters.sending.patterns import Patterns, UserNames
from listener.filters.sending.senders import HeaderSenders
from listener.filters.sending.slots import Window
from listener.filters.whitelist import Networks, subnet

_REMEMBERED: Final = 4_096


class Client(NamedTuple):
    """For whom rules count: the user, "" for a client that did not log in, and the client's address (for
    IPv6 its network); `who` is the first of the two that it has."""

    user: str
    address: str
    who: str

    @classmethod
    def of(cls, session: Session) -> Client:
        """The client of a connection."""
        user, address = fold_ascii(session.user or ""), network_of(session.ip)
        return cls(user, address, user or address)


class Rule:
    """One rule. `per_mail` is its least limit of the recipients of one mail, None without one; `limits`
    are those in a time; `counts` says that it has any."""

    def __init__(self, options: SendingRule, number: int, flow: str, label: str) -> None:
        self.label = f"rules[{number}]"
        self.refuses = options.over == "refuse"
        self.null = options.null
        self._users = None if options.user is None else UserNames(options.user)
        self._networks = None if options.ip is None else Networks(map(subnet, options.ip))
        self._from = None if options.from_ is None else Patterns(options.from_)
        self._authors = None if options.authors is None else Patterns(options.authors)
        self._to = None if options.to is None else Patterns(options.to)
        limits = options.counted()
        self.per_mail = min((one for one in limits if not one.seconds), default=None)
        self.limits: tuple[Limit, ...] = tuple(one for one in limits if one.seconds)
        self.counts = bool(limits)
        # The number of a rule and the height of a limit are no part of it: a rule keeps its counts when
        # others come before it, and when its limits are changed.
        selects = options.model_dump(mode="json", exclude={"limits", "over"})
        self._identity = json.dumps([flow, label, selects], sort_keys=True)
        self._shown = (flow, label, self.label)
        self._windows: dict[str, tuple[Window, ...]] = {}

    def is_for(self, session: Session, user: str) -> bool:
        """True if the rule is about that client; `user` is "" if it did not log in."""
        if self._users is not None and not (user and user in self._users):
            return False
        if self._networks is None:
            return True
        try:
            return session.address in self._networks
        except ValueError:  # a peer without an IP address, on a Unix socket
            return False

    def permits_path(self, reverse_path: str, user: str) -> bool:
        """True if the client may give this reverse-path."""
        if not reverse_path:
            return self.null
        return self._from is None or self._from.has(reverse_path, user)

    def permits_recipient(self, recipient: str, user: str) -> bool:
        """True if the rule is about that recipient."""
        return self._to is None or self._to.has(recipient, user)

    @property
    def names_recipients(self) -> bool:
        """True if the rule is not about all recipients."""
        return self._to is not None

    def foreign(self, senders: HeaderSenders, user: str) -> tuple[str, str] | None:
        """The first sender of a header that the client may not name, with its field; None if there is
        none."""
        if self._authors is None:
            return None
        for field, address in senders.addresses:
            if not self._authors.has(address, user):
                return field, address
        return None

    def key(self, client: Client) -> str:
        """For whom the rule counts."""
        return client.address if self._users is None else client.user

    def windows(self, client: Client) -> tuple[Window, ...]:
        """What is counted for that client."""
        key = client.address if self._users is None else client.user
        found = self._windows.get(key)
        if found is None:
            if len(self._windows) >= _REMEMBERED:
                self._windows.clear()
            found = self._windows[key] = tuple(
                Window.of(
                    f"{self._identity}\0{one.seconds}\0{key}",
                    one.seconds,
                    one.most,
                    *self._shown,
                    one.text,
                    key,
                )
                for one in self.limits
            )
        return found
