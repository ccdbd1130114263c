"""Options that the outputs of both clouds share: for storing and for publishing."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field, model_validator

from functions.options.types import OptionsModel, PlainText, TemplateText

OBJECT_NAME: Final = "${iso8601}_${id}.eml"
ATTACHMENT_NAME: Final = "${id}/${attachment}"
PARTS_FOLDER: Final = "${id}/"


def _bucket(text: str) -> str:
    if found := re.fullmatch(r"arn:[a-z-]+:s3:::([^/]+)/?(.*)", text):
        key = f' and "path": "{found[2]}"' if found[2] else ""
        raise ValueError(f"{text!r} is an ARN (write {found[1]!r}{key})")
    if text.startswith("arn:"):
        return text  # of an access point
    _, mark, rest = text.rpartition("://")
    name, slash, path = rest.partition("/")
    if mark or slash:
        what = "is a URL" if mark else "is more than a bucket's name"
        key = f' and "path": "{path}"' if path else ""
        raise ValueError(f"{text!r} {what} (write {name!r}{key})")
    if re.search(r"\s", text):
        raise ValueError(f"{text!r} is not the name of a bucket (write it without blanks)")
    return text


class StorageOptions(OptionsModel):
    """Store the mail, or a part of it, as objects in a bucket."""

    bucket: Annotated[PlainText, AfterValidator(_bucket)]
    """The bucket."""

    path: TemplateText = ""
    """The key, a template. Empty, or after a final `/`: `${iso8601}_${id}.eml`, for attachments
    `${id}/${attachment}`; for parts the prefix of keys, with `${id}/`."""

    type: Literal["raw", "attachments", "text", "html", "parts"] = "raw"
    """The part to store: `raw` the whole mail, `attachments` one object each, `parts` all of these with a
    `manifest.json`. Without such a part nothing is stored."""

    add_raw_headers: bool = True
    """Prepend the envelope to a `raw` mail."""

    @property
    def key(self) -> str:
        """The whole template of the object's key, or of the prefix of the parts, without a slash at its
        start, because that would mean a folder without a name."""
        path = self.path.lstrip("/")
        if path and not path.endswith("/"):
            return f"{path}/" if self.in_parts else path
        if self.in_parts:
            return path + PARTS_FOLDER
        return path + (ATTACHMENT_NAME if self.type == "attachments" else OBJECT_NAME)

    @property
    def in_parts(self) -> bool:
        """True if `key` is the prefix of several objects, and not the key of one."""
        return self.type == "parts"

    @property
    def key_start(self) -> str:
        """The common prefix of all keys: the text before the first variable, up to the place of a suffix
        for a used name. For permissions that end there."""
        start = self.key.partition("${")[0]
        folder, slash, name = start.rpartition("/")
        return folder + slash + (name.rpartition(".")[0] or name)

    @model_validator(mode="after")
    def _attachments_apart(self) -> StorageOptions:
        if self.type != "attachments" and "${attachment}" in self.path:
            raise ValueError("path: ${attachment} is known with type attachments only")
        return self


class PublishOptions(OptionsModel):
    """Publish a CloudEvent about the mail."""

    format: Literal["cloudevent", "ses"] = "cloudevent"
    """A CloudEvent, or SES's JSON for received mail."""

    truncate: int = Field(default=8192, ge=0)
    """Most characters of text and html in the event."""

    headers: bool = True
    """List the mail's header fields in the CloudEvent."""
