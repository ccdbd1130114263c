"""The server that shows stored mails: `inbox`."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from functions.options.secrets import Secret
from functions.options.types import Label, OptionsModel, Port
from listener.config.peers import TrustedPeers
from listener.filters.whitelist import Paths

DEFAULT_INBOX_PORT = 8025


Right = Literal["release", "send", "chaos", "respond", "retry", "delete"]
"""What a user may do beside looking, marking and tagging."""


RELEASE: Final = "release"
"""The flow of released mails, which a configuration with `inbox.release` gets."""


class ReleaseOptions(OptionsModel):
    """Send stored mails on, when a person asks for it."""

    model_config = ConfigDict(defer_build=True)

    output: Label
    """The name of the output that sends them, in any flow."""

    recipients: Annotated[Paths, Field(min_length=1)]
    """Allowed recipients: addresses, `glob:` or `regexp:` with a pattern."""


class InboxViewer(OptionsModel):
    """What a user sees and may do."""

    model_config = ConfigDict(defer_build=True)

    inboxes: tuple[str, ...] | None = None
    """Default: all."""

    rights: tuple[Right, ...] = ()
    """More than looking."""


class InboxUser(InboxViewer):
    """A person or program that may look."""

    password: Secret | None = None
    """As `hash-password` writes it."""

    token: Secret | None = None
    """Sent as `Authorization: Bearer`; as `hash-password --algorithm sha256` writes it."""

    @field_validator("password", "token")
    @classmethod
    def _readable(cls, secret: Secret | None) -> Secret | None:
        if secret is not None and secret.scheme == "plain":
            from listener.filters.passwords.stored import parse

            parse(secret.resolve(str))
        return secret

    @model_validator(mode="after")
    def _can_log_in(self) -> InboxUser:
        if self.password is self.token is None:
            raise ValueError("has no password and no token, so it cannot log in")
        return self


class InboxOptions(OptionsModel):
    """Show stored mails over HTTP, with Mailpit's API. The inboxes are the flows with an output of type
    `file` that writes `addRawHeaders`."""

    model_config = ConfigDict(defer_build=True)

    port: Port = DEFAULT_INBOX_PORT
    """The port."""

    bind: str | None = Field(default=None, min_length=1)
    """Default: 127.0.0.1, in the image every address if `users` or `open` is said."""

    by: Literal["flow", "user"] = "flow"
    """An inbox for each of these."""

    users: dict[str, InboxUser] = Field(default_factory=dict)
    """Default: this computer's."""

    open: bool = False
    """Everybody may look."""

    hosts: tuple[str, ...] = ()
    """More names of this server."""

    cors: tuple[Annotated[str, Field(pattern=r"^(?:\*|https?://[^/\s*]+)$")], ...] = ()
    """Sites whose pages may ask (`https://app.example`); `*` is all."""

    release: ReleaseOptions | None = None
    """Send stored mails on. Default: off."""

    send: tuple[Label, ...] = ()
    """Flows that take mails of `POST /api/v1/send`. Default: off."""

    trusted_proxies: TrustedPeers = Field(default=False, alias="trustedProxies")
    """Proxies whose `X-Forwarded-*` fields are believed."""

    path: Annotated[str, Field(pattern=r"^(?:/[A-Za-z0-9._~-]+)*$")] = ""
    """Prefix of all paths."""

    @model_validator(mode="after")
    def _not_for_all_sites(self) -> InboxOptions:
        if self.users and "*" in self.cors:
            raise ValueError("cors: '*' and users do not go together (name the sites)")
        return self
