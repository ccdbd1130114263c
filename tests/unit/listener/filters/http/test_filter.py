from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import threading
import time
from typing import Any

import pytest
from cloudevents.http import from_json
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from functions.ids import uuid7
from functions.message.mail import Mail
from functions.message.mime import Limits, Parts, read_parts
from listener.api.decision import ACCEPT, Decision, Phase, Reply
from listener.api.filter import Filter
from listener.api.session import Credentials, Session, Transaction
from listener.filters.http.answer import decide
from listener.filters.http.client import Unanswered
from listener.filters.http.filter import MAX_EVENT, READERS, HttpFilter
from listener.filters.registry import FILTERS
from listener.flows.flow import Flow, Flows
from listener.intake.capture import Capture
from tests.support.mails.event_schema import mistakes
from tests.support.net import free_port
from tests.support.servers.endpoint import Endpoint, Says
from tests.unit.listener.filters.http.conftest import BOTH, JSON, said, session, transaction

MAIL = b"From: Ann <ann@example.org>\r\nSubject: hello\r\n\r\nbody\r\n"


async def ask(one: HttpFilter, mail: Capture, recipients: tuple[str, ...] = BOTH) -> Decision:
    return await one.on_data(session(), transaction(), mail, recipients)


# -- requests -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "elsewhere"), [(1_000, False), (40_000, True)])
async def test_large_mails_do_not_hold_the_event_loop(
    server: Endpoint, make: Any, take: Any, monkeypatch: pytest.MonkeyPatch, size: int, elsewhere: bool
) -> None:
    """A quarter of a megabyte of tags takes a fifth of a second to read."""
    readers: list[int] = []

    def read(mail: Mail, flow: str, limits: Limits) -> Parts:
        readers.append(threading.get_ident())
        return read_parts(mail, flow, limits)

    monkeypatch.setattr("listener.filters.http.filter.read_parts", read)
    one = await make(server.url)
    mail = take(b"Content-Type: text/html\r\n\r\n" + b"<b>" * (size // 3))
    assert await ask(one, mail) == ACCEPT
    assert [reader != threading.get_ident() for reader in readers] == [elsewhere]


async def test_the_event_keeps_the_schema(server: Endpoint, make: Any, take: Any) -> None:
    one = await make(server.url)
    await one.on_data(session(), transaction(), take(MAIL), ("bob@example.com",))
    assert mistakes([json.loads(asked.body) for asked in server.asked]) == [""]


async def test_the_event_names_no_recipient_that_the_flow_is_not_asked_about(
    server: Endpoint, make: Any, take: Any
) -> None:
    mail = b"Bcc: EVE@example.com\r\nDelivered-To: eve@example.com\r\n" + MAIL
    one = await make(server.url)
    await one.on_data(session(), transaction(), take(mail), ("bob@example.com",))
    (asked,) = server.asked
    assert b"eve@" not in asked.body.lower()


async def test_a_reader_whose_time_is_over_keeps_its_place_until_it_ends(
    server: Endpoint, make: Any, take: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else strangers could start any number of threads, one mail after another."""
    goes_on = threading.Event()
    running: list[int] = []

    def read(mail: Mail, flow: str, limits: Limits) -> Parts:
        running.append(1)
        assert goes_on.wait(30)
        return read_parts(mail, flow, limits)

    monkeypatch.setattr("listener.filters.http.filter.read_parts", read)
    one = await make(server.url)
    mail = take(b"Content-Type: text/html\r\n\r\n" + b"<b>" * 40_000)
    try:
        for _ in range(READERS + 3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await ask(one, mail)
        assert len(running) == READERS
    finally:
        goes_on.set()
    assert await ask(one, mail) == ACCEPT


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_the_event(server: Endpoint, make: Any, take: Any, method: str) -> None:
    mail = transaction()
    one = await make(server.url, method=method)
    assert await one.on_data(session(), mail, take(MAIL), ("bob@example.com",)) == ACCEPT
    (asked,) = server.asked
    assert (asked.method, asked.path) == (method, "/ask?key=k")
    assert asked.headers["content-type"] == "application/json"
    event = from_json(asked.body)
    assert event["type"] == "com.loopingz.smtp-relay.v2"
    assert event["id"] == mail.id
    assert event.data["email"]["subject"] == "hello"
    assert event.data["email"]["text"] == "body\n"
    assert [box["address"] for box in event.data["email"]["to"][0]["value"]] == ["bob@example.com"]
    assert event.data["flow"] == "inbound"
    assert event.data["size"] == len(MAIL)
    assert event.data["envelope"] == {
        "from": "bounce@example.org",
        "to": ["bob@example.com"],
        "parameters": [],
    }
    assert [each["name"] for each in event.data["email"]["headers"]] == ["From", "Subject"]
    assert "storage" not in event.data
    assert event.data["server"] == {
        "clientHostname": "mail.example.org",
        "remoteAddress": "192.0.2.1",
        "remotePort": 4000,
        "hostNameAppearAs": "client.example",
        "id": "c0ffee",
        "secure": True,
        "transmissionType": "ESMTPSA",
        "username": "ann",
    }
    assert "storage" not in event.data


async def test_a_large_mail_is_read_from_its_file_and_its_event_cut(
    server: Endpoint, make: Any, take: Any
) -> None:
    content = MAIL + b"line of a long mail\r\n" * 150_000
    assert await ask(await make(server.url), take(content)) == ACCEPT
    (asked,) = server.asked
    assert MAX_EVENT - 16 <= len(asked.body) <= MAX_EVENT
    assert json.loads(asked.body)["data"]["email"]["text"].startswith("body\nline of")


async def test_broken_mails_are_asked_about_too(server: Endpoint, make: Any, take: Any) -> None:
    one = await make(server.url)
    for content in (b"", b"\r\n", b"no header", b"Content-Type: multipart/mixed; boundary=\r\n\r\n\xff\x00"):
        assert await ask(one, take(content)) == ACCEPT
    assert len(server.asked) == 4


async def test_signed(server: Endpoint, make: Any, take: Any) -> None:
    await ask(await make(server.url, hmac={"secret": "s"}), take(MAIL))
    (asked,) = server.asked
    text = f"{server.url}\nPOST\n{asked.headers['x-smtp-relay-time']}\n".encode() + asked.body
    assert asked.headers["x-smtp-relay"] == hmac.new(b"s", text, hashlib.sha256).hexdigest()


# -- the meaning of answers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "wanted"),
    [(200, "accept"), (202, "accept"), (204, "accept")]
    + [(status, "refuse") for status in (301, 302, 304, 400, 403, 404, 413)]
    + [(status, "defer") for status in (408, 425, 429, 500, 502, 503)],
)
async def test_statuses(server: Endpoint, make: Any, take: Any, status: int, wanted: str) -> None:
    server.answer = Says(status, headers={"Location": server.url + "&followed"})
    assert await ask(await make(server.url), take(MAIL)) == Decision(wanted)  # type: ignore[arg-type]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "body", "headers", "wanted"),
    [
        (200, b"OK", {}, ACCEPT),
        (200, b"OK", {"Content-Type": "text/plain"}, ACCEPT),
        (200, said(action="refuse"), {"Content-Type": "text/plain"}, ACCEPT),
        (200, said(action="refuse"), JSON, Decision("refuse")),
        (200, said(action="refuse"), {"Content-Type": "application/problem+json"}, Decision("refuse")),
        (200, said(action="defer"), JSON, Decision("defer")),
        (200, b"OK", JSON, Decision("defer")),
        (200, b"", JSON, ACCEPT),
        (200, b"true", JSON, ACCEPT),
        (200, said(status="fine"), JSON, ACCEPT),
        (200, said(action="drop"), JSON, Decision("defer")),
        (200, said(action=["accept"]), JSON, Decision("defer")),
        (403, said(action="accept"), JSON, Decision("refuse")),
        (403, said(action="defer"), JSON, Decision("defer")),
        (403, said(message="No"), JSON, Decision("refuse", Reply(550, "5.7.1", "No"))),
        (403, b"{", JSON, Decision("refuse")),
        (302, said(action="defer"), JSON, Decision("refuse")),
        (503, said(action="accept"), JSON, Decision("defer")),
        (503, said(action="refuse"), JSON, Decision("defer")),
    ],
)
async def test_answers_over_the_wire(
    server: Endpoint, make: Any, take: Any, status: int, body: bytes, headers: Any, wanted: Decision
) -> None:
    server.answer = Says(status, body, headers)
    assert await ask(await make(server.url), take(MAIL)) == wanted


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"code": 553, "message": "5.1.8 No such sender"}, Reply(553, "5.1.8", "No such sender")),
        ({"code": "554", "message": "Spam"}, Reply(554, "5.7.1", "Spam")),
        ({"code": 451, "message": "4.7.1 Later"}, Reply(550, "5.7.1", "Later")),
        ({"code": 250}, Reply(550, "5.7.1", "Message refused")),
        ({"code": 421}, Reply(550, "5.7.1", "Message refused")),
        ({"code": 521}, Reply(550, "5.7.1", "Message refused")),
        ({"code": 530}, Reply(550, "5.7.1", "Message refused")),
        ({"code": 599}, Reply(550, "5.7.1", "Message refused")),
        ({"code": 5.5e2}, Reply(550, "5.7.1", "Message refused")),
        ({"code": True, "message": 7}, Reply(550, "5.7.1", "Message refused")),
        ({"code": None}, None),
        ({"message": "two\r\n250 lines"}, Reply(550, "5.7.1", "two 250 lines")),
        ({"message": "\x00\x1b[31mgrün\u2028"}, Reply(550, "5.7.1", "[31mgr n")),
        ({"message": "5.7.26"}, Reply(550, "5.7.26", "Message refused")),
        ({"message": "x" * 1000}, Reply(550, "5.7.1", "x" * 400)),
    ],
)
def test_wording_a_refusal(answer: dict[str, Any], wanted: Reply | None) -> None:
    assert decide({"action": "refuse", **answer}, "accept", BOTH) == Decision("refuse", wanted)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({"code": 450, "message": "4.2.1 Busy"}, Reply(450, "4.2.1", "Busy")),
        ({"code": 550}, Reply(451, "4.7.1", "Try again later")),
        ({"code": 421, "message": "5.7.1 x"}, Reply(451, "4.7.1", "x")),
    ],
)
def test_wording_a_deferral(answer: dict[str, Any], wanted: Reply) -> None:
    assert decide({"action": "defer", **answer}, "accept", BOTH) == Decision("defer", wanted)


def test_headers() -> None:
    answer = {"headers": {"X-Spam": "no", "X-Score": 1.5, "X-Tag": ["a", "b"], "X-Name": "Grüße"}}
    decision = decide(answer, "accept", BOTH)
    assert decision.headers == (
        ("X-Spam", "no"),
        ("X-Score", "1.5"),
        ("X-Tag", "a"),
        ("X-Tag", "b"),
        ("X-Name", "=?utf-8?b?R3LDvMOfZQ==?="),
    )
    assert decision.verdict == "accept"
    assert decision.recipients is None


@pytest.mark.parametrize(
    "headers",
    [
        ["X: y"],
        "X: y",
        {"X": "a\r\nBcc: all@example.com"},
        {"X": "a\nb"},
        {"X": "a\rb"},
        {"X": "a\x00b"},
        {"X": "\ud800"},
        {"X\r\nY": "a"},
        {"X:": "a"},
        {"X Y": "a"},
        {"": "a"},
        {"Ünicode": "a"},
        {"X": None},
        {"X": True},
        {"X": {"y": "z"}},
        {"X": ["a", ["b"]]},
        {"X": "y" * 1000},
        {"X": "ü" * 500},
        {"X": ["y"] * 101},
        {"X-SMTP-Relay-Envelope": "eyJ9"},
    ],
    ids=lambda headers: repr(headers)[:40],
)
def test_headers_that_could_break_a_mail_make_the_answer_unusable(headers: Any) -> None:
    with pytest.raises(Unanswered):
        decide({"action": "accept", "headers": headers}, "accept", BOTH)


def test_recipients_can_only_be_left_out() -> None:
    def kept(given: Any) -> frozenset[str] | None:
        decision = decide({"recipients": given}, "accept", BOTH)
        assert decision.verdict == "accept"
        return decision.recipients

    assert kept(["bob@example.com"]) == {"bob@example.com"}
    assert kept(["BOB@example.com", "eve@example.com", "mallory@example.com"]) == set(BOTH)
    assert kept(None) is None
    for nobody in ([], ["mallory@example.com"]):
        assert decide({"recipients": nobody}, "accept", BOTH).verdict == "refuse"
    for broken in ("bob@example.com", {"bob@example.com": True}, [1]):
        with pytest.raises(Unanswered):
            kept(broken)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("given_back", "recipient", "stays"),
    [
        ("Bob@Server.example", "bob@server.example", True),
        ("kim@server.example", "\u212aim@server.example", False),
        ("strasse@server.example", "straße@server.example", False),
        ("STRAßE@server.example", "straße@server.example", True),
        ("bob@xn--mnchen-3ya.example", "bob@münchen.example", True),
        ("bob@MÜNCHEN.example", "bob@xn--mnchen-3ya.example", True),
        ("bob@fass.example", "bob@faß.example", False),
        ("bob@💩.example", "bob@💩.example", True),
        ("bob@xn--ls8h.example", "bob@💩.example", False),
    ],
)
def test_recipients_are_compared_as_addresses(given_back: str, recipient: str, stays: bool) -> None:
    decision = decide({"recipients": [given_back, BOTH[0]]}, "accept", (BOTH[0], recipient))
    assert decision.recipients == ({BOTH[0], recipient} if stays else {BOTH[0]})


keys = st.sampled_from(["action", "code", "message", "headers", "recipients", "other"])
answers = st.dictionaries(keys, st.sampled_from(["accept", "refuse", "defer", 550, 451]) | json_values)


@given(answers, st.sampled_from(["accept", "refuse"]))
def test_any_answer_gives_a_safe_decision(answer: dict[str, Any], status: Any) -> None:
    try:
        decision = decide(answer, status, BOTH)
    except Unanswered:
        return
    assert status == "accept" or decision.verdict != "accept"
    if decision.reply is not None:
        code, enhanced, text = decision.reply
        first = {"refuse": 5, "defer": 4}[decision.verdict]
        assert code // 100 == int(enhanced[0]) == first
        assert code not in (421, 521)
        assert text
        assert all(" " <= character <= "~" for character in text)
    for name, value in decision.headers:
        assert name.isascii()
        assert value.isascii()
        assert not set(name + value) & set("\r\n\0")
    assert decision.recipients is None or decision.recipients <= set(BOTH)


# -- time and trouble ----------------------------------------------------------------------------


def connection(*filters: Filter, timeout: float = 20, **options: Any) -> Any:
    flows = Flows([Flow("in", filters, **options)], auth_optional=True, filter_timeout=timeout)
    return flows.connection(session(user=None))


async def settled(answer: Any) -> Any:
    return await answer if asyncio.iscoroutine(answer) else answer


async def deliver(state: Any, mail: Capture) -> int | None:
    """The code that the client gets for a whole mail; None for 250."""
    one = Transaction(uuid7(), "bounce@example.org")
    for reply in (await settled(state.mail(one)), await settled(state.rcpt(one, BOTH[0]))):
        if reply is not None:
            return int(reply.code)
    one.recipients.append(BOTH[0])
    reply = (await settled(state.data(one, mail))).reply
    return None if reply is None else int(reply.code)


async def test_trouble_defers_and_the_filter_lives_on(server: Endpoint, make: Any, take: Any) -> None:
    one, mail = await make(server.url), take(MAIL)
    hang = threading.Event()
    troubles = [
        Says(hang=hang),
        Says(200, b'{"action": "accept"}' + b" " * 500, JSON, pace=threading.Event()),
        Says(200, b'{"action": "accept"}' + b" " * 2_000_000, JSON),
        Says(raw=b""),
        Says(raw=b"no http\r\n\r\n"),
        Says(500),
    ]
    for trouble in troubles:
        server.answer = trouble
        start = time.monotonic()
        assert await deliver(connection(one, timeout=0.5), mail) == 451
        assert time.monotonic() - start < 5
        server.answer = Says(200, b'{"action": "accept"}', JSON)
        assert await deliver(connection(one), mail) is None
    hang.set()
    nobody = await make(f"http://127.0.0.1:{free_port()}/")
    assert await deliver(connection(nobody), mail) == 451


async def test_who_asks_while_the_server_stops_is_deferred_without_a_fault(
    server: Endpoint, make: Any, take: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The connection of a request is closed, and the repeated request finds none."""
    one, mail = await make(server.url), take(MAIL)
    hang = threading.Event()
    server.answer = Says(hang=hang)
    asking = asyncio.ensure_future(deliver(connection(one), mail))
    async with asyncio.timeout(5):
        while not server.asked:
            await asyncio.sleep(0.01)
    await one.stop()
    hang.set()
    assert await asking == 451
    assert [record.levelname for record in caplog.records if record.name == "smtp_relay.filters"] == [
        "WARNING"
    ]


async def test_refused_recipients_through_a_flow(server: Endpoint, make: Any, take: Any) -> None:
    server.answer = Says(200, said(action="accept", recipients=[BOTH[1]], headers={"X-A": "b"}), JSON)
    state = connection(await make(server.url))
    one = Transaction(uuid7(), "", recipients=list(BOTH))
    await settled(state.mail(one))
    for address in BOTH:
        await settled(state.rcpt(one, address))
    outcome = await settled(state.data(one, take(MAIL)))
    assert outcome.recipients[1] == (BOTH[1], ("in",))
    assert outcome.recipients[0][1].code == 550
    assert outcome.notes["in"].headers == (("X-A", "b"),)


# -- allowAnyUser --------------------------------------------------------------------------------


class Refusing(Filter):
    """Knows no user."""

    phases = frozenset({Phase.AUTH})
    checks_credentials = True

    def on_auth(self, session: Session, credentials: Credentials) -> Decision:
        return Decision("refuse")


async def test_any_user_may_authenticate_and_the_endpoint_decides(
    server: Endpoint, make: Any, take: Any
) -> None:
    one = await make(server.url, allowAnyUser=True)
    plain = await make(server.url)
    stranger = Credentials("PLAIN", "stranger", "whatever")
    for operator in ("AND", "OR"):
        flows = Flows(
            [Flow("in", (one,), operator), Flow("other", (Refusing("r"),))],  # type: ignore[arg-type]
            auth_optional=False,
        )
        client = session(user=None)
        state = flows.connection(client)
        assert await settled(state.auth(stranger)) is None
        assert client.user == "stranger"
        server.answer = Says(403)
        assert await deliver(state, take(MAIL)) == 550, "being let in to AUTH takes no mail"
        server.answer = Says()
        assert await deliver(state, take(MAIL)) is None
        assert json.loads(server.asked[-1].body)["data"]["server"]["username"] == "stranger"
    strict = Flows([Flow("in", (plain,)), Flow("other", (Refusing("r"),))], auth_optional=False)
    assert (await settled(strict.connection(session(user=None)).auth(stranger))).code == 535


# -- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "mailto:x"},
        {"url": "http://x/", "method": "GET"},
        {"url": "http://x/", "allowAnyUsers": True},
        {"url": "http://x/", "hmac": {}},
    ],
    ids=str,
)
def test_mistakes_in_options(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FILTERS.parse({"type": "http-filter", **options})
