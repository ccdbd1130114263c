"""Options of filters whose own file has not landed yet: files validate, `check` says so."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from functions.options import Options as Part
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


class Hmac(Part):
    """How requests are signed."""

    secret: Secret
    algo: str = "sha256"
    header: str = "X-SMTP-RELAY"


class JsonResult(Part):
    """Where the answer's JSON says that a login is right."""

    path: str
    value: object


class HttpAuth(FilterOptions):
    """Ask an HTTP endpoint whether credentials are right."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["http-auth"]
    url: str
    method: Literal["GET", "POST", "PUT"] | None = None
    credentials_method: Literal["BASIC_AUTH", "JSON", "FORM_URLENCODED"] = "BASIC_AUTH"
    user_field: str | None = None
    password_field: str | None = None
    json_result: JsonResult | None = Field(default=None, alias="json_result")
    hmac: Hmac | None = None


class HttpFilter(FilterOptions):
    """Ask an HTTP endpoint about the mail."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["http-filter"]
    url: str
    method: Literal["POST", "PUT"] = "POST"
    hmac: Hmac | None = None
    allow_any_user: bool = False
