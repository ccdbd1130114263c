"""The static-auth filter: the accepted credentials, and the cost of a refusal."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import inspect
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import argon2
import bcrypt
import pytest

from functions.errors import ConfigError
from listener.api.decision import ACCEPT, DEFER, REFUSE, Decision, Phase
from listener.api.filter import BuildContext
from listener.api.session import Credentials
from listener.filters.passwords.htpasswd import CHECK_EVERY, Htpasswd
from listener.filters.passwords.stored import parse
from listener.filters.static_auth import THREADS, StaticAuth, StaticAuthOptions, Users, build
from listener.flows.flow import Flow, Flows
from tests.support.scripted import Dialogue, a_session, password, value

ARGON2 = argon2.PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash("secret")
BCRYPT = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
ANN = "ann:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
SHA256 = "sha256:" + hashlib.sha256(b"secret").hexdigest()


def static_auth(
    environ: Mapping[str, str] | None = None, folder: Path = Path("/"), **fields: Any
) -> StaticAuth:
    options = StaticAuthOptions.model_validate(
        {"type": "static-auth", **fields}, by_alias=True, by_name=False
    )
    return build(options, "static-auth_0", BuildContext.of(folder, environ or {}))


async def decision(one: StaticAuth, credentials: Credentials) -> Decision:
    found: Decision = await value(one.on_auth(a_session(), credentials))
    return found


# -- the sources of users -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "environ"),
    [
        ({"username": "bob", "password": "plain:secret"}, {}),
        ({}, {"SMTP_USERNAME": "bob", "SMTP_PASSWORD": "plain:secret"}),
        ({}, {"SMTP_USERNAME": "bob", "SMTP_PASSWORD": "plain:secret\n"}),
        ({}, {"SMTP_USERNAME": "bob\n", "SMTP_PASSWORD": "plain:secret\r\n"}),
        ({}, {"SMTP_USERNAME": "bob", "SMTP_PASSWORD": f"{ARGON2}\n"}),
        ({"username": "bob", "password": "env:MINE"}, {"MINE": "plain:secret\n"}),
        ({"username": "bob"}, {"SMTP_USERNAME": "ann", "SMTP_PASSWORD": "plain:secret"}),
        ({"password": "plain:secret"}, {"SMTP_USERNAME": "bob", "SMTP_PASSWORD": "plain:other"}),
        ({"username": "bob", "password": "env:MINE"}, {"MINE": "plain:secret"}),
        ({"users": {"bob": "plain:secret", "ann": SHA256}}, {"SMTP_USERNAME": "eve"}),
        ({"users": {"bob": "env:MINE"}}, {"MINE": SHA256}),
        ({"username": "ann", "password": "plain:x", "users": {"bob": ARGON2}}, {}),
        ({"username": "bob", "password": BCRYPT}, {}),
    ],
)
async def test_users_of_the_configuration_and_the_environment(
    fields: dict[str, Any], environ: dict[str, str]
) -> None:
    one = static_auth(environ, **fields)
    assert await decision(one, password("bob", "secret")) is ACCEPT
    assert await decision(one, password("bob", "Secret")) is REFUSE
    assert await decision(one, password("Bob", "secret")) is REFUSE
    assert await decision(one, password("eve", "secret")) is REFUSE
    assert await decision(one, password("eve", "")) is REFUSE
    await one.stop()


async def test_the_environment_adds_no_user_to_configured_ones() -> None:
    environ = {"SMTP_USERNAME": "eve", "SMTP_PASSWORD": "plain:secret"}
    one = static_auth(environ, users={"bob": "plain:secret"})
    assert await decision(one, password("eve", "secret")) is REFUSE


@pytest.mark.parametrize(
    ("fields", "environ"),
    [({"salt": "salty"}, {}), ({}, {"SMTP_PASSWORD_SALT": "salty"}), ({"salt": "env:S"}, {"S": "salty"})],
)
async def test_a_salt_is_the_key_of_an_hmac(fields: dict[str, Any], environ: dict[str, str]) -> None:
    # node -e 'require("crypto").createHmac("sha256", "salty").update("TEST").digest("hex")'
    made = "2b5d7be6510aaf301c69785baf05f8d440c9e314"
    full = hmac.new(b"salty", b"TEST", "sha256").hexdigest()
    assert full.startswith(made)
    one = static_auth(environ, username="bob", password=f"sha256:{full}", users={"ann": "plain:x"}, **fields)
    assert await decision(one, password("bob", "TEST")) is ACCEPT
    assert await decision(one, password("bob", "test")) is REFUSE
    assert await decision(one, password("ann", "x")) is ACCEPT


async def test_an_empty_salt_is_none() -> None:
    one = static_auth({"SMTP_PASSWORD_SALT": ""}, username="bob", password=SHA256)
    assert await decision(one, password("bob", "secret")) is ACCEPT


async def test_users_of_a_file(tmp_path: Path) -> None:
    sha = base64.b64encode(hashlib.sha1(b"secret", usedforsecurity=False).digest()).decode()
    (tmp_path / "users").write_text(f"ann:{BCRYPT}\nbob:{{SHA}}{sha}\n")
    one = static_auth(folder=tmp_path, htpasswd="users", users={"bob": "plain:from the configuration"})
    assert await decision(one, password("ann", "secret")) is ACCEPT
    assert await decision(one, password("bob", "secret")) is REFUSE
    assert await decision(one, password("bob", "from the configuration")) is ACCEPT
    await one.stop()


async def test_a_changed_file_counts_and_a_broken_one_defers(tmp_path: Path) -> None:
    now = 0.0
    path = tmp_path / "users"
    path.write_text(ANN)
    one = StaticAuth("s", {"bob": parse("plain:x")}, Htpasswd(path, lambda: now))
    assert await decision(one, password("ann", "secret")) is ACCEPT
    path.write_text("# nobody any more\n")
    assert await decision(one, password("ann", "secret")) is ACCEPT
    now += CHECK_EVERY
    assert await decision(one, password("ann", "secret")) is REFUSE
    path.write_text("nonsense\n")
    now += CHECK_EVERY
    assert await decision(one, password("ann", "secret")) is DEFER
    assert await decision(one, password("bob", "x")) is ACCEPT
    path.write_text(ANN)
    now += CHECK_EVERY
    assert await decision(one, password("ann", "secret")) is ACCEPT


@pytest.mark.parametrize("fast", [True, False])
async def test_a_large_file_is_read_again_beside_the_event_loop(tmp_path: Path, fast: bool) -> None:
    """Ten thousand users take a fifth of a second."""
    ann = ANN if fast else f"ann:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n"
    others = "".join(f"u{number}:{{SHA}}5en6G6MezRroT3XKqkdPOmY/BfQ=\n" for number in range(20_000))
    now = 0.0
    path = tmp_path / "users"
    path.write_text(others)
    file = Htpasswd(path, lambda: now)
    assert file.large
    one = StaticAuth("static-auth_0", {}, file)
    assert await decision(one, password("ann", "secret")) is REFUSE
    path.write_text(ann + others)
    now += CHECK_EVERY
    asking = asyncio.ensure_future(decision(one, password("ann", "secret")))
    turns = 0
    while not asking.done():
        await asyncio.sleep(0.001)
        turns += 1
    assert await asking is ACCEPT
    assert turns > 5
    await one.stop()


# -- mechanisms ----------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
async def test_passwords_may_come_by_plain_and_login(mechanism: str) -> None:
    one = static_auth(users={"bob": "plain:secret"})
    assert await decision(one, password(mechanism=mechanism)) is ACCEPT


@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER", "EXTERNAL"])
async def test_other_proofs_are_refused(mechanism: str) -> None:
    one = static_auth(users={"bob": "plain:secret"})
    assert await decision(one, password(mechanism=mechanism)) is REFUSE


def cram(username: str, key: str, challenge: bytes = b"<1.2@relay.example>") -> Credentials:
    response = hmac.new(key.encode(), challenge, "md5").hexdigest()
    return Credentials("CRAM-MD5", username, response, challenge)


async def test_cram_md5_needs_a_password_kept_as_it_is() -> None:
    one = static_auth(users={"bob": "plain:secret", "ann": SHA256})
    assert await decision(one, cram("bob", "secret")) is ACCEPT
    assert await decision(one, cram("bob", "Secret")) is REFUSE
    assert await decision(one, cram("ann", "secret")) is REFUSE
    assert await decision(one, cram("ann", SHA256)) is REFUSE
    assert await decision(one, cram("eve", "nobody")) is REFUSE
    assert await decision(one, cram("bob", "secret", b"")) is REFUSE


def test_cram_md5_is_for_filters_all_of_whose_passwords_are_kept_as_they_are(tmp_path: Path) -> None:
    """A client that prefers it could otherwise not log in as a user whose password is a hash."""
    assert static_auth(users={"bob": "plain:secret", "eve": "plain:x"}).supports_cram_md5
    assert not static_auth(users={"ann": SHA256}).supports_cram_md5
    assert not static_auth(users={"bob": "plain:secret", "ann": SHA256}).supports_cram_md5
    (tmp_path / "users").write_text(ANN)
    assert not static_auth(folder=tmp_path, users={"bob": "plain:secret"}, htpasswd="users").supports_cram_md5


async def test_an_md5_digest_is_no_password() -> None:
    one = static_auth(users={"bob": "plain:secret"})
    response = cram("bob", "secret")
    assert await decision(one, password("bob", response.password)) is REFUSE


# -- the cost -----------------------------------------------------------------------------------


class Counting:
    """A stored password that counts how often it is computed."""

    def __init__(self, password: bytes, weight: float) -> None:
        self.password = password
        self.weight = weight
        self.computed = 0

    def matches(self, password: bytes) -> bool:
        self.computed += 1
        return password == self.password


@pytest.mark.parametrize(
    ("username", "secret", "right", "slow", "quick"),
    [
        ("slow", "s", True, 1, 0),
        ("slow", "wrong", False, 1, 0),
        ("quick", "q", True, 0, 1),
        ("quick", "wrong", False, 1, 1),
        ("nobody", "s", False, 1, 0),
        ("nobody", "q", False, 1, 0),
    ],
)
def test_unknown_users_cost_as_much_as_wrong_passwords(
    username: str, secret: str, right: bool, slow: int, quick: int
) -> None:
    stored = {"quick": Counting(b"q", 0), "slow": Counting(b"s", 0.1)}
    assert Users(stored).check(username, secret) is right
    assert (stored["slow"].computed, stored["quick"].computed) == (slow, quick)


def test_of_equal_hashes_one_is_computed() -> None:
    stored = {"ann": Counting(b"a", 0), "bob": Counting(b"b", 0)}
    for guess in (("ann", "x"), ("bob", "x"), ("eve", "a")):
        before = sum(one.computed for one in stored.values())
        assert not Users(stored).check(*guess)
        assert sum(one.computed for one in stored.values()) == before + 1


def test_without_users_nobody_passes() -> None:
    assert not Users({}).check("", "")


def test_odd_passwords_are_wrong_and_no_fault() -> None:
    users = Users({"bob": Counting(b"b", 0)})
    assert not users.check("bob", "\udc80\ud800")
    assert not users.check("b\0b", "\0" * 1024)


def test_quick_hashes_are_answered_at_once() -> None:
    one = static_auth(users={"bob": SHA256})
    assert one.on_auth(a_session(), password()) is ACCEPT


async def test_slow_hashes_leave_the_event_loop_free_and_are_few_at_once() -> None:
    running = threading.Semaphore(0)
    release = threading.Event()
    most = 0
    now = 0
    lock = threading.Lock()

    class Blocking:
        weight = 1.0

        def matches(self, password: bytes) -> bool:
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            running.release()
            release.wait(10)
            with lock:
                now -= 1
            return password == b"secret"

    one = StaticAuth("slow", {"bob": Blocking()})
    tasks = [asyncio.ensure_future(one.on_auth(a_session(ip=f"192.0.2.{n}"), password())) for n in range(5)]
    await asyncio.sleep(0)
    for _ in range(THREADS):
        assert await asyncio.to_thread(running.acquire, timeout=10)
    assert not any(task.done() for task in tasks)
    release.set()
    assert await asyncio.gather(*tasks) == [ACCEPT] * 5
    assert most == THREADS
    await one.stop()
    await one.stop()


async def test_a_stopped_filter_still_answers_its_connections() -> None:
    one = static_auth(users={"bob": BCRYPT})
    assert await decision(one, password()) is ACCEPT
    await one.stop()
    assert await decision(one, password()) is ACCEPT
    await one.stop()


# -- in a flow -----------------------------------------------------------------------------------


async def test_in_a_flow() -> None:
    one = static_auth(users={"bob": "plain:secret", "ann": ARGON2})
    assert one.phases == {Phase.AUTH}
    assert one.checks_credentials
    talk = Dialogue(Flows([Flow("in", (one,))], auth_optional=True))
    assert await talk.connect() == 250
    assert await talk.mail() == 530
    assert await talk.auth("bob", secret="wrong") == 535
    assert await talk.auth("eve") == 535
    assert await talk.auth("ann") == 250
    assert await talk.mail() == 250
    assert await talk.rcpt("x@c.example") == 250
    assert (await talk.data()).reply is None
    await one.stop()


# -- mistakes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "environ", "message"),
    [
        ({}, {}, "filter static-auth_0: has no username and no password (set username and password, or"),
        ({"username": "bob"}, {}, "has no password (set username and password, or SMTP_USERNAME and"),
        ({}, {"SMTP_PASSWORD": "plain:x"}, "has no username ("),
        ({"username": "bob"}, {"SMTP_PASSWORD": ""}, "has no password ("),
        ({"users": {"a": "plain:x"}, "password": "plain:y"}, {}, "has no username ("),
        ({"username": "bob", "password": "hunter2"}, {}, "filter static-auth_0: password: has no algorithm"),
        ({"username": "bob", "password": "env:NONE"}, {}, "env:NONE: the environment variable is not set"),
        (
            {"users": {"bob": "md5:hunter2"}},
            {},
            "filter static-auth_0: users['bob']: what follows md5: is not",
        ),
        (
            {"username": "bob", "password": "plain:x", "users": {"bob": "plain:y"}},
            {},
            "users['bob']: is the username too",
        ),
        ({"htpasswd": "no/such/file"}, {}, "/no/such/file: cannot be read: No such file"),
    ],
)
def test_mistakes_say_the_cure_and_no_password(
    fields: dict[str, Any], environ: dict[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        static_auth(environ, **fields)
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


# -- remembered credentials ------------------------------------------------------------------------


async def test_right_credentials_are_not_computed_again() -> None:
    bob = Counting(b"secret", 0.1)
    one = StaticAuth("s", {"bob": bob})
    for _ in range(3):
        assert await decision(one, password()) is ACCEPT
    assert bob.computed == 1
    for secret in ("wrong", "wrong"):
        assert await decision(one, password(secret=secret)) is REFUSE
    assert bob.computed == 3
    one.forget()
    assert await decision(one, password()) is ACCEPT
    assert bob.computed == 4
    await one.stop()


async def test_nothing_is_remembered_where_the_options_say_so() -> None:
    one = static_auth(users={"bob": BCRYPT}, rememberFor=0)
    assert await decision(one, password()) is ACCEPT
    assert inspect.isawaitable(waits := one.on_auth(a_session(), password()))
    assert await waits is ACCEPT
    await one.stop()


async def test_a_user_revoked_in_the_file_fails_at_the_next_login(tmp_path: Path) -> None:
    """No clock ticks meanwhile."""
    path = tmp_path / "users"
    path.write_text(f"bob:{BCRYPT}\nann:{BCRYPT}\n")
    one = StaticAuth("s", {}, Htpasswd(path, lambda: 0.0))
    assert await decision(one, password()) is ACCEPT
    assert await decision(one, password()) is ACCEPT
    path.write_text(f"ann:{BCRYPT}\n")
    assert await decision(one, password()) is REFUSE
    assert await decision(one, password("ann")) is ACCEPT
    await one.stop()


async def test_a_user_revoked_while_the_check_runs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_text(f"bob:{bcrypt.hashpw(b'secret', bcrypt.gensalt(11)).decode()}\n")
    one = StaticAuth("s", {}, Htpasswd(path, lambda: 0.0))
    asking = asyncio.ensure_future(decision(one, password()))
    await asyncio.sleep(0)
    path.write_text(f"ann:{BCRYPT}\n")
    assert await asking is REFUSE
    await one.stop()


async def test_a_quick_password_does_not_wait_among_slow_ones() -> None:
    one = static_auth(users={"bob": "plain:secret", "ann": ARGON2})
    assert one.on_auth(a_session(), password()) is ACCEPT
