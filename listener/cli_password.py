"""`hash-password`: a password in one of the forms that `static-auth` takes (SPEC section 4)."""

from __future__ import annotations

import argparse
import getpass
import hashlib
import hmac
import sys
from typing import Final

from functions.errors import ConfigError

_BCRYPT_LIMIT: Final = 72  # octets; bcrypt ignores, and its library refuses, what follows


def run(arguments: argparse.Namespace) -> int:
    """Ask for the password and print its hash."""
    print(hashed(_password(), arguments.algorithm, arguments.salt))
    return 0


def hashed(password: str, algorithm: str, salt: str | None = None) -> str:
    """The password as `static-auth` stores it: `ALGO:hex`, an argon2id or bcrypt string, or
    `plain:…`. Raises ConfigError."""
    folded = algorithm.lower()
    if folded in {"argon2id", "bcrypt", "plain"}:
        if salt is not None:
            raise ConfigError("--salt", f"cannot be used with {folded}", "it brings its own, or none")
        return {"argon2id": _argon2id, "bcrypt": _bcrypt, "plain": _plain}[folded](password)
    name = _hash_name(algorithm)
    data = password.encode()
    if salt is not None:
        return f"{algorithm}:{hmac.new(salt.encode(), data, name).hexdigest()}"
    return f"{algorithm}:{hashlib.new(name, data, usedforsecurity=False).hexdigest()}"


def _plain(password: str) -> str:
    return f"plain:{password}"


def _argon2id(password: str) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def _bcrypt(password: str) -> str:
    import bcrypt

    data = password.encode()
    if len(data) > _BCRYPT_LIMIT:
        raise ConfigError(
            "the password", f"is longer than the {_BCRYPT_LIMIT} octets that bcrypt reads", "use argon2id"
        )
    return bcrypt.hashpw(data, bcrypt.gensalt()).decode()


def _hash_name(algorithm: str) -> str:
    from listener.filters.http_client import check_algorithm

    try:
        return check_algorithm(algorithm)
    except ValueError as error:
        raise ConfigError("--algorithm", str(error), "argon2id, bcrypt and plain are known too") from error


def _password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the password", "was not the same the second time")
    else:
        text = sys.stdin.read()
        password = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    if not password:
        raise ConfigError("the password", "is empty")
    return password
