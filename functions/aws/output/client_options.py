"""Options of an AWS client: botocore's, and the reference's names for the commonest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from functions.options.secrets import Secret
from functions.options.types import OptionsModel


class Credentials(OptionsModel):
    """Static credentials, under the reference's names."""

    model_config = ConfigDict(defer_build=True)

    access_key_id: Secret
    """The access key's id."""

    secret_access_key: Secret
    """The secret access key."""

    session_token: Secret | None = None
    """The session token of temporary credentials."""


class S3Style(OptionsModel):
    """How S3 is addressed (botocore's `s3`)."""

    model_config = ConfigDict(alias_generator=None, defer_build=True)

    addressing_style: Literal["auto", "virtual", "path"] = "auto"
    """Most stand-ins need `path`."""


class ClientConfig(OptionsModel):
    """A part of botocore's `Config`."""

    model_config = ConfigDict(alias_generator=None, defer_build=True)

    connect_timeout: float | None = Field(default=None, gt=0)
    """Seconds to wait for a connection."""

    read_timeout: float | None = Field(default=None, gt=0)
    """Seconds to wait for an answer."""

    max_pool_connections: int | None = Field(default=None, ge=1)
    """Most connections to keep open."""

    proxies: dict[str, str] | None = None
    """Proxies by scheme."""

    user_agent_extra: str | None = None
    """Appended to the User-Agent."""

    use_dualstack_endpoint: bool | None = None
    """Use endpoints with IPv6."""

    use_fips_endpoint: bool | None = None
    """Use FIPS endpoints."""

    s3: S3Style | None = None
    """How S3 is addressed."""


class ClientOptions(OptionsModel):
    """Arguments of a boto3 client."""

    model_config = ConfigDict(alias_generator=None, defer_build=True)

    region_name: str | None = None
    """The region. Default: the environment's."""

    region: str | None = None
    """The reference's name of the same."""

    endpoint_url: str | None = None
    """For stand-ins and VPC endpoints."""

    endpoint: str | None = None
    """The reference's name of the same."""

    aws_access_key_id: Secret | None = None
    """Static credentials."""

    aws_secret_access_key: Secret | None = None
    """Static credentials."""

    aws_session_token: Secret | None = None
    """Static credentials."""

    credentials: Credentials | None = None
    """The reference's name of the same."""

    verify: bool | str = True
    """Verify the certificate; text is a CA bundle's path."""

    use_ssl: bool = True
    """Use TLS if the endpoint names no scheme."""

    api_version: str | None = None
    """Default: botocore's newest."""

    config: ClientConfig | None = None
    """Options of botocore's `Config`."""

    force_path_style: bool | None = Field(default=None, alias="forcePathStyle")
    """As `addressing_style` `path`."""

    @model_validator(mode="after")
    def _one_name_each(self) -> ClientOptions:
        for ours, theirs in (("region_name", "region"), ("endpoint_url", "endpoint")):
            if getattr(self, ours) is not None and getattr(self, theirs) is not None:
                raise ValueError(f"{theirs} is another name of {ours}: give one of them")
        static = self.aws_access_key_id is not None
        if static and self.credentials is not None:
            raise ValueError("credentials is another name of aws_access_key_id …: give one of them")
        if static is not (self.aws_secret_access_key is not None):
            raise ValueError("aws_access_key_id and aws_secret_access_key go together")
        return self

    def arguments(self, resolve: Callable[[str], str]) -> dict[str, Any]:
        """Keyword arguments for `boto3.client`, except `config`; secrets are resolved. Raises
        ConfigError."""
        keys = self.credentials
        found: dict[str, Any] = {
            "region_name": self.region_name or self.region,
            "endpoint_url": self.endpoint_url or self.endpoint,
            "api_version": self.api_version,
            "aws_access_key_id": keys.access_key_id if keys else self.aws_access_key_id,
            "aws_secret_access_key": keys.secret_access_key if keys else self.aws_secret_access_key,
            "aws_session_token": keys.session_token if keys else self.aws_session_token,
            "verify": None if self.verify is True else self.verify,
            "use_ssl": None if self.use_ssl else False,
        }
        return {
            name: value.resolve(resolve) if isinstance(value, Secret) else value
            for name, value in found.items()
            if value is not None
        }

    def config_arguments(self) -> dict[str, Any]:
        """Keyword arguments for botocore's `Config`."""
        found = self.config.model_dump(exclude_none=True) if self.config else {}
        if self.force_path_style is not None:
            found.setdefault("s3", {"addressing_style": "path" if self.force_path_style else "auto"})
        return found
