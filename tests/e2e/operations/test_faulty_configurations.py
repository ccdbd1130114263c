"""Users' mistakes in configurations: `check` and `serve` agree on each, and the cure that `check` prints
turns the file good for both (tests/data/faulty_configurations/)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.support.faulty import Case, Ended, cases, check, messages, serve, serve_quickly

CORPUS = cases()

STATUS = {"error": 2, "warning": 0}

LEAST = 0.95
"""The least share of the corpus whose messages name place, reason and cure."""


def named(case: Case, said: Ended) -> list[str]:
    """The messages with the case's place, reason and cure."""
    return [
        line
        for line in messages(said, case.verdict)
        if case.place in line and all(word.lower() in line.lower() for word in [*case.says, *case.cure])
    ]


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_check_and_serve_agree_before_and_after_the_cure(case: Case, tmp_path: Path) -> None:
    environ = case.write(tmp_path)
    said = check(case, tmp_path, environ)
    served = serve(case, tmp_path, environ)
    assert (said.status, served.status) == (STATUS[case.verdict],) * 2, (said.text, served.text)
    assert "Traceback" not in said.text + served.text

    environ = case.cured(tmp_path)
    said = check(case, tmp_path, environ)
    served = serve_quickly(case, tmp_path, environ)
    assert (said.status, served.status) == (0, 0), (said.text, served.text)
    assert not [
        line for line in messages(said, "warning") if case.place in line and case.verdict == "warning"
    ]


def test_messages_name_place_reason_and_cure(tmp_path: Path) -> None:
    lacking = []
    for index, case in enumerate(CORPUS):
        folder = tmp_path / str(index)
        folder.mkdir()
        said = check(case, folder, case.write(folder))
        if not named(case, said):
            lacking.append(f"{case.name}: {[*messages(said, case.verdict)]}")
    assert len(lacking) <= (1 - LEAST) * len(CORPUS), "\n".join(lacking)


def test_the_corpus_is_large_and_varied() -> None:
    assert len(CORPUS) >= 120
    assert len({case.name for case in CORPUS}) == len(CORPUS)
    assert max(Counter(case.kind for case in CORPUS).values()) <= 5
    assert all(case.says and case.cure and case.verdict in STATUS for case in CORPUS)
