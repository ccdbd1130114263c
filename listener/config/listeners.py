"""The server's addresses: `port`, `bind` and `listeners`, resolved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field, model_validator

from functions.options.types import Label, Port
from listener.config.smtp import HostName, SmtpOptions

DEFAULT_PORT: Final = 10_025
LOCALHOST: Final = "127.0.0.1"
_OPEN: Final = frozenset({"", "0.0.0.0", "::", "*"})  # noqa: S104


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of the server. Flows, logs and the envelope use `name`; `bind` is an address or host
    name, `options` the SMTP options after this listener's override them. `own` are the fields that the
    listener sets."""

    name: str
    bind: str
    port: int
    options: SmtpOptions
    own: frozenset[str] = frozenset()

    @property
    def exposed(self) -> bool:
        """True if other machines can reach it."""
        return not is_loopback(self.bind)


class ListenerOptions(SmtpOptions):
    """One port. Every key of `options` may stand here, too."""

    name: Label | None = None
    """For the `listeners` of flows. Default: the port."""

    hostname: HostName | None = None
    """The server's host name on this port."""

    port: Port
    """The port."""

    bind: str | None = Field(default=None, min_length=1)
    """The address."""

    @model_validator(mode="before")
    @classmethod
    def _logs_are_shared(cls, value: Any) -> Any:
        for key in ("loggers", "logAddresses"):
            if isinstance(value, dict) and key in value:
                raise ValueError(f"{key} is for the whole process: put it at the top")
        return value

    def versions_out_of_order(self) -> str:
        """Checks nothing, because `options` may complete these keys, and both are checked together."""
        return ""

    def over(self, options: SmtpOptions) -> SmtpOptions:
        """The SMTP options after this listener's override them."""
        own = self.model_fields_set & set(SmtpOptions.model_fields) - {"name"}
        update: dict[str, Any] = {name: getattr(self, name) for name in own}
        if self.has_certificate:
            # It replaces the whole certificate of `options`.
            for name in {"key", "cert", "pfx", "passphrase"} - own:
                update[name] = None
        if self.hostname is not None:
            update["name"] = self.hostname
        return options.model_copy(update=update)


def address_of(bind: str | None) -> str:
    """The address to bind: `localhost` is 127.0.0.1 and nothing else, `*` every IPv4 address."""
    if bind is None or bind.lower() == "localhost":
        return LOCALHOST
    return "0.0.0.0" if bind == "*" else bind.strip("[]")  # noqa: S104


def is_loopback(bind: str) -> bool:
    """True if only this machine reaches that address."""
    address = address_of(bind)
    return address == "::1" or address.startswith("127.")


def is_every_address(bind: str) -> bool:
    """True if it means all addresses of the machine."""
    return bind in _OPEN
