"""All that the checks in front of the requests need to know of users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from listener.config.inbox import InboxViewer
from listener.inbox.access.cookies import Cookies
from listener.inbox.access.logins import Logins
from listener.inbox.access.stored import MOST_FAILURES, StoredLogin
from listener.monitoring.failed_logins import ProcessFailures


class Access(NamedTuple):
    """`viewers` are the users; without any, no login is asked for."""

    viewers: Mapping[str, InboxViewer]
    logins: Logins
    cookies: Cookies


def access_of(
    viewers: Mapping[str, InboxViewer],
    stored: Mapping[str, StoredLogin],
    key: bytes,
    failures: ProcessFailures,
    most: int = MOST_FAILURES,
) -> Access:
    """The users of an inbox; `key` signs their cookies."""
    texts = {name: f"{one.password}\0{one.token}" for name, one in stored.items()}
    return Access(viewers, Logins(stored, failures, most), Cookies(key, texts))
