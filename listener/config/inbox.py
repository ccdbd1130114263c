"""The server that shows stored mails: `inbox`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from functions.options.types import OptionsModel, Port
from listener.filters.passwords.stored import parse

DEFAULT_INBOX_PORT = 8025


class InboxUser(OptionsModel):
    """A person or program that may look."""

    password: str = Field(min_length=1)
    """The hash of the password, as `smtp-relay hash-password` writes it."""

    inboxes: tuple[str, ...] | None = None
    """The inboxes that this user sees. Default: all."""

    rights: tuple[Literal["delete"], ...] = ()
    """What this user may do beside looking: `delete` mails."""

    @field_validator("password")
    @classmethod
    def _readable(cls, text: str) -> str:
        parse(text)
        return text


class InboxOptions(OptionsModel):
    """Show stored mails over HTTP, with Mailpit's API. The inboxes are the flows with an output of type
    `file` that writes `addRawHeaders`."""

    port: Port = DEFAULT_INBOX_PORT
    """The port."""

    bind: str | None = Field(default=None, min_length=1)
    """The address. Default: 127.0.0.1. Other computers are answered with `users` or `open` only."""

    by: Literal["flow", "user"] = "flow"
    """The inboxes: one for each flow, or one for each SMTP user that sent a mail. Mail without a user is
    in the inbox of its flow."""

    users: dict[str, InboxUser] = Field(default_factory=dict)
    """Those who may look, by name. Default: everybody on this computer."""

    open: bool = False
    """Let everybody look who reaches the address."""

    hosts: tuple[str, ...] = ()
    """Names of this server that browsers may use beside `localhost`, addresses and names without a dot."""

    path: Annotated[str, Field(pattern=r"^(?:/[A-Za-z0-9._~-]+)*$")] = ""
    """The prefix of all paths, behind a proxy: `/mail`."""
