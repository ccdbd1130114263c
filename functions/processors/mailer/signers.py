"""Selects the DKIM key of a mail: that of its author's domain (docs/outputs/mailer.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from functions.errors import ConfigError
from functions.message.addresses import authors_of
from functions.message.domains import domain_key

if TYPE_CHECKING:
    from functions.processors.mailer.dkim import Signer
    from functions.processors.mailer.options import DomainKey, MailerOutputOptions


class Signers:
    """The keys of one output: by domain, and the one that signs everything else."""

    def __init__(self, by_domain: Mapping[str, Signer], other: Signer | None) -> None:
        self._by_domain = by_domain
        self._other = other

    @classmethod
    def of(cls, options: MailerOutputOptions, name: str, resolve: Callable[[str], str]) -> Signers:
        """Load the keys of an output's options. Raises ConfigError; keys are never shown."""
        by_domain = {
            domain: _signer(f"output {name}: dkims.{domain}", key.domain_name or domain, key, resolve)
            for domain, key in options.dkims.items()
        }
        single = options.dkim
        if single is None:
            return cls(by_domain, None)
        return cls(by_domain, _signer(f"output {name}: dkim", single.domain_name, single, resolve))

    def choose(self, head: bytes, *, reverse_path: str) -> Signer | None:
        """The signer of a mail: the key of the header From's domain, else of the reverse-path's, else
        the one for everything else."""
        for domain in (author_domain(head), domain_key(reverse_path.rpartition("@")[2])):
            if domain in self._by_domain:
                return self._by_domain[domain]
        return self._other


def author_domain(head: bytes) -> str:
    """The domain of the first author's address, in ASCII form; "" if there is none."""
    return next(iter(authors_of(head).domains), "")


def _signer(where: str, domain: str, key: DomainKey, resolve: Callable[[str], str]) -> Signer:
    try:
        from functions.processors.mailer.dkim import Signer, load_key
    except ImportError as error:
        raise ConfigError(where, f"cannot sign here: {error}", "install smtp-relay[mailer]") from error
    try:
        return Signer(domain, key.key_selector, load_key(key.private_key.resolve(resolve)))
    except ValueError as error:
        raise ConfigError(f"{where}.privateKey", str(error)) from error
