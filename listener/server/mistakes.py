"""Builds what a serving process builds, and gives all mistakes instead of the first.

It makes no folder, no file and no certificate, takes no lock and opens no port, so it may run beside a
server of the same configuration.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from functions.backends import open_spool
from functions.delivery.events import DeliveryEvents
from functions.errors import ConfigError, ConfigErrors
from functions.options.packages import NotAvailable, not_installed
from functions.options.secrets import Runtime, Secret, SecretResolver, Unavailable, secrets_of
from functions.processors.context import BuildContext as OutputContext
from functions.processors.registry import build_processor
from listener.api.filter import BuildContext as FilterContext
from listener.config.errors import locate
from listener.config.listeners import is_every_address
from listener.server import build

if TYPE_CHECKING:
    from listener.api.filter import Filter
    from listener.config.relay import RelayConfig

_UNPRIVILEGED: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_BIND_SERVICE: Final = 10  # CAP_NET_BIND_SERVICE, capabilities(7)

_DAY: Final = 86_400.0


class Tried(NamedTuple):
    """What came of an attempt: `errors`, for which a server would not start, and `warnings`; each has its
    place in the configuration."""

    errors: list[ConfigError]
    warnings: list[ConfigError]


def attempt(config: RelayConfig, around: Runtime, *, offline: bool = False) -> Tried:
    """Build filters, outputs, TLS and spool of this process, and let them go again. With `offline` another
    machine will run the configuration: only what depends on nothing of this one is built, and references
    to secrets are checked for their form."""
    if offline:
        around = replace(around, secrets=_FormOnly(around.folder, around.environ))
    trial = _Trial(config, around, offline=offline)
    if not offline:
        trial.places()
    asyncio.run(trial.filters())
    if not offline:
        trial.outputs()
    trial.tls()
    trial.forms()
    return trial.tried


class _FormOnly(SecretResolver):
    """Resolves no reference."""

    def __call__(self, reference: str) -> str:
        if (secret := Secret(reference)).scheme == "plain":
            return reference
        secret.check_form()
        raise Unavailable(reference, "is not read here")

    def file(self, reference: str) -> bytes:
        raise Unavailable(reference, "is not read here")


class _Trial:
    def __init__(self, config: RelayConfig, around: Runtime, *, offline: bool) -> None:
        self._config = config
        self._around = around
        self._offline = offline
        self.tried = Tried([], [])

    def places(self) -> None:
        """Addresses, folders, files of logs, and the bucket's client."""
        config = self._config
        for bind_at, port_at, bind, port in _addresses(config):
            with self._noted():
                _check_address(f"{config.source}: {bind_at}", f"{config.source}: {port_at}", bind, port)
        for at, logger in enumerate(config.log_outputs):
            if logger.filepath is not None:
                with self._noted():
                    self._file(f"loggers[{at}].filepath", self._around.folder / logger.filepath)
        for name, flow in config.flows.items():
            for index, output in enumerate(flow.outputs if config.mode == "in-process" else ()):
                if output.file_folder is not None:
                    with self._noted():
                        self._folder(f"flows.{name}.outputs[{index}].path", output.file_folder)
        if config.spool.in_bucket:
            with self._noted(), locate(config, "spool", config.spool), _packages("spool", config.spool.url):
                from listener.intake.object_store import open_object_store

                open_object_store(config.spool, self._around.environ, self._around.secrets)
                if config.mode == "in-process":
                    from functions.bucket.in_process import RUN

                    access = open_spool(config, self._around.folder, self._around.environ)
                    access.receipts(DeliveryEvents(), RUN)
            with self._noted():
                self._folder("cachePath", str(build.capture_folder(config, self._around)))
        else:
            with self._noted():
                self._folder("spool.url", str(config.spool.folder(self._around.folder)))

    async def filters(self) -> None:
        """Each filter, started and stopped."""
        config, around = self._config, self._around
        made: list[Filter] = []
        for name, flow in config.flows.items():
            for index, (label, options) in enumerate(flow.labelled_filters()):
                if self._offline and options.files_read():
                    continue
                path = f"flows.{name}.filters[{index}]"
                context = FilterContext(
                    around.folder,
                    around.environ,
                    around.secrets,
                    config.filter_timeout / 1000,
                    self._warner(path, f"filter {label}"),
                    name,
                )
                with self._noted(), locate(config, path, options, f"filter {label}"):
                    made.append(build.located_filter(config, path, label, options, context))
                    await made[-1].start()
        for each in made:
            await each.stop()

    def outputs(self) -> None:
        """Each output that this process runs."""
        if self._config.mode == "events":
            return
        around = self._around
        # `file` outputs make their folder, and have nothing else that can fail.
        context = OutputContext(around.folder, around.environ, around.secrets)
        for flow in self._config.flows.values():
            for label, options in flow.labelled():
                if options.file_folder is not None:
                    continue
                with self._noted(), build.located_output(self._config, label, options):
                    build_processor(options, label, context).close()

    def tls(self) -> None:
        """Keys and certificates of each listener, and the days that they have left."""
        from listener.smtp.tls import context

        for listener in self._config.resolved_listeners():
            if not context.wanted(listener.options):
                continue
            where = self._config.place_of(listener.name)
            with self._noted(), locate(self._config, where, listener.options):
                end = context.check(listener.options, self._around.secrets, where)
                if end is not None and end < time.time():
                    days = round((time.time() - end) / _DAY)
                    text = f"the certificate expired {days} days ago"
                    place = f"{self._config.source}: {where}.{'pfx' if listener.options.pfx else 'cert'}"
                    self.tried.warnings.append(ConfigError(place, text, "renew it"))

    def forms(self) -> None:
        """The references to secrets of outputs that run elsewhere."""
        config = self._config
        for name, flow in config.flows.items():
            for index, output in enumerate(flow.outputs):
                for path, secret in secrets_of(output, f"flows.{name}.outputs[{index}]"):
                    if self._offline or config.mode == "events":
                        with self._noted(), locate(config, path, output):
                            secret.check_form()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except ConfigErrors as several:
            self.tried.errors.extend(several.problems)
        except (Unavailable, NotAvailable) as absent:
            if not self._offline:
                self.tried.errors.append(absent)
        except ConfigError as mistake:
            self.tried.errors.append(mistake)

    def _warner(self, path: str, label: str) -> Callable[[str, str, str], None]:
        def warn(where: str, what: str, cure: str) -> None:
            inner = where.removeprefix(label).removeprefix(": ")
            place = f"{self._config.source}: {path}.{inner}" if inner else f"{self._config.source}: {path}"
            self.tried.warnings.append(ConfigError(place, what, cure))

        return warn

    def _folder(self, path: str, folder: str) -> None:
        place = self._around.folder / folder
        if reason := unusable(place):
            raise ConfigError(
                f"{self._config.source}: {path}",
                f"{place} cannot take files: {reason}",
                f"name a folder that user {os.geteuid()} may make files in",
            )

    def _file(self, path: str, file: Path) -> None:
        reason = "Is a directory" if file.is_dir() else unusable(file.parent, may_be_made=False)
        if not reason and file.exists() and not os.access(file, os.W_OK):
            reason = "Permission denied"
        if reason:
            raise ConfigError(
                f"{self._config.source}: {path}",
                f"{file} cannot be written: {reason}",
                "name a file in an existing folder",
            )


def unusable(folder: Path, *, may_be_made: bool = True) -> str:
    """Why no file can be made in a folder; "" if one can, or if the folder could be made (`may_be_made`)."""
    place = folder
    while True:
        try:
            found = place.stat()
            break
        except FileNotFoundError as error:
            if not may_be_made or place.is_symlink():
                return error.strerror or "No such file or directory"
            place = place.parent
        except OSError as error:
            return error.strerror or str(error)
    if not stat.S_ISDIR(found.st_mode):
        return "Not a directory"
    if place.resolve().parts[1:2] in (("proc",), ("sys",)):
        return "No file can be made there"
    return "" if os.access(place, os.W_OK | os.X_OK) else "Permission denied"


def _addresses(config: RelayConfig) -> Iterator[tuple[str, str, str, int]]:
    """Everything that listens: the places of its address and port in the file, and both."""
    for index, listener in enumerate(config.resolved_listeners()):
        at = f"listeners[{index}]." if config.listeners else ""
        yield f"{at}bind", f"{at}port", listener.bind, listener.port
    for key, endpoint in (("health", config.health_endpoint), ("prometheus", config.metrics_endpoint)):
        if endpoint is not None and getattr(config, key) is not None:
            yield f"{key}.bind", f"{key}.portNumber", endpoint.bind, endpoint.port


def _check_address(bind_at: str, port_at: str, bind: str, port: int) -> None:
    """Raises ConfigError for an address that is not this machine's, and for a port that needs rights."""
    if not is_every_address(bind):
        try:
            found = socket.getaddrinfo(bind, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        except (OSError, UnicodeError) as error:
            words = error.strerror if isinstance(error, OSError) else str(error)
            raise ConfigError(
                bind_at, f"{bind!r} is not an address of this machine: {words}", _OURS
            ) from error
        if not any(_is_ours(family, address) for family, _, _, _, address in found):
            raise ConfigError(bind_at, f"{bind} is not an address of this machine", _OURS)
    first = _first_free_port()
    if 0 < port < first and not _may_open_any():
        raise ConfigError(port_at, f"port {port} needs more rights", f"choose one of {first} or above")


_OURS: Final = (
    "name an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all; the port is a key of its own"
)


def _is_ours(family: int, address: Any) -> bool:
    """True if an address is this machine's. The kernel chooses it as the source of a connection to itself;
    connecting a datagram socket sends nothing."""
    if str(address[0]).startswith("127.") or address[0] == "::1":
        return True
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address[0], 9, *address[2:]))
            found: str = probe.getsockname()[0]
    except OSError:
        return False
    return found.partition("%")[0] == str(address[0]).partition("%")[0]


def _first_free_port() -> int:
    try:
        return int(_UNPRIVILEGED.read_text())
    except (OSError, ValueError):
        # macOS lets every user open every port at every address.
        return 0 if sys.platform == "darwin" else 1024


def _may_open_any() -> bool:
    if os.geteuid() == 0:
        return True
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return False
    return any(
        line.startswith("CapEff:") and int(line.partition(":")[2], 16) >> _BIND_SERVICE & 1 for line in lines
    )


@contextmanager
def _packages(where: str, url: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise not_installed(where, url, error, "listener") from error
