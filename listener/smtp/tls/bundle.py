"""A secret that holds a certificate together with its key, as PEM or as JSON.

One reading gives both, so they always belong together, also while another program writes the next pair.
"""

from __future__ import annotations

import json
import re
from typing import Final, NamedTuple

from functions.errors import ConfigError

_BLOCK: Final = re.compile(
    r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL
)  # RFC 7468 section 3

_NAMES: Final = {
    "certificate": "certificate",
    "cert": "certificate",
    "certificatechain": "chain",
    "chain": "chain",
    "privatekey": "key",
    "key": "key",
    "passphrase": "passphrase",
}
"""Names in JSON to the parts, in small letters and without other signs: `certificateChain`,
`private_key`."""

_FORM: Final = 'write {"certificate": "PEM", "certificateChain": "PEM", "privateKey": "PEM"}'


class Bundle(NamedTuple):
    """The parts, PEM; "" for a missing one. `passphrase` is that of the key, if the secret holds it."""

    certificates: str
    key: str
    passphrase: str | None = None


def unbundle(text: str, where: str) -> Bundle:
    """The parts of the secret at `where` in the configuration. Raises ConfigError, which holds nothing of
    the text."""
    found = _json(text, where) if text.lstrip()[:1] in ("{", "[") else _pem(text)
    if not found.key:
        raise ConfigError(
            where,
            "holds no private key, and no key is given",
            "give key, or a secret that holds certificate and key",
        )
    if not found.certificates:
        raise ConfigError(
            where, "holds no certificate, only a private key", "add the certificate and its chain"
        )
    return found


def line_ends(pem: str) -> str:
    """In PEM from an environment variable the line ends are often written out."""
    return pem.replace("\\n", "\n") if "\n" not in pem.strip() else pem


def _pem(text: str) -> Bundle:
    text = line_ends(text)
    keys: list[str] = []
    certificates: list[str] = []
    for block in _BLOCK.finditer(text):
        kind = block[1]
        if kind.endswith("PRIVATE KEY"):
            keys.append(block[0])
        elif kind.endswith("CERTIFICATE"):
            certificates.append(block[0])
    if not keys and not certificates:
        # The loader says what is wrong with a text that is no PEM.
        return Bundle(text, text)
    return Bundle(_lines(certificates), _lines(keys))


def _json(text: str, where: str) -> Bundle:
    try:
        # A person may have pasted PEM with its line ends into the text.
        value = json.loads(text, strict=False)
    except (ValueError, RecursionError) as error:
        at = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise ConfigError(where, f"begins like JSON, and is none{at}", _FORM) from None
    if not isinstance(value, dict):
        raise ConfigError(where, "is JSON, and no object", _FORM)
    parts: dict[str, str] = {}
    for name, item in value.items():
        part = _NAMES.get(re.sub(r"[^a-z]", "", name.lower()))
        if part is None or item is None:
            continue
        if not isinstance(item, str):
            raise ConfigError(where, f"{name} is no text", _FORM)
        parts[part] = item
    if "certificate" not in parts:
        raise ConfigError(where, "is JSON without a certificate", _FORM)
    if "key" not in parts:
        raise ConfigError(where, "is JSON without a privateKey", _FORM)
    for part, kind in (("certificate", "CERTIFICATE"), ("key", "PRIVATE KEY")):
        if f"{kind}-----" not in parts[part]:
            name = "certificate" if part == "certificate" else "privateKey"
            raise ConfigError(where, f"{name} is not PEM", _FORM)
    certificates = [line_ends(parts[each]) for each in ("certificate", "chain") if parts.get(each)]
    return Bundle(_lines(certificates), line_ends(parts["key"]), parts.get("passphrase"))


def _lines(blocks: list[str]) -> str:
    return "".join(block.strip() + "\n" for block in blocks)
