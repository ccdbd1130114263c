"""Options of filters whose own file has not landed yet: files validate, `check` says so."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from functions.secrets import Secret
from listener.filters.base import FilterOptions


class Whitelist(FilterOptions):
    """Take mail by who sends it, or to whom."""

    type: Literal["whitelist"]
    from_: tuple[str, ...] = Field(default=(), alias="from")
    to: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    subnets: tuple[str, ...] = ()


class StaticAuth(FilterOptions):
    """Check credentials against fixed ones."""

    type: Literal["static-auth"]
    username: str | None = None
    password: Secret | None = None
    salt: Secret | None = None
    users: dict[str, Secret] = Field(default_factory=dict)
    htpasswd: str | None = None
