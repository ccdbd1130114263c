"""The output `aiosmtpd-handler`: gives mails to a handler that was written for aiosmtpd.

Only `handle_DATA` is called. The mail is accepted already, so the handler cannot refuse it to the client; its
reply says if it is tried again. What came before DATA (`handle_RCPT`, AUTH, …) is the work of filters.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
import threading
from types import SimpleNamespace
from typing import Any, Literal

from functions.errors import ConfigError, Permanent, Temporary
from functions.processors.base import Job, OutputOptions, Processor
from functions.processors.context import BuildContext

_REPLY = re.compile(r"([245])[0-9][0-9](?:[ -]([245]\.[0-9]{1,3}\.[0-9]{1,3}))?(?:\s|\Z)")
_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class Options(OutputOptions):
    """What stands in the configuration beside `type`."""

    type: Literal["aiosmtpd-handler"]

    handler: str
    """The handler's class, `package.module:Class`; it is made without arguments."""

    seconds: float = 60.0
    """The longest time that a handler may take for a mail."""

    def identity(self) -> str:
        return self.name or f"aiosmtpd-handler:{self.handler}"


class HandlerOutput(Processor):
    """Runs the handler in an event loop of its own, because its coroutines share things between mails."""

    def __init__(self, handler: Any, seconds: float) -> None:
        self._handler = handler
        self._seconds = seconds
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aiosmtpd-handler", daemon=True)
        self._thread.start()

    def process(self, job: Job) -> None:
        # A handler cannot be asked if it had a mail before, hence the receipt.
        job.once("", lambda: self._handle(job))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()

    def _handle(self, job: Job) -> str:
        call = asyncio.run_coroutine_threadsafe(self._call(job), self._loop)
        try:
            reply = call.result(min(self._seconds, job.seconds_left()))
        except TimeoutError:
            call.cancel()
            raise Temporary("the handler takes too long; it may have the mail", in_doubt=True) from None
        # As aiosmtpd does, no reply and text that is none are mistakes of the handler: it is tried again.
        found = _REPLY.match(reply) if isinstance(reply, str) else None
        if found is None:
            raise Temporary(f"the handler's reply is none: {str(reply)[:200]!r}", in_doubt=True)
        if found[1] == "2":
            return str(reply)
        enhanced = found[2] if found[2] and found[2][0] == found[1] else f"{found[1]}.0.0"
        kind = Permanent if found[1] == "5" else Temporary
        raise kind(f"the handler says: {str(reply)[:200]}", enhanced=enhanced)

    async def _call(self, job: Job) -> Any:
        said = self._handler.handle_DATA(None, _session(job), _envelope(job))
        return await said if inspect.isawaitable(said) else said


def _session(job: Job) -> SimpleNamespace:
    """What handlers read of aiosmtpd's Session."""
    envelope = job.mail.envelope
    return SimpleNamespace(
        peer=(envelope.client.ip, envelope.client.port),
        host_name=envelope.helo,
        extended_smtp=envelope.transmission != "SMTP",
        ssl=None
        if envelope.tls is None
        else {"version": envelope.tls.version, "cipher": envelope.tls.cipher},
        authenticated=envelope.user is not None,
        auth_data=envelope.user,
        login_data=None if envelope.user is None else envelope.user.encode(),
    )


def _envelope(job: Job) -> SimpleNamespace:
    """What handlers read of aiosmtpd's Envelope: the recipients are those of this flow."""
    envelope = job.mail.envelope
    content = job.mail.raw(job.flow)
    return SimpleNamespace(
        mail_from=envelope.reverse_path,
        mail_options=list(envelope.parameters),
        smtp_utf8=envelope.smtputf8,
        content=content,
        original_content=content,
        rcpt_tos=list(job.recipients),
        rcpt_options=[],
    )


def build(options: Options, name: str, context: BuildContext) -> HandlerOutput:
    """Called once for each such output of the configuration, in each process."""
    where = f"output {name}: handler"
    if not _NAME.fullmatch(options.handler):
        raise ConfigError(where, f"{options.handler!r} is not a class", "write package.module:Class")
    module, _, kind = options.handler.partition(":")
    try:
        made = getattr(importlib.import_module(module), kind)()
    except (ImportError, AttributeError) as error:
        raise ConfigError(where, str(error), f"install the package of {module} beside smtp-relay") from error
    if not callable(getattr(made, "handle_DATA", None)):
        raise ConfigError(where, f"{kind} has no handle_DATA", "name a handler of aiosmtpd")
    return HandlerOutput(made, options.seconds)
