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
    """As `hash-password` writes it."""

    inboxes: tuple[str, ...] | None = None
    """Default: all."""

    rights: tuple[Literal["delete"], ...] = ()
    """More than looking."""

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
    """Default: 127.0.0.1."""

    by: Literal["flow", "user"] = "flow"
    """An inbox for each of these."""

    users: dict[str, InboxUser] = Field(default_factory=dict)
    """Default: this computer's."""

    open: bool = False
    """Everybody may look."""

    hosts: tuple[str, ...] = ()
    """More names of this server."""

    path: Annotated[str, Field(pattern=r"^(?:/[A-Za-z0-9._~-]+)*$")] = ""
    """Prefix of all paths."""
