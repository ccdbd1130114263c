"""A provider's statements about time."""

from __future__ import annotations

import pytest

from functions.bucket.store import Times, times_of


def test_the_date_of_an_answer_is_its_providers_clock() -> None:
    assert times_of(5.5, "Sun, 06 Nov 1994 08:49:37 GMT") == Times(5.5, 784_111_777.0)


@pytest.mark.parametrize("date", [None, "", "now", "Sun, 99 Nov 1994 08:49:37 GMT", "x" * 10_000])
def test_an_answer_that_does_not_say_is_no_witness(date: str | None) -> None:
    assert times_of(5.5, date) is None
