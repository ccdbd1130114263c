"""Replies with a filter's words are adapted to the command that they answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from listener.api.decision import Phase, Reply
from listener.flows.wording import Kind, authentication_required, reply_text, worded


@pytest.mark.parametrize(
    ("phase", "kind", "own", "sent"),
    [
        (Phase.CONNECT, "refuse", Reply(550, "5.7.1", "Go"), Reply(554, "5.7.1", "Go")),
        (Phase.CONNECT, "refuse", Reply(521, "5.3.2", "Go"), Reply(521, "5.3.2", "Go")),
        (Phase.CONNECT, "defer", Reply(450, "4.2.1", "Later"), Reply(421, "4.2.1", "Later")),
        (Phase.AUTH, "refuse", Reply(530, "", "No"), Reply(535, "5.7.8", "No")),
        (Phase.AUTH, "defer", Reply(451, "4.3.0", "Later"), Reply(454, "4.3.0", "Later")),
        (Phase.MAIL, "refuse", Reply(554, "5.7.1", "No"), Reply(550, "5.7.1", "No")),
        (Phase.RCPT, "refuse", Reply(551, "5.1.6", "Moved"), Reply(551, "5.1.6", "Moved")),
        (Phase.RCPT, "defer", Reply(421, "4.7.0", "Later"), Reply(451, "4.7.0", "Later")),
        (Phase.DATA, "refuse", Reply(554, "5.6.0", "No"), Reply(554, "5.6.0", "No")),
        (Phase.DATA, "refuse", Reply(250, "2.0.0", "Ok"), Reply(550, "5.7.1", "Ok")),
        (Phase.DATA, "defer", Reply(550, "5.0.0", "No"), Reply(451, "4.7.1", "No")),
        (
            Phase.DATA,
            "defer",
            Reply(452, "4.2.2", ""),
            Reply(452, "4.2.2", worded(Phase.DATA, "defer", None).text),
        ),
    ],
)
def test_codes_fit_the_phase(phase: Phase, kind: Kind, own: Reply, sent: Reply) -> None:
    assert worded(phase, kind, own) == sent


ENHANCED = st.text() | st.from_regex(r"[2-5]\.[0-9]{1,4}\.[0-9]{1,4}[\r\n x]?")
KINDS = st.sampled_from(("refuse", "defer"))


@given(st.sampled_from(list(Phase)), KINDS, st.integers(0, 999), ENHANCED, st.text())
def test_every_reply_is_one_harmless_line_of_the_right_class(
    phase: Phase, kind: Kind, code: int, enhanced: str, text: str
) -> None:
    reply = worded(phase, kind, Reply(code, enhanced, text))
    line = str(reply)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 510
    assert reply.code // 100 == (5 if kind == "refuse" else 4)
    assert reply.enhanced[0] == str(reply.code // 100)


def test_text_keeps_its_words() -> None:
    assert reply_text("  no\tfoo\r\nbär ") == "no foo  b?r"


def test_530_keeps_to_one_line_too() -> None:
    assert authentication_required("a\nb") == Reply(530, "5.7.0", "a b")
    assert authentication_required("") == Reply(530, "5.7.0", "Authentication required")
