"""Secrets in the configuration: references to stores, resolved at start.

A field typed `Secret` may hold the secret itself or a reference to it: `env:NAME`, `file://PATH`,
`ssm:/name`, `secretsmanager:id` or `gcp-secret:projects/…` (docs/security.md). No other field is read as
a reference.
"""

from __future__ import annotations

import base64
import binascii
import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from functions.errors import ConfigError
from functions.options.packages import not_installed

CLOUD_SCHEMES: Final[Mapping[str, str]] = {
    "ssm": "functions.aws.secrets",
    "secretsmanager": "functions.aws.secrets",
    "gcp-secret": "functions.gcp.secrets",
}
"""Cloud reference scheme to the module whose `fetch(scheme, name) -> str` reads it. The module is
imported at the first such reference, because it imports an SDK."""

_FORMS: Final[Mapping[str, str]] = {
    "env": "env:NAME",
    "file": "file://PATH",
    "ssm": "ssm:/NAME",
    "secretsmanager": "secretsmanager:NAME",
    "gcp-secret": "gcp-secret:projects/PROJECT/secrets/NAME",
}

GCP_SECRET: Final = re.compile(r"(projects/[^/]+(?:/locations/[^/]+)?/secrets/[^/]+)(/versions/[^/]+)?")
"""A secret of Google Cloud, and its version."""

_VARIABLE: Final = re.compile(r"\$(?:\{([A-Za-z_]\w*)\}|([A-Z_][A-Z0-9_]*))")

_ODD_NAME: Final = re.compile(r"[\s${}/=]|^$")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_ARN: Final = re.compile(r"arn:[a-z-]+:(secretsmanager|ssm):[^:]*:[^:]*:(?:parameter)?(.*)")

_LIKE: Final[Mapping[str, str]] = {
    "file": "file://",
    "environment": "env:",
    "environ": "env:",
    "$env": "env:",
    "env": "env:",
    **dict.fromkeys(("aws", "asm", "secret", "aws-secret"), "secretsmanager:"),
    **dict.fromkeys(("aws-secretsmanager", "aws-secrets-manager"), "secretsmanager:"),
    **dict.fromkeys(("aws-ssm", "ssm-parameter", "parameter"), "ssm:/"),
    **dict.fromkeys(("gcp", "gcp-secretmanager", "gcp-secret-manager", "gsm"), "gcp-secret:"),
}
"""Prefixes that other programs use to those of references."""

_MAX_FILE: Final = 1_048_576


class Unavailable(ConfigError):
    """A secret is not where the configuration says: another machine may have it."""


class Secret:
    """The text of a secret field: a reference, or (scheme `plain`) the secret itself.

    Neither `repr()` nor a dump of the model shows a secret of the file. They show references, because
    those help to fix a configuration and reveal nothing.
    """

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @property
    def scheme(self) -> str:
        """`env`, `file`, one of CLOUD_SCHEMES, or `plain`."""
        return _scheme(self._text)

    @property
    def in_cloud(self) -> bool:
        """True if this refers to a cloud's secret store."""
        return self.scheme in CLOUD_SCHEMES

    @property
    def shown(self) -> str:
        """The text to show: the reference, or asterisks."""
        return "**********" if self.scheme == "plain" else self._text

    @property
    def is_secret(self) -> bool:
        """False for a text that is no secret, in a field that may hold a reference to one."""
        return True

    def check_form(self) -> None:
        """Raises ConfigError for a reference that can name nothing, wherever it is resolved."""
        scheme, name = self.scheme, self._text.partition(":")[2].removeprefix("//")
        if scheme == "plain":
            return
        if scheme == "env" and _ODD_NAME.search(variable := self._text.removeprefix("env:")):
            found = _WORD.search(variable)
            raise ConfigError(
                self._text,
                "is not the name of an environment variable",
                f"write env:{found[0] if found else 'NAME'}",
            )
        if not name.strip():
            raise ConfigError(self._text, "names no secret", f"write {_FORMS[scheme]}")
        if scheme == "gcp-secret" and not GCP_SECRET.fullmatch(name):
            raise ConfigError(self._text, "is not the full name of a secret", f"write {_FORMS[scheme]}")

    @property
    def meant(self) -> str:
        """The reference that a text, which is none, was probably meant to be; "" for other texts."""
        if self.scheme != "plain":
            return ""
        if found := _VARIABLE.fullmatch(self._text):
            return f"env:{found[1] or found[2]}"
        scheme, colon, name = self._text.partition(":")
        if found := _ARN.match(self._text):
            return f"{found[1]}:{self._text}" if found[1] != "ssm" else f"ssm:{found[2]}"
        like = _LIKE.get(scheme.casefold(), "") if colon else ""
        return f"{like}{name.lstrip('/') if like != 'file://' else name}" if like else ""

    def resolve(self, resolve: Callable[[str], str]) -> str:
        """The secret; `resolve` is a SecretResolver or a substitute. Raises ConfigError when the
        referenced secret is missing."""
        return resolve(self._text)

    def resolve_bytes(self, resolver: SecretResolver) -> bytes:
        """A binary secret (PKCS #12): a file's bytes unchanged, from other sources base64. Raises
        ConfigError."""
        if self.scheme == "file":
            return resolver.file(self._text)
        try:
            return base64.b64decode(self.resolve(resolver))
        except binascii.Error as error:
            raise ConfigError(self.shown, f"is not base64: {error}") from error

    def __repr__(self) -> str:
        return f"Secret({self.shown!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        text = core_schema.no_info_before_validator_function(_unwrapped, core_schema.str_schema(min_length=1))
        return core_schema.no_info_after_validator_function(
            cls,
            text,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda secret: secret.shown, return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "writeOnly": True}


def _unwrapped(value: Any) -> Any:
    return value._text if isinstance(value, Secret) else value


@dataclass(frozen=True, slots=True)
class SecretResolver:
    """Resolves references to secrets. `folder` is the working folder, for relative `file://` paths."""

    folder: Path
    environ: Mapping[str, str]

    def __call__(self, reference: str) -> str:
        """The secret behind a reference, or the text itself if it is not a reference, without one
        trailing newline of a file or a variable. Raises ConfigError."""
        scheme = _scheme(reference)
        if scheme == "plain":
            return reference
        Secret(reference).check_form()
        if scheme == "env":
            return self._variable(reference.removeprefix("env:"))
        if scheme == "file":
            return _decode(reference, self.file(reference))
        return _fetch(reference, scheme)

    def file(self, reference: str) -> bytes:
        """The bytes of a `file://` reference, at most 1 MiB. Raises ConfigError."""
        path = self.folder / reference.removeprefix("file://")
        try:
            with path.open("rb") as stream:
                data = stream.read(_MAX_FILE + 1)
        except OSError as error:
            raise Unavailable(reference, f"cannot be read: {error.strerror}", f"looked for {path}") from error
        if len(data) > _MAX_FILE:
            raise ConfigError(reference, "is larger than 1 MiB", "a secret is smaller")
        return data

    def _variable(self, name: str) -> str:
        value = self.environ.get(name)
        if value is None:
            Secret(f"env:{name}").check_form()
            raise Unavailable(f"env:{name}", "the environment variable is not set", f"set {name}")
        return without_line_end(value)


@dataclass(frozen=True, slots=True)
class Runtime:
    """A process's surroundings: `folder`, the absolute working folder, where relative paths of the
    configuration start; `environ`, the environment at start; `secrets`, the argument of
    `Secret.resolve`."""

    folder: Path
    environ: Mapping[str, str] = field(repr=False)
    secrets: SecretResolver = field(repr=False)

    @classmethod
    def of(cls, folder: Path, environ: Mapping[str, str], **more: Any) -> Self:
        """A runtime whose secrets come from the same folder and environment; `more` are the fields that
        a context adds."""
        return cls(folder, environ, SecretResolver(folder, environ), **more)

    @classmethod
    def here(cls) -> Self:
        """The runtime of this process."""
        return cls.of(Path.cwd(), dict(os.environ))


def _scheme(text: str) -> str:
    if text.startswith("file://"):
        return "file"
    scheme, colon, _ = text.partition(":")
    return scheme if colon and (scheme == "env" or scheme in CLOUD_SCHEMES) else "plain"


def resolved(secret: Secret | None, resolve: Callable[[str], str]) -> str | None:
    """The secret behind an option that may be missing. Raises ConfigError."""
    return None if secret is None else secret.resolve(resolve)


def without_line_end(text: str) -> str:
    """`text` without one line end after it, which editors and `echo` add and no secret has."""
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


def _decode(reference: str, data: bytes) -> str:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(reference, "is not UTF-8 text", "save it as UTF-8") from error
    if text.startswith("\ufeff"):
        raise ConfigError(reference, "begins with a byte order mark", "save it as UTF-8 without it")
    return without_line_end(text)


def _fetch(reference: str, scheme: str) -> str:
    try:
        found = importlib.import_module(CLOUD_SCHEMES[scheme])
        value: str = found.fetch(scheme, reference.partition(":")[2])
    except ImportError as error:
        extra = "gcp" if scheme == "gcp-secret" else "aws"
        raise not_installed(reference, f"a secret of {scheme}:", error, extra) from error
    return value


def secrets_of(value: object, path: str = "") -> Iterator[tuple[str, Secret]]:
    """Every secret inside a model, with its path in the file's own key names
    (`options.tls.key`, `outputs[0].auth.pass`)."""
    if isinstance(value, Secret):
        if value.is_secret:
            yield path, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            key = field.alias or name
            yield from secrets_of(getattr(value, name), f"{path}.{key}" if path else key)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from secrets_of(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from secrets_of(item, f"{path}[{index}]")
