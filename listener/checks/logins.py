"""`check --send`: one login at the server of each `mailer`. No mail is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from functions.processors.mailer.options import MailerOutputOptions
from listener.checks.finding import Finding, Setting, error

if TYPE_CHECKING:
    from listener.config.relay import RelayConfig

PATIENCE: Final = 60.0
"""Most seconds of one login."""


def tried(config: RelayConfig, setting: Setting) -> Iterator[Finding | str]:
    """A sentence for each server that opens a session, an error for each other one. The options are those
    that the outputs were built of without an error."""
    from functions.errors import Temporary
    from functions.processors.mailer.transport import server_of
    from functions.smtp_client.connection import Connection

    for path, output in config.outputs():
        if not isinstance(output, MailerOutputOptions):
            continue
        server = server_of(output.nodemailer, setting.secrets, setting.folder)
        try:
            connection = Connection.open(server, _countdown())
        except Temporary as fault:
            yield error(path, f"no mail could be sent: {fault.reason}")
            continue
        user = "" if connection.user is None else f" as {connection.user}"
        yield f"{server} opens a session{user}."
        connection.quit()


def _countdown() -> Callable[[], float]:
    end = time.monotonic() + PATIENCE
    return lambda: end - time.monotonic()
