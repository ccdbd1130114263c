"""`hash-password`: every form that static-auth takes."""

import argparse
import hashlib
import hmac
import io

import bcrypt
import pytest
from argon2 import PasswordHasher

from functions.errors import ConfigError
from listener.cli import hash_password as cli_password
from listener.cli.hash_password import hashed
from listener.filters.passwords.stored import parse


@pytest.mark.parametrize("algorithm", ["sha256", "SHA512", "md5", "sha3_256", "blake2b", "RSA-SHA256"])
def test_hashes(algorithm: str):
    name = algorithm.lower().removeprefix("rsa-")
    expected = hashlib.new(name, "pässword".encode()).hexdigest()
    assert hashed("pässword", algorithm) == f"{algorithm}:{expected}"


def test_a_salt_makes_an_hmac():
    expected = hmac.new(b"salt", b"TEST", "sha256").hexdigest()
    assert hashed("TEST", "sha256", "salt") == f"sha256:{expected}"


@pytest.mark.parametrize("algorithm", ["sha256", "RSA-SHA512", "shake256", "argon2id", "bcrypt", "plain"])
def test_static_auth_takes_what_is_printed(algorithm: str):
    stored = parse(hashed("pässword", algorithm))
    assert stored.matches("pässword".encode())
    assert not stored.matches(b"password")


def test_static_auth_takes_salted_ones():
    assert parse(hashed("TEST", "sha256", "salt"), b"salt").matches(b"TEST")


def test_argon2id_and_bcrypt():
    assert PasswordHasher().verify(hashed("secret", "argon2id"), "secret")
    assert hashed("secret", "argon2id").startswith("$argon2id$")
    assert bcrypt.checkpw(b"secret", hashed("secret", "bcrypt").encode())
    assert hashed("a:b", "plain") == "plain:a:b"


@pytest.mark.parametrize(
    ("password", "algorithm", "salt", "words"),
    [
        ("x" * 73, "bcrypt", None, "longer than the 72 bytes"),
        ("x", "argon2id", "s", "cannot be used with argon2id"),
        ("x", "sha257", None, "not a hash algorithm"),
        ("x", "shake128", "s", "fixed length"),
    ],
)
def test_what_cannot_be(password: str, algorithm: str, salt: str | None, words: str):
    with pytest.raises(ConfigError, match=words):
        hashed(password, algorithm, salt)


@pytest.mark.parametrize(
    ("text", "password"), [("a b\n", "a b"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("a", "a")]
)
def test_the_password_comes_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, password: str
):
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert cli_password.run(argparse.Namespace(algorithm="plain", salt=None)) == 0
    assert capsys.readouterr().out == f"plain:{password}\n"


def test_an_empty_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    with pytest.raises(ConfigError, match="is empty"):
        cli_password.run(argparse.Namespace(algorithm="plain", salt=None))


def test_a_terminal_is_asked_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    answers = iter(["one", "one", "one", "two"])
    monkeypatch.setattr("getpass.getpass", lambda prompt: next(answers))
    assert cli_password.run(argparse.Namespace(algorithm="plain", salt=None)) == 0
    assert capsys.readouterr().out == "plain:one\n"
    with pytest.raises(ConfigError, match="differed the second time"):
        cli_password.run(argparse.Namespace(algorithm="plain", salt=None))
