"""The built-in filters: one line each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from functions.options.registry import Chosen, Kind, Registry, kind
from listener.api.filter import BuildContext, Filter, FilterOptions

KINDS: Final[Mapping[str, Kind]] = {
    "whitelist": kind("listener.filters.whitelist", "WhitelistOptions"),
    "blacklist": kind("listener.filters.blacklist", "BlacklistOptions"),
    "static-auth": kind("listener.filters.static_auth", "StaticAuthOptions"),
    "http-auth": kind("listener.filters.http.auth", "HttpAuthOptions"),
    "http-filter": kind("listener.filters.http.filter", "HttpFilterOptions"),
    "respond": kind("listener.filters.respond.filter", "RespondOptions"),
    "sending-policy": kind("listener.filters.sending.policy", "SendingPolicyOptions"),
    "mail-auth": kind("listener.filters.mail_auth", "MailAuthFilterOptions"),
}

_SYNONYMS: Final = {
    **dict.fromkeys(("ip", "ips", "allow", "allowlist", "accept"), "whitelist"),
    **dict.fromkeys(("deny", "block", "blocklist", "denylist", "reject"), "blacklist"),
    **dict.fromkeys(("auth", "user", "users", "password", "basic", "basic-auth", "htpasswd"), "static-auth"),
    **dict.fromkeys(("http", "webhook"), "http-filter"),
    **dict.fromkeys(("chaos", "script"), "respond"),
    **dict.fromkeys(("sender-policy", "senders", "limits", "rate-limit", "quota"), "sending-policy"),
    **dict.fromkeys(("spf", "dkim", "dmarc"), "mail-auth"),
}

FILTERS: Final = Registry("filter", FilterOptions, "smtp_relay.filters", KINDS, _SYNONYMS)

AnyFilter = Annotated[FilterOptions, Chosen(FILTERS)]
"""The options of one filter, read by the model of its `type`."""


def build_filter(options: FilterOptions, name: str, context: BuildContext) -> Filter:
    """The filter of one entry; `name` is its label. Raises ConfigError if its secrets or files are not
    available, NotAvailable if a package that it needs is not installed."""
    made: Filter = FILTERS.build(options, name, context)
    made.guard = made.guard or options.guard
    return made
