"""A configuration at work in one process: filters, flows and an endpoint per listener.

A reload makes a new generation beside the old one. If the rules differ, the old one finishes its
present mails and ends; else it serves its connections to their end. (HAProxy and nginx reload in
the same way.)
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Final

from functions.options.secrets import Runtime
from listener.config.errors import locate
from listener.config.peers import trusted
from listener.control.submission import Submission
from listener.filters.pattern import Values
from listener.flows.flow import Flows
from listener.intake.accept import Acceptor
from listener.intake.refusals import Refusals
from listener.intake.refusals import log as refusals_log
from listener.intake.stamp import Intake
from listener.logs.limit import LineLimit
from listener.logs.setup import to_a_person
from listener.mailauth.dns.iprev import ReverseNames, system_resolver
from listener.server import build
from listener.server.build import Filters
from listener.smtp.commands import verbs_of
from listener.smtp.connection_limits import ConnectionLimits, Counters
from listener.smtp.endpoint import Endpoint
from listener.smtp.rate_limit import RateLimit
from listener.smtp.tls import context as tls
from listener.smtp.tls.context import ServerTls

if TYPE_CHECKING:
    from listener.api.filter import SharedScript
    from listener.config.listeners import Listener
    from listener.config.relay import RelayConfig
    from listener.intake.spool import Spool
    from listener.monitoring.events import Events

log = logging.getLogger("smtp_relay.server")

_TELL: Final = 3600.0
"""Seconds between two log records of the days that a certificate has left, for alarms without a scrape
of the metrics."""


class Generation:
    """One configuration at work, in `loop`. Raises ConfigError if it cannot be put to work.

    Making it reads files and secret stores, and waits for them; if the loop serves already, this
    runs in another thread.
    """

    def __init__(
        self,
        config: RelayConfig,
        around: Runtime,
        spool: Spool,
        counters: Counters,
        observer: Events,
        loop: asyncio.AbstractEventLoop,
        script: SharedScript | None = None,
    ) -> None:
        self.config = config
        self._spool = spool
        self._counters = counters
        self._observer = observer
        self._loop = loop
        self._around = around
        self._filters = Filters(config, around, script)
        self._filters.observe(observer)
        self._names = ReverseNames(system_resolver)
        self._watching: list[asyncio.Task[None]] = []
        self._told = -math.inf
        self.endpoints = {listener.name: self._endpoint(listener) for listener in config.resolved_listeners()}
        self.submission = self._submission()

    async def start(self) -> None:
        """Start the filters, and the watch over certificates."""
        await self._filters.start()
        for endpoint in self.endpoints.values():
            if endpoint.meets_strangers:
                self._names.prepare()
            if endpoint.tls is not None:
                self._observer.tls_expiry(endpoint.name, endpoint.tls.not_after)
                watch = endpoint.tls.watch(partial(self._renewed, endpoint.name))
                self._watching.append(self._loop.create_task(watch))

    async def stop(self) -> None:
        """Stop the filters, and the watch over certificates."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        for endpoint in self.endpoints.values():
            endpoint.refusals.end()
        await self._names.close()
        await self._filters.stop()

    def forget(self) -> None:
        """A reload begins: nothing counts that filters remember of earlier answers."""
        self._filters.forget()

    def same_rules(self, other: Generation) -> bool:
        """True if the other one decides alike: same configuration, secrets and files of users."""
        return self._filters.fingerprint == other._filters.fingerprint

    def retire(self, flows: Iterable[str]) -> None:
        """Another configuration, with these flows, is in force: finish the present mails, and end every
        connection within `closeTimeout`."""
        for endpoint in self.endpoints.values():
            endpoint.retire(flows)

    @property
    def idle(self) -> bool:
        """True if no connection of this generation is left."""
        return not any(endpoint.connections for endpoint in self.endpoints.values())

    def tick(self, now: float) -> None:
        """Called each second."""
        for endpoint in self.endpoints.values():
            endpoint.tick(now)
        if now - self._told >= _TELL:
            self._told = now
            self._tell_certificates()

    def drain(self) -> None:
        """End idle connections, and let mails that are being sent come in."""
        for endpoint in self.endpoints.values():
            endpoint.drain()

    def abort(self) -> None:
        """End every connection now."""
        for endpoint in self.endpoints.values():
            endpoint.abort()

    def _endpoint(self, listener: Listener) -> Endpoint:
        config, options = self.config, listener.options
        hostname = build.host_name(options)
        intake = Intake(
            self._spool.capture_folder,
            build.header_edits(config, self._filters, hostname),
            hostname=hostname,
            received=options.received,
            max_size=options.size or sys.maxsize,
            max_header=options.max_header_size,
            config_digest=config.digest,
            captures=self._spool.captures,
        )
        admissions = ConnectionLimits(
            self._counters,
            options.max_clients or 0,
            options.max_clients_per_ip or 0,
            own_clients=listener.name if "max_clients" in listener.own else "",
            own_addresses=listener.name if "max_clients_per_ip" in listener.own else "",
            ipv6_prefix=options.ipv6_prefix,
            rate=None
            if options.max_connection_rate is None
            else RateLimit(
                options.max_connection_rate,
                options.ipv6_prefix,
                self._loop.time,
                trusted(options.use_xclient),
            ),
        )
        observer = self._observer
        acceptor = Acceptor(
            intake,
            self._spool,
            Refusals(
                listener.name,
                observer,
                log_addresses=config.logs_addresses,
                lines=LineLimit(refusals_log, options.max_refusal_lines, options.ipv6_prefix),
            ),
            observer,
            self._loop,
            log_addresses=config.logs_addresses,
            ascii_only=build.takes_ascii_only(config, listener.name),
        )
        return Endpoint(
            listener,
            self._filters.flows(options, observer),
            acceptor,
            admissions,
            verbs=verbs_of(options),
            hostname=hostname,
            tls=self._tls(listener, hostname),
            names=None if options.disable_reverse_lookup else self._names,
        )

    def _submission(self) -> Submission | None:
        """Takes the mails of the inbox under the first listener's options."""
        inbox = self.config.inbox
        if inbox is None or not (inbox.send or inbox.release):
            return None
        endpoint = next(iter(self.endpoints.values()))

        def flows(names: frozenset[str] | None) -> Flows | None:
            chosen = [one for one in inbox.send if names is None or one in names]
            return self._filters.flows(endpoint.options, self._observer, chosen) if chosen else None

        allowed = Values(inbox.release.recipients if inbox.release else ())
        most = endpoint.limits.max_recipients
        return Submission(flows, allowed, endpoint.acceptor, endpoint.hostname, most)

    def _tls(self, listener: Listener, hostname: str) -> ServerTls | None:
        if not tls.wanted(listener.options):
            return None
        where = self.config.place_of(listener.name)
        with locate(self.config, where, listener.options):
            return ServerTls(listener.options, hostname, self._around.secrets, where)

    def _tell_certificates(self) -> None:
        for endpoint in self.endpoints.values():
            if endpoint.tls is not None and endpoint.tls.not_after is not None:
                days = round((endpoint.tls.not_after - time.time()) / 86_400, 2)
                # The years that a certificate of the server's own has left tell a person nothing.
                level = logging.DEBUG if endpoint.tls.self_made and to_a_person() else logging.INFO
                log.log(level, "certificate", extra={"listener": endpoint.name, "days": days})

    def _renewed(self, name: str, changed: ServerTls) -> None:
        self._observer.tls_expiry(name, changed.not_after)
