"""The forms in which a text may show a secret."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from urllib.parse import quote_plus


def forms_of(secret: str) -> Iterator[str]:
    """The secret as text, in a form, and in base64 wherever it begins in a longer text."""
    yield from {secret, quote_plus(secret)}
    for before in range(3):
        yield (
            base64.b64encode(b"\0" * before + secret.encode()).decode()[4 if before else 0 :].rstrip("=")[:-2]
        )
