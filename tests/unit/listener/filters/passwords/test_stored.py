"""Stored passwords: every known form, and the messages about others."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess

import argon2
import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.options.hash_names import EXTENDABLE, hash_name, names
from listener.filters.passwords.stored import (
    BCRYPT_LIMIT,
    Plain,
    StoredPassword,
    apr1,
    digest,
    parse,
    parse_htpasswd,
)

CHEAP_ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)

# Node 20's output (OpenSSL 3.0) of createHash(name).update("TEST").digest("hex").
OF_NODE = {
    "md5": "033bd94b1168d7e4f0d644c3c95e35bf",
    "sha256": "94ee059335e587e501cc4bf90613e0814f00a7b08bc7c648fd865a2af6a22cc2",
    "RSA-SHA1-2": "984816fd329622876e14907634264e6f332e9fb3",
    "shake128": "698af72a63e23c04d951",
    "shake256": "662f5662556553eab4f8",
    "RSA-SM3": "a0b7c7c72491128e1453",
    "blake2b512": "5322bc39e200a6d2ef54",
    "blake2s256": "e06fe76274d4e8b9f43d",
    "sha512-256WithRSAEncryption": "4a9534f239bfb947a1a6",
    "id-rsassa-pkcs1-v1_5-with-sha3-384": "d035baa982c8bfea20a7",
    "md5-sha1": "033bd94b1168d7e4f0d6",
    "rmd160": "317a5cd184cf5aa6ec86",
}
# The same for createHmac(name, "salty").
HMAC_OF_NODE = {
    "md5": "7cae63158dd7004198d8e4a6efade26b",
    "RSA-SHA224": "dfa5e82bd97cc72a09c1130e34b2d117f664ae5a",
    "sha256": "2b5d7be6510aaf301c69785baf05f8d440c9e314",
    "SHA3-512": "abdca2d42b31ee7fa7552a9ade1924f9960de1dc",
    "blake2b512": "d15cb273c9e8eb48f076111ff7aa745a2d0a7d33",
    "md5-sha1": "49a935c92a3487dad035917cbbb6b675e3d3329a",
}


# -- ALGO:hex ------------------------------------------------------------------------------------


@pytest.mark.parametrize("salt", [None, b"salt"])
@pytest.mark.parametrize("name", sorted(hashlib.algorithms_available))
def test_every_algorithm_of_hashlib(name: str, salt: bytes | None) -> None:
    if salt is not None and name in EXTENDABLE:
        with pytest.raises(ValueError, match="cannot be used with a salt"):
            parse(f"{name}:00", salt)
        return
    made = digest(name, b"pass:w\xc3\xb6rd", salt).hex()
    for text in (f"{name}:{made}", f"{name.upper()}:{made.upper()}", f"{name}: {made}\n"):
        stored = parse(text, salt)
        assert stored.matches("pass:wörd".encode())
        assert not stored.matches(b"pass:word")
        assert not stored.matches(b"")


@pytest.mark.parametrize(("name", "beginning"), OF_NODE.items())
def test_hashes_are_those_of_node(name: str, beginning: str) -> None:
    assert digest(hash_name(name), b"TEST", None).hex().startswith(beginning)


@pytest.mark.parametrize(("name", "beginning"), HMAC_OF_NODE.items())
def test_salted_hashes_are_those_of_node(name: str, beginning: str) -> None:
    assert digest(hash_name(name), b"TEST", b"salty").hex().startswith(beginning)


def test_every_algorithm_of_node() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed: its names and hashes are not compared")
    script = """
        const c = require("crypto"), out = {};
        for (const name of c.getHashes()) {
          const hash = c.createHash(name).update("TEST").digest("hex");
          let hmac = null;
          try { hmac = c.createHmac(name, "salty").update("TEST").digest("hex"); } catch {}
          out[name] = [hash, hmac];
        }
        console.log(JSON.stringify(out));
    """
    found = json.loads(subprocess.run([node, "-e", script], check=True, capture_output=True).stdout)
    assert len(found) > 20
    for name, (plain, salted) in found.items():
        assert digest(hash_name(name), b"TEST", None).hex() == plain, name
        if salted is not None:
            assert digest(hash_name(name), b"TEST", b"salty").hex() == salted, name


def test_unknown_algorithms_are_told_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'sha257' is not a hash algorithm known here \(.*sha256"):
        hash_name("sha257")
    assert "sha256" in names()


# -- plain: --------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["plain:pass:word", "PLAIN:pass:word"])
def test_plain_is_all_after_the_first_colon(text: str) -> None:
    stored = parse(text, b"a salt changes nothing")
    assert stored.matches(b"pass:word")
    assert not stored.matches(b"pass")
    assert not stored.matches(b"pass:word ")
    assert not stored.matches(b"")


@given(st.text(min_size=1), st.text())
def test_plain_matches_itself_only(secret: str, guess: str) -> None:
    stored = Plain(secret.encode())
    assert stored.matches(secret.encode())
    assert stored.matches(guess.encode()) == (guess == secret)


def test_cram_md5_is_that_of_rfc_2195() -> None:
    stored = Plain(b"tanstaaftanstaaf")
    challenge = b"<1896.697170952@postoffice.reston.mci.net>"
    assert stored.answers(challenge, "b913a602c7eda7a495b4e6e7334d3890")
    assert not stored.answers(challenge, "b913a602c7eda7a495b4e6e7334d3891")
    assert not stored.answers(challenge, "tanstaaftanstaaf")
    assert not stored.answers(challenge, "ü\udc80")
    assert not stored.answers(b"<other>", "b913a602c7eda7a495b4e6e7334d3890")


# -- argon2, bcrypt, Apache's --------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(argon2.Type))
def test_argon2_strings(kind: argon2.Type) -> None:
    text = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1, type=kind).hash("pässword")
    for stored in (parse(text), parse_htpasswd(text)):
        assert stored.matches("pässword".encode())
        assert not stored.matches(b"password")
        assert stored.weight > 0


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
def test_bcrypt_strings(prefix: str) -> None:
    text = prefix + bcrypt.hashpw(b"password", bcrypt.gensalt(4)).decode()[4:]
    for stored in (parse(text), parse_htpasswd(text)):
        assert stored.matches(b"password")
        assert not stored.matches(b"Password")
        assert stored.weight > 0


def test_bcrypt_reads_72_bytes_and_survives_more() -> None:
    stored = parse(bcrypt.hashpw(b"x" * BCRYPT_LIMIT, bcrypt.gensalt(4)).decode())
    assert stored.matches(b"x" * BCRYPT_LIMIT)
    assert stored.matches(b"x" * 1000)
    assert not stored.matches(b"x" * (BCRYPT_LIMIT - 1))
    assert not stored.matches(b"a\0b")


# Made with `openssl passwd -apr1 -salt …`.
@pytest.mark.parametrize(
    ("password", "text"),
    [
        (b"pass word", "$apr1$abcdefgh$NriZ3KceyQFy368Ufp8U./"),
        (b"", "$apr1$a1$uMxG1fcXrn1.aJupC.Go70"),
        (b"x" * 70, "$apr1$8sFt66rZ$DY0rk3aTHWkz64jZM7npc0"),
    ],
)
def test_apr1(password: bytes, text: str) -> None:
    stored = parse_htpasswd(text)
    assert stored.matches(password)
    assert not stored.matches(password + b"y")


def test_apr1_agrees_with_openssl() -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed: its apr1 is not compared")
    for length in (1, 15, 16, 17, 33):
        password = "pässwörd123456789"[:length] * 3
        made = subprocess.run(
            [openssl, "passwd", "-apr1", "-salt", "Zz./09", password],
            check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip
        assert apr1(password.encode(), b"Zz./09").decode() == made


def test_sha_of_htpasswd() -> None:
    stored = parse_htpasswd("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=")
    assert stored.matches(b"password")
    assert not stored.matches(b"Password")


# -- mistakes ------------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SECRET, "has no algorithm before it: write ALGO:hex, or plain:"),
        (f"{SECRET}:{SECRET}", "does not begin with plain: or a known hash algorithm"),
        (f":{SECRET}", "does not begin with plain:"),
        ("plain:", "is empty"),
        (f"sha256:{SECRET}", "what follows sha256: is not the 64 hexadecimal digits of such a hash"),
        ("sha256:" + "0" * 63, "is not the 64 hexadecimal digits"),
        ("sha256:" + "0 " * 32, "is not the 64 hexadecimal digits"),
        ("sha256:" + "0" * 66, "is not the 64 hexadecimal digits"),
        ("md5:" + "٠" * 32, "is not the 32 hexadecimal digits"),
        ("$argon2id$v=19$m=64,t=1", "the argon2 string is damaged"),
        ("$argon2id$v=19$m=x,t=1,p=1$c2FsdHNhbHQ$aGFzaA", "the argon2 string is damaged"),
        ("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoA", "the argon2 string is damaged"),
        ("$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXN!", "the argon2 string is damaged"),
        ("$argon2x$v=19$m=64,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", "the argon2 string is damaged"),
        (f"$argon2id$v=19$m={'9' * 400},t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", "damaged"),
        ("$2b$12$abc", "the bcrypt string is damaged"),
        ("$2b$03$" + "a" * 53, "the bcrypt string is damaged"),
        ("$2b$31$" + "a" * 53, "seconds to check: choose a lower cost"),
        ("$argon2id$v=19$m=4194304,t=99,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNo", "choose a lower cost"),
        ("$1$abcdefgh$irWbblnpmw.5z7wgBnprh0", "has no algorithm before it"),
    ],
)
def test_mistakes_are_told_without_the_password(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SECRET, "its form is not known here: bcrypt (htpasswd -B), argon2, $apr1$ and {SHA} are"),
        (f"plain:{SECRET}", "its form is not known here"),
        ("$apr1$abcdefgh$short", "its form is not known here"),
        ("$6$abcdefgh$x", "its form is not known here"),
        ("{SHA}%%%", "the SHA-1 digest is damaged"),
        ("{SHA}W6ph", "the SHA-1 digest is damaged"),
        ("$2y$05$", "the bcrypt string is damaged"),
        ("", "its form is not known here"),
    ],
)
def test_mistakes_of_htpasswd_files(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        parse_htpasswd(text)
    assert SECRET not in str(caught.value)


@given(st.text())
def test_any_text_is_a_password_or_a_mistake(text: str) -> None:
    for read in (parse, parse_htpasswd):
        try:
            stored: StoredPassword = read(text)
        except ValueError:
            continue
        assert stored.weight >= 0
