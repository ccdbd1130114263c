"""Cookies: good for the user and password that they were made for, also after a restart."""

from __future__ import annotations

import stat
from pathlib import Path

from listener.inbox.access.cookies import LASTS, NAME, Cookies, key_in

NOW = 1_000.0
KEY = b"k" * 32


def value(cookies: Cookies, user: str) -> str:
    return cookies.made(user, NOW, "", secure=False).partition(";")[0]


def test_a_cookie_names_its_user_until_it_ends() -> None:
    cookies = Cookies(KEY, {"ann": "x", "Jörg: 1": "y"})
    for user in ("ann", "Jörg: 1"):
        made = value(cookies, user)
        assert cookies.user_of(f"a=b; {made}; c", NOW) == user
        assert cookies.user_of(made, NOW + LASTS - 1) == user
        assert cookies.user_of(made, NOW + LASTS) is None


def test_it_is_good_for_one_password_and_key_alone() -> None:
    made = value(Cookies(KEY, {"ann": "x"}), "ann")
    assert Cookies(KEY, {"ann": "x", "bob": "y"}).user_of(made, NOW) == "ann"
    assert Cookies(KEY, {"ann": "changed"}).user_of(made, NOW) is None
    assert Cookies(KEY, {"bob": "x"}).user_of(made, NOW) is None
    assert Cookies(b"l" * 32, {"ann": "x"}).user_of(made, NOW) is None


def test_nonsense_is_no_cookie() -> None:
    cookies = Cookies(KEY, {"ann": "x"})
    signature = value(cookies, "ann").rpartition(".")[2]
    for text in (
        "",
        "=",
        "x" * 9_000,
        f"{NAME}=",
        f"{NAME}=..",
        f"{NAME}=1.é.{signature}",
        f"{NAME}=1.YW5u.\udcff",
    ):
        assert cookies.user_of(text, NOW) is None


def test_flags() -> None:
    made = Cookies(KEY, {"ann": "x"}).made("ann", NOW, "/mail", secure=True)
    assert made.endswith(f"; Path=/mail; HttpOnly; SameSite=Strict; Max-Age={LASTS}; Secure")


def test_the_key_of_a_folder_stays_and_is_its_owners(tmp_path: Path) -> None:
    key = key_in(tmp_path)
    assert len(key) == 32
    assert key_in(tmp_path) == key
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(b"torn")
    assert len(key_in(tmp_path)) == 32
    assert key_in(tmp_path) != key
