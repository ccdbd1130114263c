"""http-filter at RCPT: the request, the meaning of its answer, and which answers are remembered."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import ValidationError

from listener.api.decision import ABSTAIN, ACCEPT, DEFER, REFUSE, Decision, Phase, Reply
from listener.api.session import Session, Transaction
from listener.filters.http.filter import HttpFilter
from listener.filters.http.recipients import MOST, SECONDS, RcptQuestion, RecentVerdicts
from listener.filters.registry import FILTERS
from tests.support.servers.endpoint import Asked, Endpoint, Says
from tests.unit.listener.filters.http.conftest import JSON, said, session, transaction

RCPT = ["rcpt"]
BOTH = ["rcpt", "data"]
BOB = "bob@example.com"


async def ask(
    one: HttpFilter, recipient: str = BOB, of: Session | None = None, mail: Transaction | None = None
) -> Decision:
    answer = one.on_rcpt(of or session(), mail or transaction(), recipient)
    return answer if isinstance(answer, Decision) else await answer


async def test_the_request_holds_the_envelope_alone(server: Endpoint, make: Any) -> None:
    await ask(await make(server.url, phases=RCPT))
    (asked,) = server.asked
    assert asked.headers["content-type"] == "application/json"
    assert json.loads(asked.body) == {
        "phase": "rcpt",
        "flow": "inbound",
        "listener": "smtp",
        "server": {"remoteAddress": "192.0.2.1", "username": "ann"},
        "envelope": {"from": "bounce@example.org", "to": [BOB]},
    }


async def test_a_client_that_is_not_logged_in_has_no_username(server: Endpoint, make: Any) -> None:
    await ask(await make(server.url, phases=RCPT), of=session(user=None))
    assert json.loads(server.asked[0].body)["server"] == {"remoteAddress": "192.0.2.1"}


async def test_it_is_signed_as_the_event_is(server: Endpoint, make: Any) -> None:
    await ask(await make(server.url, phases=RCPT, hmac={"secret": "s"}))
    assert len(server.asked[0].headers["x-smtp-relay"]) == 64


@pytest.mark.parametrize(
    ("phases", "asked_at", "accepted"),
    [
        (None, {Phase.DATA}, None),
        (RCPT, {Phase.RCPT}, ACCEPT),
        (BOTH, {Phase.RCPT, Phase.DATA}, ABSTAIN),
    ],
)
async def test_the_phases(
    server: Endpoint, make: Any, phases: list[str] | None, asked_at: set[Phase], accepted: Decision | None
) -> None:
    """With both, the mail itself is not accepted before it is seen."""
    one = await make(server.url, **({} if phases is None else {"phases": phases}))
    assert one.phases == asked_at
    if accepted is not None:
        assert await ask(one) == accepted


@pytest.mark.parametrize("phases", [[], ["mail"], "rcpt", None])
def test_phases_that_are_none(phases: object) -> None:
    with pytest.raises(ValidationError, match="phases"):
        FILTERS.parse({"type": "http-filter", "url": "http://x.example/", "phases": phases})


@pytest.mark.parametrize(
    ("says", "wanted", "remembered"),
    [
        (Says(204), ACCEPT, True),
        (Says(200, said(action="refuse", code=553, message="no"), JSON), None, True),
        (Says(200, said(recipients=["other@example.com"]), JSON), REFUSE, True),
        (Says(200, said(recipients=["BOB@example.com"], headers={"X-A": "b"}), JSON), ACCEPT, True),
        (Says(404), REFUSE, True),
        (Says(302, headers={"Location": "/"}), REFUSE, False),
        (Says(200, said(action="defer"), JSON), DEFER, False),
        (Says(403, said(action="defer"), JSON), DEFER, False),
        (Says(429), DEFER, False),
        (Says(503), DEFER, False),
        (Says(200, b"no json", JSON), DEFER, False),
        (Says(raw=b"nonsense\r\n\r\n"), DEFER, False),
    ],
)
async def test_only_verdicts_are_remembered(
    server: Endpoint, make: Any, says: Says, wanted: Decision | None, remembered: bool
) -> None:
    server.answer = says
    one = await make(server.url, phases=RCPT)
    first = await ask(one)
    assert first == (wanted or Decision("refuse", Reply(553, "5.7.1", "no")))
    count = len(server.asked)
    assert await ask(one) == first
    assert (len(server.asked) == count) is remembered


@pytest.mark.parametrize(
    ("of", "mail", "recipient"),
    [
        ({"listener": "other"}, {}, BOB),
        ({"ip": "192.0.2.2"}, {}, BOB),
        ({"user": "eve"}, {}, BOB),
        ({"user": None}, {}, BOB),
        ({}, {"reverse_path": ""}, BOB),
        ({}, {"reverse_path": "Bounce@example.org"}, BOB),
        ({}, {}, "Bob@example.com"),
    ],
)
async def test_another_question_is_asked(
    server: Endpoint, make: Any, of: dict[str, Any], mail: dict[str, Any], recipient: str
) -> None:
    def answer(asked: Asked) -> Says:
        return Says(204 if len(server.asked) == 1 else 404)

    server.answer = answer
    one = await make(server.url, phases=RCPT)
    assert await ask(one) == ACCEPT
    sent = transaction()
    for name, value in mail.items():
        setattr(sent, name, value)
    assert await ask(one, recipient, session(**of), sent) == REFUSE
    assert await ask(one) == ACCEPT


async def test_a_reload_forgets_even_what_is_under_way(server: Endpoint, make: Any) -> None:
    one = await make(server.url, phases=RCPT)
    waiting = asyncio.ensure_future(ask(one))
    await asyncio.sleep(0)
    one.forget()
    assert await waiting == ACCEPT
    server.answer = Says(404)
    assert await ask(one) == REFUSE
    one.forget()
    server.answer = Says(204)
    assert await ask(one) == ACCEPT


def question(number: int) -> RcptQuestion:
    return RcptQuestion("smtp", "192.0.2.1", None, "", f"{number}@example.com")


def test_verdicts_grow_old() -> None:
    now = [100.0]
    recent = RecentVerdicts(lambda: now[0])
    recent.put(question(1), ACCEPT)
    now[0] += SECONDS - 0.001
    assert recent.get(question(1)) == ACCEPT
    now[0] += 0.001
    assert recent.get(question(1)) is None


def test_their_number_is_bounded_and_the_used_ones_stay() -> None:
    recent = RecentVerdicts()
    for number in range(MOST):
        recent.put(question(number), ACCEPT)
    assert recent.get(question(0)) == ACCEPT
    for number in range(MOST, MOST + 10):
        recent.put(question(number), REFUSE)
    assert len(recent._known) == MOST
    assert recent.get(question(0)) == ACCEPT
    assert [recent.get(question(number)) for number in range(1, 12)] == [None] * 10 + [ACCEPT]


@pytest.mark.parametrize(
    ("recipients", "wanted", "in_event"),
    [
        ((BOB, "eve@example.com"), Decision("accept", recipients=frozenset({BOB})), [BOB]),
        ((BOB, "ann@example.com"), ACCEPT, [BOB, "ann@example.com"]),
        (("eve@example.com",), REFUSE, None),
        ((BOB, "eve@example.com", "busy@example.com"), DEFER, None),
    ],
)
async def test_the_mail_is_asked_about_for_the_known_recipients_alone(
    server: Endpoint,
    make: Any,
    take: Any,
    recipients: tuple[str, ...],
    wanted: Decision,
    in_event: list[str] | None,
) -> None:
    """An OR flow offers those that were refused at RCPT again."""
    events: list[Any] = []

    def answer(asked: Asked) -> Says:
        body = json.loads(asked.body)
        if "phase" not in body:
            events.append(body["data"]["envelope"]["to"])
            return Says(204)
        name = body["envelope"]["to"][0].partition("@")[0]
        return Says({"eve": 404, "busy": 503}.get(name, 204))

    server.answer = answer
    one = await make(server.url, phases=BOTH)
    for recipient in recipients:
        await ask(one, recipient)
    mail = take(b"Subject: x\r\n\r\n")
    assert await one.on_data(session(), transaction(), mail, recipients) == wanted
    assert events == ([] if in_event is None else [in_event])
