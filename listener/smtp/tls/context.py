"""The TLS side of one listener: its contexts, and keeping them up to date (RFC 3207, RFC 8314)."""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from functions.errors import ConfigError
from functions.message.domains import domain_key
from functions.message.envelope import Tls
from functions.options.secrets import secrets_of
from functions.options.tls import VERSIONS, load_key_pair, restrict
from listener.smtp.tls.certificates import KeyPair, Material, end_of, read, self_signed

if TYPE_CHECKING:
    from functions.options.secrets import SecretResolver
    from listener.config.smtp import SmtpOptions
    from listener.config.tls import SniCertificate

log = logging.getLogger("smtp_relay.tls")

LOOK_EVERY: Final = 60.0
"""Seconds between looks at the modification times of certificate files."""

RESOLVE_EVERY: Final = 3_600.0
"""Seconds after which the listener resolves every TLS secret again (docs/operations.md)."""

_REASONS: Final[Mapping[str, str]] = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "NO_START_LINE": "no PEM certificate and key in it",
    "EE_KEY_TOO_SMALL": "the key is too small",
    "CA_MD_TOO_WEAK": "the certificate is signed with a weak digest",
}


_SHORT: Final[Mapping[str, str]] = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "stateOrProvinceName": "ST",
    "localityName": "L",
    "streetAddress": "STREET",
    "domainComponent": "DC",
    "userId": "UID",
}
"""RFC 4514 section 3."""

_SPECIAL: Final = re.compile(r'[\x00-\x1f"+,;<>\\]|^[ #]| $')  # RFC 4514 section 2.4

_MAX_SUBJECT: Final = 1_024

_LONGEST_PATH: Final = 512
_ENDS: Final = (".pem", ".key", ".crt", ".cer", ".cert")


class ServerTls:
    """One listener's TLS. `context` is the one for new connections, replaced as a whole when
    certificates change; connections keep the one they began with.

    `where` is the place of the options in the configuration. Raises ConfigError. Reads files and
    secret stores: not to be made in an event loop.
    """

    def __init__(self, options: SmtpOptions, hostname: str, resolver: SecretResolver, where: str) -> None:
        self._options = options
        self._resolver = resolver
        self._where = where
        self._made: KeyPair | None = None if options.has_certificate else _own(options, hostname)
        self._files = _files(options, resolver)
        self._stamps = self._look()
        self._materials = _read(options, resolver, where)
        self.context = _build(options, self._materials, self._made, where)
        self.not_after = self._end()

    @property
    def self_made(self) -> bool:
        """True if the server made the certificate itself."""
        return self._made is not None

    @property
    def may_change(self) -> bool:
        """True if any part comes from a place whose content may change."""
        return any(secret.scheme not in {"plain", "env"} for _, secret in secrets_of(self._options))

    def accepts(self, tls: ssl.SSLObject) -> bool:
        """True if the version is one that the requested host name permits. OpenSSL chooses the version
        before it looks at the name, so this must be checked after the handshake."""
        version = VERSIONS.get(tls.version() or "")
        if not self._options.sni_options or version is None:
            return True
        chosen = tls.context
        # Python's numbers for "the oldest" and "the newest there is" lie beyond all versions.
        newest = chosen.maximum_version
        return version >= chosen.minimum_version and (newest < 0 or version <= newest)

    async def watch(
        self,
        changed: Callable[[ServerTls], None],
        *,
        look_every: float = LOOK_EVERY,
        resolve_every: float = RESOLVE_EVERY,
    ) -> None:
        """Stay up to date until cancelled; `changed` is called with each new context. An unusable
        certificate is logged, and the present context stays."""
        resolved = time.monotonic()
        while self.may_change:
            await asyncio.sleep(look_every)
            try:
                stamps = await asyncio.to_thread(self._look)
                if stamps == self._stamps and time.monotonic() - resolved < resolve_every:
                    continue
                # Noted even if the new files are unusable: then they will be written once more.
                self._stamps = stamps
                resolved = time.monotonic()
                if await asyncio.to_thread(self._renew):
                    log.info("%s: certificate renewed", self._where)
                    changed(self)
            except ConfigError as error:
                log.error("%s; the certificate in use stays", error)
            except Exception:
                log.exception("%s: certificate could not be renewed; the one in use stays", self._where)

    def _renew(self) -> bool:
        materials = _read(self._options, self._resolver, self._where)
        if materials == self._materials:
            return False
        self.context = _build(self._options, materials, self._made, self._where)
        self._materials = materials
        self.not_after = self._end()
        return True

    def _look(self) -> dict[Path, tuple[int, ...] | None]:
        return {path: _stamp(path) for path in self._files}

    def _end(self) -> float | None:
        pair = self._materials[""].pair or self._made
        return end_of(pair) if pair is not None else None


def check(options: SmtpOptions, resolver: SecretResolver, where: str) -> float | None:
    """Try the TLS of a listener, and make no certificate. Returns the Unix time at which its own one ends;
    None if it has none. Raises ConfigError as ServerTls does."""
    materials = _read(options, resolver, where)
    _build(options, materials, None, where)
    pair = materials[""].pair
    return end_of(pair) if pair is not None else None


def _read(options: SmtpOptions, resolver: SecretResolver, where: str) -> dict[str, Material]:
    """Materials by host name; the listener's own under ""."""
    found = {"": read(options, resolver, where)}
    for name, own in options.sni_options.items():
        found[_host(name)] = read(own, resolver, f"{where}.sniOptions.{name}")
    return found


def _build(
    options: SmtpOptions, materials: Mapping[str, Material], made: KeyPair | None, where: str
) -> ssl.SSLContext:
    """The context of these materials; `made` is the certificate of a listener that names none."""
    own = materials[""]
    pair = own.pair or made
    context = _context(options, pair, own.authorities, where)
    others: dict[str, ssl.SSLContext] = {}
    for name, sni in options.sni_options.items():
        material = materials[_host(name)]
        others[_host(name)] = _context(
            options,
            material.pair or pair,
            material.authorities or own.authorities,
            f"{where}.sniOptions.{name}",
            sni,
        )
    if others:
        context.sni_callback = _chooser(others)
    return context


def _context(
    options: SmtpOptions,
    pair: KeyPair | None,
    authorities: str,
    where: str,
    sni: SniCertificate | None = None,
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_RENEGOTIATION
    if not options.honor_cipher_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    minimum = (sni and sni.min_version) or options.min_version
    maximum = (sni and sni.max_version) or options.max_version
    try:
        restrict(context, minimum, maximum, (sni and sni.ciphers) or options.ciphers)
    except ssl.SSLError as error:
        raise ConfigError(
            f"{where}.ciphers", "names no existing cipher", "openssl ciphers lists them"
        ) from error
    if pair is not None:
        _load(context, pair, where)
    if options.request_cert:
        _ask_for_certificates(context, options, authorities, where)
    return context


def _ask_for_certificates(
    context: ssl.SSLContext, options: SmtpOptions, authorities: str, where: str
) -> None:
    context.verify_mode = ssl.CERT_REQUIRED if options.reject_unauthorized else ssl.CERT_OPTIONAL
    if not authorities:
        context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        return
    try:
        context.load_verify_locations(cadata=authorities)
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{where}.ca", "holds no PEM certificate", "name a file of certificates") from error


def _load(context: ssl.SSLContext, pair: KeyPair, where: str) -> None:
    at = "cert" if pair.bundled else "key"
    for name, text, kind in ((at, pair.key, "PRIVATE KEY"), ("cert", pair.certificates, "CERTIFICATE")):
        if f"{kind}-----" not in text:
            raise _not_pem(f"{where}.{name}", text, pair)
    key = pair.key if pair.key.endswith("\n") else pair.key + "\n"
    try:
        load_key_pair(context, key + pair.certificates, pair.passphrase)
    except (ssl.SSLError, ValueError) as error:
        what = _REASONS.get(getattr(error, "reason", None) or "", "cannot be read as PEM")
        cure = "give the key that the certificate was made for" if "belong" in what else "make it anew"
        if "ENCRYPTED" in pair.key and "belong" not in what:
            what = "the key is encrypted, and the passphrase is wrong or missing"
            cure = "give the passphrase, or a key without one"
        raise ConfigError(
            f"{where}.cert" if pair.bundled else f"{where}: key and cert", what, cure
        ) from error


def _not_pem(where: str, text: str, pair: KeyPair) -> ConfigError:
    """The mistake in a text that is no PEM of its kind."""
    if "PRIVATE KEY-----" in pair.certificates and "CERTIFICATE-----" in pair.key:
        return ConfigError(where, "key and certificate are swapped", "swap key and cert")
    short = len(text) < _LONGEST_PATH and "\n" not in text.strip() and "-----" not in text
    if short and text.isprintable() and (text.endswith(_ENDS) or "/" in text):
        # Not shown unless it is a path, because the text may be a secret.
        path = text if text.endswith(_ENDS) else "PATH"
        return ConfigError(where, "is not PEM; it looks like a path", f"write file://{path}")
    what = where.rpartition(".")[2]
    return ConfigError(
        where, "is not PEM", f"openssl {'pkey' if what == 'key' else 'x509'} -outform PEM makes it"
    )


def _host(name: str) -> str:
    """A name of `sniOptions` as clients request it, with a leading `*.` unchanged."""
    return "*." + domain_key(name[2:]) if name.startswith("*.") else domain_key(name)


def _chooser(
    others: Mapping[str, ssl.SSLContext],
) -> Callable[[Any, str | None, ssl.SSLContext], int | None]:
    """OpenSSL's question for the certificate of a host name (RFC 6066 section 3); `*.domain` stands for
    one more label."""

    def choose(connection: Any, name: str | None, _: ssl.SSLContext) -> int | None:
        if name is None:
            return None
        asked = domain_key(name)
        found = others.get(asked) or others.get("*." + asked.partition(".")[2])
        if found is None:
            return None
        connection.context = found
        return None

    return choose


def wanted(options: SmtpOptions) -> bool:
    """True if a listener with these options can ever speak TLS."""
    return options.secure or not options.starttls_disabled


def prepare(options: SmtpOptions, hostname: str) -> None:
    """Before workers are forked: make the objects that all of them must share."""
    if wanted(options) and not options.has_certificate:
        _own(options, hostname)


def _own(options: SmtpOptions, hostname: str) -> KeyPair:
    """A self-signed certificate."""
    announced = options.secure or not options.hide_starttls
    _tell(logging.WARNING if announced else logging.DEBUG, hostname)
    return self_signed(hostname)


@cache
def _tell(level: int, hostname: str) -> None:
    """The log says once in a process what clients make of the certificate."""
    text = (
        "no key and cert: the self-signed certificate for %s is refused by clients that verify "
        "(give options.key and options.cert, or let the clients not verify)"
    )
    log.log(level, text, hostname)


def facts(tls: ssl.SSLObject, *, with_client: bool) -> Tls:
    """Version, cipher, and the subject of the client's certificate if one was verified."""
    cipher = tls.cipher()
    subject = None
    if with_client and (certificate := tls.getpeercert()):
        subject = _distinguished(certificate.get("subject", ()))
    return Tls(
        version=tls.version() or "unknown", cipher=cipher[0] if cipher else "unknown", client_subject=subject
    )


def _distinguished(subject: Any) -> str | None:
    """A subject in the text form of RFC 4514: the most specific part first, specials escaped."""
    parts = []
    for together in reversed(subject):
        pairs = (f"{_SHORT.get(kind, kind)}={_SPECIAL.sub(_escaped, value)}" for kind, value in together)
        parts.append("+".join(pairs))
    return ",".join(parts)[:_MAX_SUBJECT] or None


def _escaped(match: re.Match[str]) -> str:
    text = match[0]
    return "".join(f"\\{octet:02X}" for octet in text.encode()) if text < " " else f"\\{text}"


def _files(options: SmtpOptions, resolver: SecretResolver) -> tuple[Path, ...]:
    return tuple(
        resolver.folder / secret.shown.removeprefix("file://")
        for _, secret in secrets_of(options)
        if secret.scheme == "file"
    )


def _stamp(path: Path) -> tuple[int, ...] | None:
    """A value that changes when a file is written or replaced; None if the file does not exist."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
