"""Options of the output `webhook` (docs/outputs/webhook.md)."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from functions.http.addresses import is_local, refused
from functions.http.signing import Hmac, check_url, webhook_key
from functions.options.secrets import Secret
from functions.options.types import CAMEL, ByteCount, FieldName, Milliseconds, OptionsModel, check_field_value
from functions.processors.base import OutputOptions

Format = Literal["cloudevent", "cloudevent-binary", "raw", "ses", "mailpit"]

LEAST_BYTES: Final = 65_536

_OURS: Final = frozenset(
    {"host", "content-length", "content-type", "connection", "transfer-encoding", "expect", "te", "upgrade"}
)
"""Headers that the output sets, or that would change the exchange."""


class Value(Secret):
    """A text that may be a reference to a secret; it is not shown either way."""

    __slots__ = ()

    @property
    def is_secret(self) -> bool:
        return self.scheme != "plain"


class WebUrl(Value):
    """A URL that may be a reference to a secret."""

    __slots__ = ()

    @property
    def shown(self) -> str:
        """The reference, or scheme, host and path."""
        return place_of(self._text) if self.scheme == "plain" else self._text

    @property
    def plain(self) -> str | None:
        """The URL; None if it is a reference."""
        return self._text if self.scheme == "plain" else None


def place_of(url: str, *, path: bool = True) -> str:
    """Scheme, host and path of a URL, for logs: its query may hold a token. A secret URL is shown without
    its path too."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "a URL that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path if path else ''}"


def _check_header(name: str) -> str:
    if name.lower() in _OURS or name.lower().startswith(("webhook-", "ce-")):
        raise ValueError(f"{name!r} is set by the output (remove it)")
    return name


Header = Annotated[FieldName, AfterValidator(_check_header)]


class WebhookAuth(OptionsModel):
    """The `Authorization` header: `user` and `pass`, or `token`."""

    user: str | None = None
    """The name."""

    pass_: Secret | None = Field(default=None, alias="pass")
    """The password."""

    token: Secret | None = None
    """A bearer token."""

    @model_validator(mode="after")
    def _one_kind(self) -> WebhookAuth:
        basic = self.user is not None and self.pass_ is not None
        if basic == (self.token is not None) or (self.user is None) != (self.pass_ is None):
            raise ValueError("give user and pass, or token")
        if self.user is not None and ":" in self.user:
            raise ValueError("user: a name with a colon cannot be sent (RFC 7617)")
        return self


class WebhookOptions(OutputOptions):
    """Post the mail, or an event about it, to a URL."""

    model_config = CAMEL

    type: Literal["webhook"]
    """The output's type."""

    url: WebUrl
    """The endpoint: `http://…` or `https://…`, or a reference to a secret."""

    secret: Secret | None = None
    """The key that signs requests by Standard Webhooks: `whsec_` and base64."""

    secrets: Annotated[tuple[Secret, ...], Field(max_length=4)] = ()
    """Several, while receivers change theirs: each makes a signature."""

    hmac: Hmac | None = None
    """Sign by the older header too."""

    format: Format = "cloudevent"
    """The body: a CloudEvent as JSON, or with its attributes in headers; the mail itself; SES's notification;
    Mailpit's summary."""

    headers: Mapping[Header, Value] = Field(default_factory=dict)
    """Headers to add; each value may be a reference to a secret."""

    auth: WebhookAuth | None = None
    """Authorize the requests."""

    timeout: Annotated[Milliseconds, Field(ge=100, le=300_000)] = 30_000
    """Time for a whole exchange."""

    max_rate: float | None = Field(default=None, gt=0)
    """Most requests a second of one process."""

    give_up_4xx: Milliseconds = Field(default=86_400_000, alias="giveUp4xx")
    """Age at which a mail is given up for a status 3xx or 4xx, if `giveUpAfter` is later."""

    max_bytes: Annotated[ByteCount, Field(ge=LEAST_BYTES)] | None = None
    """Most bytes of a body. Default: 1 MiB, of `raw` 40 MiB."""

    on_too_large: Literal["cut", "dead-letter"] = "cut"
    """For a larger body: cut it and say so, or give the mail up."""

    stored: str | None = Field(default=None, min_length=1)
    """The `name` of an output of this flow, above this one, that stores the mail: wait for it, name its
    objects, and cut a larger body."""

    presign: Annotated[Milliseconds, Field(ge=1_000, le=3_600_000)] | None = None
    """Send a link by which the stored mail (of `aws`) can be read for so long, made anew at each attempt."""

    repeatable = True

    @field_validator("url")
    @classmethod
    def _is_url(cls, url: WebUrl) -> WebUrl:
        if url.plain is not None:
            checked_url(url.plain)
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> WebhookOptions:
        if self.secret is not None and self.secrets:
            raise ValueError("give secret or secrets, not both")
        for name, secret in self.signing_secrets():
            if secret.scheme == "plain":
                try:
                    webhook_key(secret.resolve(str))
                except ValueError as error:
                    raise ValueError(f"{name} {error}") from None
        for name, value in self.headers.items():
            if not value.is_secret:
                try:
                    check_field_value(value.resolve(str))
                except ValueError as error:
                    raise ValueError(f"headers.{name}: {error}") from None
        if self.auth is not None and any(name.lower() == "authorization" for name in self.headers):
            raise ValueError("give auth or a header Authorization, not both")
        if self.presign is not None and self.stored is None:
            raise ValueError("presign needs stored, the name of an output that stores the mail")
        return self

    def signing_secrets(self) -> list[tuple[str, Secret]]:
        """The secrets that sign by Standard Webhooks, with their places."""
        if self.secret is not None:
            return [("secret", self.secret)]
        return [(f"secrets[{index}]", secret) for index, secret in enumerate(self.secrets)]

    @property
    def most(self) -> int:
        """Most bytes of a body."""
        return self.max_bytes or (41_943_040 if self.format == "raw" else 1_048_576)

    @property
    def longest_call(self) -> float:
        return self.timeout / 1000

    def misfit(self, flow: Sequence[OutputOptions]) -> str:
        if self.stored is None:
            return ""
        above = list(flow[: next(at for at, one in enumerate(flow) if one is self)])
        found = next((one for one in above if one.name == self.stored), None)
        if found is None or not found.stores:
            return (
                f".stored: {self.stored!r} is not the name of an output above that stores the mail "
                "(give an aws or gcp output with storage that name)"
            )
        if self.presign is not None and not found.makes_links:
            return ".presign: works with an aws output only (remove it, and let the receiver read the object)"
        return ""

    def advice(self, ports: Container[int]) -> Iterable[tuple[str, str]]:
        if not (self.signing_secrets() or self.hmac or self.auth or self.headers):
            yield "secret", "the receiver cannot tell these requests from others (give a secret)"
        url = self.url.plain
        if url is None:
            return
        parts = urlsplit(url)
        host = parts.hostname or ""
        if parts.scheme == "http" and not is_local(host):
            yield "url", f"mail goes to {host} in clear text (use https)"
        if parts.query:
            yield (
                "url",
                "its query may be a token, which is in the file then (write env:NAME, a secret)",
            )
        try:
            bad = refused(host)
        except ValueError:
            return
        if bad is not None:
            yield "url", f"{bad} is link-local or a metadata service, which no request may reach"

    @property
    def effect(self) -> str:
        url = self.url.plain
        return f"posts it to {self.url.shown if url is None else urlsplit(url).netloc} ({self.format})"

    def identity(self) -> str:
        """The name, else the place and the format."""
        return self.name or f"webhook:{self.url.shown}#{self.format}"


def checked_url(url: str) -> str:
    """A URL that the output can post to. Raises ValueError."""
    try:
        return check_url(url)
    except ValueError as error:
        if "credentials" in str(error):
            raise ValueError("holds credentials (give them as auth)") from None
        raise


def resolved_headers(options: WebhookOptions, resolve: Callable[[str], str]) -> dict[str, str]:
    """The configured headers with their secrets. Raises ConfigError, and ValueError for a value that no
    header can hold."""
    return {name: check_field_value(value.resolve(resolve)) for name, value in options.headers.items()}
