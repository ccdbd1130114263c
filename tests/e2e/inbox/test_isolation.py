"""A login sees its own inbox alone: whatever another inbox holds, every reply is the same to the byte.

The same requests go to two servers. Only the second one has mails in the other inbox, with a canary in each
of their fields. A route of the application without a case here fails the test.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest
from starlette.routing import Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from listener.inbox.entry import id_of
from listener.inbox.web.app import _routes
from listener.inbox.web.page.replies import PageReplies
from tests.support.inbox.client import PATIENCE, address_of, with_inbox
from tests.support.inbox.mails import MOMENT, block, mail, store
from tests.support.net import wait_until
from tests.support.servers.relay import Relay, flow

CANARY: Final = "canary7f3a"
OTHER: Final = f"other-{CANARY}"
MINE: Final = "mine"
ANN: Final = ("ann", "first")
BOB: Final = ("bob", "second")
RIGHTS: Final = ["release", "send", "chaos", "respond", "retry", "delete"]
USERS: Final = {
    "ann": {"password": "plain:first", "token": "plain:token", "inboxes": [MINE], "rights": RIGHTS},
    "bob": {"password": "plain:second", "inboxes": [OTHER], "rights": RIGHTS},
}

MAIL: Final = {name: f"0199c3a0-0000-7000-8000-00000000000{number}" for number, name in enumerate("abcdefg")}
"""Ids of mails: `a` to `c` are ann's."""


def id_in(inbox: str, name: str) -> str:
    return id_of(inbox, Path(f"{name}.eml"), MAIL[name])


A, B = id_in(MINE, "a"), id_in(OTHER, "d")

JSON = dict[str, Any]
Case = tuple[str, JSON | None]
MAIL_PATH: Final = "/api/v1/message/{id}"
IDS: Final = (A, B, MAIL["d"], MAIL["a"], "latest", "nothing")


def of_mail(rest: str = "", body: JSON | None = None) -> list[Case]:
    return [(f"/api/v1/message/{each}{rest}", body) for each in IDS]


def searched(path: str, name: str = "query") -> list[Case]:
    words = (CANARY, f"from:{CANARY}", f"tag:{CANARY}", "mail", "is:read", "!mail", "")
    return [(f"{path}?{name}={word}", None) for word in words]


CASES: Final[dict[tuple[str, str], list[Case]]] = {
    ("GET", "/livez"): [("/livez", None)],
    ("GET", "/readyz"): [("/readyz", None)],
    ("GET", "/api/v1/messages"): [("/api/v1/messages", None), ("/api/v1/messages?limit=0&start=1", None)],
    ("GET", "/api/v1/search"): searched("/api/v1/search"),
    ("GET", MAIL_PATH): [*of_mail(), (f"/api/v1/message/latest?query={CANARY}", None)],
    **{
        ("GET", f"{MAIL_PATH}{rest}"): of_mail(rest)
        for rest in (
            *("/headers", "/raw", "/links", "/codes", "/deliveries", "/about"),
            *("/html-check", "/link-check", "/sa-check"),
        )
    },
    ("GET", f"{MAIL_PATH}/part/{{part}}"): [*of_mail("/part/1"), *of_mail("/part/2")],
    ("GET", f"{MAIL_PATH}/part/{{part}}/thumb"): of_mail("/part/2/thumb"),
    ("POST", f"{MAIL_PATH}/release"): of_mail("/release", {"To": ["x@h.example"]}),
    ("POST", f"{MAIL_PATH}/retry"): of_mail("/retry"),
    ("GET", "/api/v1/highlights"): [(f"/api/v1/highlights?ids={','.join(IDS)}", None)],
    ("POST", "/api/v1/send"): [("/api/v1/send", {})],
    ("GET", "/api/v1/respond"): [("/api/v1/respond", None)],
    ("PUT", "/api/v1/respond"): [("/api/v1/respond", {"rules": []})],
    ("GET", "/api/v1/chaos"): [("/api/v1/chaos", None)],
    ("PUT", "/api/v1/chaos"): [("/api/v1/chaos", {})],
    ("GET", "/api/v1/info"): [("/api/v1/info", None)],
    ("GET", "/api/v1/webui"): [("/api/v1/webui", None)],
    ("GET", "/api/v1/inboxes"): [("/api/v1/inboxes", None)],
    ("GET", "/api/v1/wait"): [
        *((f"{path}&timeout=0.05", body) for path, body in searched("/api/v1/wait")),
        ("/api/v1/wait?query=mail&since=9999999999999&timeout=0.05", None),
    ],
    ("GET", "/api/v2/messages"): [("/api/v2/messages", None)],
    ("GET", "/api/v2/search"): searched("/api/v2/search?kind=containing", "&query"),
    ("GET", "/view/latest"): [("/view/latest", None), *searched("/view/latest")],
    ("GET", "/view/{id}.html"): [(f"/view/{each}.html", None) for each in IDS],
    ("GET", "/view/{id}.txt"): [(f"/view/{each}.txt", None) for each in IDS],
    ("GET", "/view/{id}"): [(f"/view/{each}", None) for each in IDS],
    ("GET", "/"): [("/", None)],
    ("GET", "/search"): [("/search?q=mail", None)],
    ("OPTIONS", "/api/v1/{rest:path}"): [("/api/v1/messages", None)],
    ("GET", "/api/v1/tags"): [("/api/v1/tags", None)],
    ("PUT", "/api/v1/tags"): [("/api/v1/tags", {"IDs": [B, A], "Tags": ["red", "same"]})],
    ("PUT", "/api/v1/tags/{tag:path}"): [
        (f"/api/v1/tags/{CANARY}", {"Name": "stolen"}),
        ("/api/v1/tags/same", {"Name": "new"}),
    ],
    ("DELETE", "/api/v1/tags/{tag:path}"): [
        (f"/api/v1/tags/{CANARY}", None),
        ("/api/v1/tags/new", None),
    ],
    ("PUT", "/api/v1/messages"): [
        ("/api/v1/messages", {"IDs": [B], "Read": True}),
        ("/api/v1/messages", {"Search": CANARY, "Read": True}),
        ("/api/v1/messages", {"Read": True}),
    ],
    ("DELETE", "/api/v1/messages/{id}"): [(f"/api/v1/messages/{each}", None) for each in (B, MAIL["d"], A)],
    ("DELETE", "/api/v1/search"): searched("/api/v1/search")[:3],
    ("DELETE", "/api/v1/messages"): [
        ("/api/v1/messages", {"IDs": [B]}),
        ("/api/v1/messages", {}),
    ],
}
"""The requests to each route, in the order in which they are sent: what deletes comes last."""

WATCHED: Final = {("GET", "/api/v1/stream"), ("WEBSOCKET", "/api/events")}
"""Routes that `watched` asks."""


def routes() -> set[tuple[str, str]]:
    """The methods and paths of the application."""
    found: set[tuple[str, str]] = set()
    for route in _routes(PageReplies()):
        if isinstance(route, WebSocketRoute):
            found.add(("WEBSOCKET", route.path))
        else:
            assert isinstance(route, Route)
            found |= {(method, route.path) for method in (route.methods or set()) - {"HEAD"}}
    return found


def test_every_route_has_a_case() -> None:
    assert routes() == CASES.keys() | WATCHED


class World(NamedTuple):
    """A server, and the client of ann."""

    relay: Relay
    client: httpx.Client
    has_others: bool

    def put(self, inbox: str, name: str, *, canary: str = "", at: int = 0) -> None:
        """Place a mail, which has the canary in each field."""
        made = mail(
            f"mail {name} {canary}",
            f"text {canary} https://h.example/{canary} code 47{len(canary)}1",
            From=f"{canary} <from{canary}@h.example>",
            To=f"{canary} <to{canary}+{canary or 'tag'}@h.example>",
            Cc=f"cc{canary}@h.example",
            Reply_To=f"reply{canary}@h.example",
            Message_ID=f"<{name}{canary}@h.example>",
            X_Tags=f"same, {canary or 'blue'}",
            X_Other=canary,
        )
        made.add_alternative(f'<p>{canary}<a href="https://x.example/{canary}">x</a></p>', subtype="html")
        made.add_attachment(f"file {canary}", filename=f"{canary}file.txt")
        for number, part in enumerate(made.walk()):
            if part.is_multipart():
                part.set_boundary(f"{number}=boundary")
        top = block(
            f"rcpt{canary}@h.example",
            sender=f"env{canary}@h.example",
            user=canary,
            mail_id=MAIL[name],
            ms=MOMENT + at,
        )
        store(self.relay.received / inbox, f"{name}.eml", made, top)

    def subjects(self, login: tuple[str, str]) -> list[str]:
        page = httpx.get(f"{address_of(self.relay)}/api/v1/messages", auth=login, timeout=PATIENCE).json()
        return sorted(one["Subject"].split()[1] for one in page["messages"])

    def wait_for(self, login: tuple[str, str], *names: str) -> None:
        wait_until(
            lambda: self.subjects(login) == sorted(names),
            seconds=PATIENCE,
            what=f"mails {names} of {login[0]}",
        )


@pytest.fixture
def worlds(new_relay: Callable[..., Relay], tmp_path: Path) -> Iterator[tuple[World, World]]:
    """Two servers; only the second one has mails in the other inbox."""
    made = []
    for has_others in (False, True):
        flows = {name: flow(filename="${id}.eml", addRawHeaders=True) for name in (MINE, OTHER)}
        for name, one in flows.items():
            one["outputs"][0]["path"] = f"{{received}}/{name}"
        relay = new_relay(with_inbox({"users": USERS}, **flows)).start()
        client = httpx.Client(base_url=address_of(relay), auth=ANN, timeout=PATIENCE)
        world = World(relay, client, has_others)
        for number, name in enumerate("abc"):
            world.put(MINE, name, at=number * 2_000)
        world.wait_for(ANN, "a", "b", "c")
        if has_others:
            for number, name in enumerate("def"):
                world.put(OTHER, name, canary=CANARY, at=number * 2_000 + 1_000)
            world.wait_for(BOB, "d", "e", "f")
        made.append(world)
    yield made[0], made[1]
    for world in made:
        world.client.close()


def reply_to(world: World, method: str, path: str, body: JSON | None) -> tuple[int, dict[str, str], bytes]:
    reply = world.client.request(method, path, **({} if body is None else {"json": body}))
    fields = {name: value for name, value in reply.headers.items() if name not in ("date", "set-cookie")}
    content = reply.content
    if path.endswith("/info") and reply.status_code == 200:
        found = reply.json()
        assert 0 <= found["RuntimeStats"].pop("Uptime") < 3_600
        content = json.dumps(found).encode()
        del fields["content-length"]
    return reply.status_code, fields, content


def differences(first: World, second: World) -> list[str]:
    """The requests whose replies differ, or hold what the request did not."""
    found = []
    for (method, _), cases in CASES.items():
        for prefix in (f"/inbox/{MINE}", f"/inbox/{OTHER}", "/inbox/nothing", ""):
            for path, body in cases:
                one, two = (reply_to(each, method, f"{prefix}{path}", body) for each in (first, second))
                asked = f"{method} {prefix}{path} {body}"
                if one != two or (CANARY not in asked and CANARY in str(two).lower()):
                    found.append(f"{asked}: {one} {two}"[:1_000])
    return found


def test_no_reply_holds_or_depends_on_what_another_inbox_has(worlds: tuple[World, World]) -> None:
    first, second = worlds
    kept = sorted((second.relay.received / OTHER).iterdir())
    before = httpx.get(f"{address_of(second.relay)}/api/v1/messages", auth=BOB).json()
    assert CANARY in str(before)
    assert differences(first, second) == []
    # All of ann's requests changed her inbox alone.
    assert list((second.relay.received / MINE).iterdir()) == []
    assert sorted((second.relay.received / OTHER).iterdir()) == kept
    assert httpx.get(f"{address_of(second.relay)}/api/v1/messages", auth=BOB).json() == before


def test_the_comparison_notices_what_another_login_sees(worlds: tuple[World, World]) -> None:
    first, second = worlds
    for world in worlds:
        world.client.auth = httpx.BasicAuth(*BOB)
        world.client.cookies.clear()
    found = " ".join(differences(first, second))
    for path in ("/api/v1/messages ", "/api/v1/tags ", "/api/v1/info ", "/api/v1/inboxes ", "/view/latest "):
        assert f"GET {path}" in found


def watched(world: World) -> tuple[list[str], list[str]]:
    """What ann's WebSocket and stream tell while bob's inbox changes, up to a mail of her own."""
    base = address_of(world.relay)
    head = {"Authorization": "Bearer token"}
    told: list[str] = []
    lines: list[str] = []
    stream = httpx.Client(base_url=base, headers=head, timeout=PATIENCE)
    with (
        connect(f"{base.replace('http:', 'ws:')}/api/events", additional_headers=head) as socket,
        stream.stream("GET", "/api/v1/stream") as reply,
    ):
        coming = reply.iter_lines()
        lines.append(next(coming))
        told.append(str(socket.recv(timeout=PATIENCE)))
        if world.has_others:
            changed(world)
        world.put(MINE, "g", at=9_000)
        while '"new"' not in told[-1]:
            told.append(str(socket.recv(timeout=PATIENCE)))
        told.append(str(socket.recv(timeout=PATIENCE)))  # the totals
        while not lines[-1].startswith("event: stats"):
            lines.append(next(coming))
        lines.append(next(coming))
    stream.close()
    # An id begins with that of the process.
    ids = re.compile(r"^id: .*-")
    return told, [ids.sub("id: ", line) for line in lines if not line.startswith(":")]


def changed(world: World) -> None:
    """Bob's inbox changes in every way: mails come, are read, get tags, and go."""
    base = f"{address_of(world.relay)}/api/v1"
    with httpx.Client(auth=BOB, timeout=PATIENCE) as bob:
        assert bob.put(f"{base}/messages", json={"Read": True}).status_code == 200
        assert bob.put(f"{base}/tags", json={"IDs": [B], "Tags": ["same", CANARY]}).status_code == 200
        assert bob.put(f"{base}/tags/same", json={"Name": "new"}).status_code == 200
        assert bob.delete(f"{base}/messages/{id_in(OTHER, 'e')}").status_code == 200
        (world.relay.received / OTHER / "f.eml").unlink()
        world.wait_for(BOB, "d")
        assert bob.delete(f"{base}/messages").status_code == 200


def test_no_event_of_another_inbox_is_told_or_delays_or_repeats_one(worlds: tuple[World, World]) -> None:
    first, second = worlds
    without, with_others = watched(first), watched(second)
    assert with_others == without
    assert CANARY not in str(with_others).lower()
    assert [json.loads(each)["Type"] for each in without[0]] == ["stats", "new", "stats"]


def test_the_events_of_another_inbox_cannot_be_watched(worlds: tuple[World, World]) -> None:
    for world in worlds:
        base = address_of(world.relay)
        for name in (OTHER, "nothing"):
            assert world.client.get(f"/inbox/{name}/api/v1/stream").status_code == 404
            with pytest.raises(InvalidStatus) as refused:
                connect(
                    f"{base.replace('http:', 'ws:')}/inbox/{name}/api/events",
                    additional_headers={"Authorization": "Bearer token"},
                )
            assert refused.value.response.status_code == 403
