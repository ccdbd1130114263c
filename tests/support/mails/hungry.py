"""Mails that need many DNS answers, as strangers write them to keep a server waiting."""

from __future__ import annotations

import base64
from typing import Final

SIGNATURES: Final = 10
SETS: Final = 50
AUTHORS: Final = 8
LABELS: Final = 7  # below the zone; each author domain costs a question for each of its names

_HASH: Final = base64.b64encode(bytes(32)).decode()


def hungry(zone: str, tag: str = "x", author: str = "") -> bytes:
    """A mail that asks for some 170 names below `zone`, all of them with `tag`: keys of signatures and of
    ARC sets, and policies of author domains. `author` is one more author, in front of the others."""
    fields = [
        f"DKIM-Signature: v=1; a=rsa-sha256; d={tag}.d{n}.{zone}; s=s; h=from; bh={_HASH}; b={_HASH}"
        for n in range(SIGNATURES)
    ]
    for n in range(1, SETS + 1):
        signed = f"i={n}; a=rsa-sha256; d={tag}.a{n}.{zone}; b={_HASH}"
        fields += [
            f"ARC-Seal: {signed}; s=seal; cv={'none' if n == 1 else 'pass'}",
            f"ARC-Message-Signature: {signed}; s=message; h=from; bh={_HASH}",
            f"ARC-Authentication-Results: i={n}; a.example; none",
        ]
    deep = ".".join("abcdefgh"[: LABELS - 2])
    authors = [f"<n@{deep}.{tag}.f{n}.{zone}>" for n in range(AUTHORS)]
    fields.append("From: " + ",\r\n ".join([f"<{author}>", *authors[1:]] if author else authors))
    return "\r\n".join([*fields, "Subject: hungry", "", "x", ""]).encode()
