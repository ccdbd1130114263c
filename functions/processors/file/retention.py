"""The option `retention` of the output `file`: how many mails its folder keeps."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from pydantic import Field, model_validator

from functions.options.types import ByteCount, Milliseconds, OptionsModel
from functions.processors.base import FolderLimit, OutputOptions

_MOST: Final = 1 << 53


class RetentionOptions(OptionsModel):
    """Remove the oldest files that this output placed in its folder since the option is used; other files
    stay. The newest files stay that keep all limits. Needs a folder as spool."""

    count: int | None = Field(default=None, ge=1, le=_MOST)
    """Most mails that stay."""

    age: Milliseconds | None = Field(default=None, ge=1)
    """How long a mail stays. A clock that is set ahead removes nothing, because the time that the
    server itself measured has to agree."""

    bytes: ByteCount | None = Field(default=None, ge=1, le=_MOST)
    """Size of the mails that stay."""

    @model_validator(mode="after")
    def _limits_something(self) -> RetentionOptions:
        if self.count is self.age is self.bytes is None:
            raise ValueError("has no limit: give count, age or bytes")
        return self

    def limit(self, folder: Path) -> FolderLimit:
        """The limit of the files below `folder`."""
        seconds = None if self.age is None else self.age / 1000
        return FolderLimit(os.fsencode(os.path.realpath(folder)), self.count, seconds, self.bytes)


def faults(
    outputs: Iterable[tuple[str, OutputOptions]], folder: Path, *, in_bucket: bool
) -> Iterator[tuple[str, str, str]]:
    """The outputs whose retention cannot work: path in the configuration, fault and cure. `outputs` are
    those of all flows, by their paths; `folder` is the working folder."""
    first: dict[str, tuple[str, RetentionOptions | None]] = {}
    for path, output in outputs:
        if output.file_folder is None:
            continue
        retention: RetentionOptions | None = output.file_retention
        if retention is not None and in_bucket:
            yield (
                f"{path}.retention",
                "needs a folder as spool, which keeps the names of the files",
                "name a file:// spool, or remove retention",
            )
            continue
        real = os.path.realpath(folder / output.file_folder)
        other, limits = first.setdefault(real, (path, retention))
        if limits != retention:
            yield (
                f"{path}.retention",
                f"differs from that of {other}, which stores into the same folder {real}",
                "give both the same retention, or two folders",
            )
