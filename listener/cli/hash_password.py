"""`hash-password`: makes a password in a form of `static-auth` (docs/filters/static-auth.md)."""

from __future__ import annotations

import argparse
import getpass
import sys

from functions.errors import ConfigError
from functions.options.hash_names import EXTENDABLE, hash_name
from listener.cli.parser import give_examples
from listener.filters.passwords.stored import BCRYPT_LIMIT, digest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--algorithm",
        default="argon2id",
        metavar="NAME",
        help="argon2id (default), bcrypt, plain, or a hash: sha256, sha512, RSA-SHA256 …",
    )
    parser.add_argument("--salt", help="the salt of static-auth (with a hash: HMAC)")
    give_examples(
        parser,
        "smtp-relay hash-password",
        "smtp-relay hash-password --algorithm bcrypt",
        "printf 'a password' | smtp-relay hash-password --algorithm sha256 --salt pepper",
    )


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
    try:
        name = hash_name(algorithm)
    except ValueError as error:
        raise ConfigError("--algorithm", str(error), "argon2id, bcrypt and plain are known too") from error
    if salt is not None and name in EXTENDABLE:
        raise ConfigError("--salt", f"cannot be used with {name}", "HMAC needs a hash of fixed length")
    key = None if salt is None else salt.encode("utf-8", "surrogateescape")
    return f"{algorithm}:{digest(name, password.encode(), key).hex()}"


def _plain(password: str) -> str:
    return f"plain:{password}"


def _argon2id(password: str) -> str:
    from argon2 import PasswordHasher

    return PasswordHasher().hash(password)


def _bcrypt(password: str) -> str:
    import bcrypt

    data = password.encode()
    if len(data) > BCRYPT_LIMIT:
        raise ConfigError(
            "the password", f"is longer than the {BCRYPT_LIMIT} bytes that bcrypt reads", "use argon2id"
        )
    return bcrypt.hashpw(data, bcrypt.gensalt()).decode()


def _password() -> str:
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("the password", "differed the second time")
    else:
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError:
            raise ConfigError("the password", "is not UTF-8 text") from None
        password = text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")
    if not password:
        raise ConfigError("the password", "is empty")
    return password
