"""Folders of users: no two share one, none leads elsewhere, and the user can be read from it."""

from __future__ import annotations

import unicodedata

import pytest

from functions.processors.file.user_folder import MOST, folder_of_user, user_of_folder

USERS = (
    *("ann", "Ann", "ANN", "ann@h.example", "Ann@h.example", "a+b_c-d.e"),
    *(".", "..", "...", ".ann", "ann.", "a/b", "a\\b", "/", "=41nn", "a~b", "~", "a b", " ", "\0", "-"),
    *("ä", unicodedata.normalize("NFD", "ä"), "Ä", "ß", "ss", "\u212a", "k", "ﬁ", "fi", "\udcff", "日本"),
    *("x" * 120, "x" * 121, "x" * 1_024, "x" * 1_023 + "y", "X" * 60, "=" * 40, "con", "aux.txt"),
)


def test_users_never_share_a_folder_on_any_file_system() -> None:
    folded = {unicodedata.normalize("NFKD", folder_of_user(user)).casefold() for user in USERS}
    assert len(folded) == len(set(USERS))


@pytest.mark.parametrize("user", USERS)
def test_a_name_is_safe_and_tells_the_user(user: str) -> None:
    name = folder_of_user(user)
    assert name.isascii()
    assert 0 < len(name) <= MOST
    assert not set(name) & set('/\\\0 :*?"<>|')
    assert name[0] != "." != name[-1]
    assert user_of_folder(name) == (name if "~" in name else user)


def test_a_usual_name_is_its_folder() -> None:
    assert folder_of_user("ann+tests@h.example") == "ann+tests@h.example"
    assert folder_of_user("Ann") == "=41nn"


@pytest.mark.parametrize("name", ["Ann", "=61nn", "=4", "=zz", ".ann", "ä", "a b", "=ff", "日本"])
def test_other_folders_are_no_users(name: str) -> None:
    assert user_of_folder(name) == ""
