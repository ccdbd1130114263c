"""Signed cookies, so that a password is verified once."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

NAME: Final = "smtp-relay-inbox"

LASTS: Final = 43_200
"""Seconds for which a cookie is good."""

_KEY: Final = "cookie.key"
_SIZE: Final = 32


class Cookies:
    """Signs with `key`. `stored` are the users' stored passwords: a cookie is good only for the password
    that it was made for."""

    def __init__(self, key: bytes, stored: Mapping[str, str]) -> None:
        self._key = key
        self._stored = stored

    def made(self, user: str, now: float, path: str, *, secure: bool) -> str:
        """The value of Set-Cookie for a user who logged in at that moment (Unix seconds); `path` is the
        prefix of all paths."""
        name = base64.urlsafe_b64encode(user.encode()).decode().rstrip("=")
        text = f"{int(now) + LASTS}.{name}"
        flags = f"Path={path or '/'}; HttpOnly; SameSite=Strict; Max-Age={LASTS}"
        return f"{NAME}={text}.{self._signature(text, user)}; {flags}{'; Secure' if secure else ''}"

    def user_of(self, field: str, now: float) -> str | None:
        """The user of a Cookie field, None if it has no good cookie."""
        for one in field.split(";"):
            key, _, value = one.strip().partition("=")
            text, _, signature = value.rpartition(".")
            until, _, name = text.partition(".")
            try:
                user = base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
            except (binascii.Error, ValueError):
                continue
            if key != NAME or user not in self._stored:
                continue
            expected = self._signature(text, user).encode()
            if hmac.compare_digest(expected, signature.encode("utf-8", "replace")) and int(until) > now:
                return user
        return None

    def _signature(self, text: str, user: str) -> str:
        whole = f"{text}\0{self._stored[user]}"
        return hmac.new(self._key, whole.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def key_in(folder: Path) -> bytes:
    """The key of a folder, made at its first use: cookies stay good when the process starts again. Raises
    OSError."""
    path = folder / _KEY
    for _ in range(2):
        with contextlib.suppress(FileNotFoundError):
            if len(found := path.read_bytes()) == _SIZE:
                return found
            path.unlink()
        new = path.with_name(f"{_KEY}.{os.getpid()}")
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(os.urandom(_SIZE))
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
        new.unlink()
    return path.read_bytes()
