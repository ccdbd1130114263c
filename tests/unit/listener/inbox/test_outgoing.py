"""Mails from JSON: whatever they hold, they are composed in bounded time or refused with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from listener.inbox.outgoing import composed

MAIL: dict[str, Any] = {"From": {"Email": "a@h.example"}, "To": [{"Email": "b@h.example"}], "Text": "x"}


@pytest.mark.parametrize("field", ["Message-ID", "Resent-To", "Sender"])
@pytest.mark.parametrize("text", ["<", "<a@", "(" * 5_000])
def test_a_field_that_has_no_meaning_is_refused(field: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"Headers.{field}: .* is no value of that field"):
        composed({**MAIL, "Headers": {field: text}})


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"From": {"Email": "a@h.example", "Name": "é" * 257}}, "From"),
        ({"To": [{"Email": "a" * 300 + "@h.example"}]}, "To"),
        ({"Attachments": [{"Filename": "é" * 257, "Content": ""}]}, "Attachments"),
        ({"Subject": "é" * 8_193}, "Subject"),
        ({"Headers": {"X-A": "é" * 8_193}}, "Headers.X-A"),
    ],
)
def test_what_takes_long_to_encode_is_refused(asked: dict[str, Any], where: str) -> None:
    with pytest.raises(ValueError, match=f"{where}.* is longer than [0-9]+ characters"):
        composed({**MAIL, **asked})


def test_a_long_name_and_a_long_subject_are_sent() -> None:
    sender = {"Email": "a@h.example", "Name": "é" * 256}
    assert b"=?utf-8?" in composed({**MAIL, "From": sender, "Subject": "é" * 1_000})[2]
