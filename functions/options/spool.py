"""The `spool` of the configuration, which keeps accepted mail until it is delivered."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from functions.options.secrets import Secret
from functions.options.types import ByteCount, Milliseconds, OptionsModel, PlainText

DEFAULT_FOLDER: Final = ".smtp-relay"

SpoolScheme = Literal["file", "s3", "gs"]


class SpoolOptions(OptionsModel):
    """A folder or a bucket, and its access."""

    url: PlainText = f"file://./{DEFAULT_FOLDER}"
    """`file://FOLDER`, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`."""

    durability: Literal["fsync", "none"] = "fsync"
    """For a folder: `fsync` answers 250 when the mail is on the disk; `none` is faster, but a power failure
    may lose mail. Mail for `file` and `log` alone then skips the spool."""

    region: str | None = None
    """For S3: the bucket's region. Default: the environment's."""

    endpoint: str | None = None
    """For stand-ins and VPC endpoints."""

    force_path_style: bool | None = None
    """For S3: put the bucket into the path. Default: only with `endpoint`."""

    sse: Literal["AES256", "aws:kms"] | None = None
    """For S3: server-side encryption. Default: the bucket's."""

    kms_key_id: str | None = None
    """For S3 with `aws:kms`: the key's ARN or alias."""

    bucket_key: bool = True
    """For S3 with `aws:kms`: use an S3 Bucket Key."""

    access_key_id: Secret | None = None
    """For S3: static credentials."""

    secret_access_key: Secret | None = None
    """For S3: static credentials."""

    session_token: Secret | None = None
    """For S3: static credentials."""

    service_account_key: Secret | None = None
    """For Cloud Storage: a service account's key, JSON."""

    timeout: Milliseconds = Field(default=30_000, ge=1_000, le=600_000)
    """Time for one request to the bucket."""

    bytes_in_flight: ByteCount = Field(default=67_108_864, ge=1_048_576)
    """Most to upload at a time; more waits."""

    @field_validator("url")
    @classmethod
    def _known_place(cls, url: str) -> str:
        scheme, mark, rest = url.partition("://")
        if not mark or scheme not in {"file", "s3", "gs"}:
            raise ValueError(f"{url!r} is not file://FOLDER, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
        if not rest.strip("/") and scheme != "file":
            raise ValueError(f"{url!r} names no bucket")
        if not rest:
            raise ValueError(f"{url!r} names no folder (file://. is the working folder)")
        if ".." in rest.split("/") and scheme != "file":
            raise ValueError(f"{url!r}: a prefix cannot hold '..'")
        return url

    @model_validator(mode="after")
    def _fits_the_place(self) -> SpoolOptions:
        for_s3 = ("region", "sse", "kms_key_id", "access_key_id", "secret_access_key", "session_token")
        for_gs = ("service_account_key",)
        wrong = [
            name
            for name in self.model_fields_set
            if (name in for_s3 and self.scheme != "s3") or (name in for_gs and self.scheme != "gs")
        ]
        if wrong:
            keys = ", ".join(sorted(type(self).model_fields[name].alias or name for name in wrong))
            raise ValueError(f"{keys} cannot be used with {self.url} (leave it out)")
        if (self.access_key_id is None) is not (self.secret_access_key is None):
            raise ValueError("accessKeyId and secretAccessKey go together")
        if self.kms_key_id is not None and self.sse != "aws:kms":
            raise ValueError('kmsKeyId needs "sse": "aws:kms"')
        return self

    @property
    def scheme(self) -> SpoolScheme:
        """`file`, `s3` or `gs`."""
        scheme: Any = self.url.partition("://")[0]
        return scheme  # type: ignore[no-any-return]

    @property
    def in_bucket(self) -> bool:
        """True if the spool is a bucket."""
        return self.scheme != "file"

    @property
    def bucket(self) -> str:
        """The bucket's name; "" for a folder."""
        return self._rest.partition("/")[0] if self.in_bucket else ""

    @property
    def prefix(self) -> str:
        """The prefix of keys in the bucket: "" or a path that ends in `/`."""
        path = self._rest.partition("/")[2].strip("/") if self.in_bucket else ""
        return f"{path}/" if path else ""

    def folder(self, working_folder: Path) -> Path:
        """The folder of a `file` spool, absolute when `working_folder` is."""
        assert not self.in_bucket
        return working_folder / self._rest

    @property
    def _rest(self) -> str:
        return self.url.partition("://")[2]
