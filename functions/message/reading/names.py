"""File names for parts that their sender did not name."""

from __future__ import annotations

import re
from mimetypes import MimeTypes
from typing import Final

from functions.message.charset import decode
from functions.message.reading.structure import Leaf
from functions.message.reading.transfer import uuencoded_name
from functions.message.text import printable

_TYPES: Final = MimeTypes(filenames=())  # the built-in table, because it is the same on every machine
_EXTENSIONS: Final = {
    "application/gzip": ".gz",
    "application/ics": ".ics",
    "application/ms-tnef": ".dat",
    "application/pgp-encrypted": ".asc",
    "application/pgp-keys": ".asc",
    "application/pgp-signature": ".asc",
    "application/pkcs10": ".p10",
    "application/pkcs7-signature": ".p7s",
    "application/vnd.ms-tnef": ".dat",
    "application/x-gzip": ".gz",
    "application/x-pkcs7-signature": ".p7s",
    "application/x-rar-compressed": ".rar",
    "application/x-zip-compressed": ".zip",
    "audio/x-wav": ".wav",
    "image/jpg": ".jpg",
    "image/pjpeg": ".jpg",
    "image/x-png": ".png",
    "message/external-body": ".eml",
    "message/global": ".eml",
    "message/news": ".eml",
    "message/partial": ".eml",
    "message/rfc822": ".eml",
    "text/calendar": ".ics",
    "text/directory": ".vcf",
    "text/markdown": ".md",
    "text/plain": ".txt",
    "text/vcard": ".vcf",
    "text/x-amp-html": ".html",
    "text/x-vcalendar": ".vcs",
}
_SMIME: Final = {"certs-only": ".p7c", "compressed-data": ".p7z"}  # RFC 8551 section 3.2.1
_SUBTYPE: Final = re.compile(r"(?:image|audio|video|font)/(?:x-)?([a-z0-9]{2,5})")


def made_up_name(leaf: Leaf, number: int) -> str:
    """The name in uuencoded data, else one with the extension of the part's content type."""
    if leaf.encoding == "x-uuencode":
        name = printable(decode(uuencoded_name(leaf.data, leaf.start, leaf.end))).strip()
        if name:
            return name
    return f"attachment-{number}{_extension(leaf)}"


def _extension(leaf: Leaf) -> str:
    media = leaf.content_type
    if media in ("application/pkcs7-mime", "application/x-pkcs7-mime"):
        return _SMIME.get(leaf.parameters.get("smime-type", "").lower(), ".p7m")
    known = _EXTENSIONS.get(media) or _TYPES.guess_extension(media)
    if known:
        return known
    if (named := _SUBTYPE.fullmatch(media)) is not None:
        return "." + named[1]
    # Reports about mail (RFC 3464, 8098, 5965) and unknown texts are lines to read.
    return ".txt" if media.startswith(("text/", "message/")) else ".bin"
