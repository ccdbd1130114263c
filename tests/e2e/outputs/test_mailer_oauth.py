"""The mailer logs in with access tokens: at this project's own listener, which asks an HTTP endpoint about
them; and at servers and token endpoints that fail and repeat secrets."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote_plus

import pytest

from tests.support.clients.wire import submit
from tests.support.mails.dead_letters import deadletter, held, wait_for_records
from tests.support.net import HOST, free_port, wait_until
from tests.support.secret_forms import forms_of
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import Relay, flow
from tests.support.servers.smarthost import Heard, smarthost
from tests.support.servers.token_server import TokenServer, refusal, token_server

CANARY: Final = "canary+secret/4wxQ8zT1="
TOKEN: Final = "canary-token-77aKx"
MAIL: Final = b"From: ann@client.example\r\nSubject: %d\r\n\r\nx\r\n"
LOGGERS: Final = [
    {"type": "CONSOLE", "level": "TRACE"},
    {"type": "FILE", "filepath": "{folder}/json.log", "level": "TRACE", "format": "json"},
]

Make = Callable[..., Relay]


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with token_server() as made:
        yield made


@pytest.fixture
def checker(tokens: TokenServer) -> Iterator[Endpoint]:
    """Says of a login whether its token is valid."""
    with endpoint() as made:

        def answer(asked: Asked) -> Says:
            body = json.loads(asked.body)
            good = body["username"] == "u@x" and body["password"] in tokens.valid
            return Says(200 if good else 403)

        made.answer = answer
        yield made


def sender(new_relay: Make, port: int, tokens: TokenServer, **more: Any) -> Relay:
    """A relay that forwards to that port, with tokens."""
    auth = {
        "type": "oauth2",
        "user": "u@x",
        "clientId": "id",
        "clientSecret": CANARY,
        "accessUrl": tokens.url,
    }
    server = {"host": HOST, "port": port, "auth": auth, "ignoreTLS": True, **more.pop("transport", {})}
    output = {"type": "mailer", "nodemailer": server}
    config = {
        "flows": {"out": {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [output]}},
        "delivery": {"retry": {"first": 100, "max": 300}},
        "loggers": LOGGERS,
        **more,
    }
    return new_relay(config, closeTimeout=2_000).start()


@pytest.mark.parametrize("pooled", [False, True])
def test_mails_reach_our_own_listener_which_asks_about_their_tokens(
    new_relay: Make, tokens: TokenServer, checker: Endpoint, pooled: bool
) -> None:
    http = {"type": "http-auth", "url": checker.url, "credentialsMethod": "JSON"}
    methods = {"authMethods": ["PLAIN", "LOGIN", "XOAUTH2"], "authOptional": False, "allowInsecureAuth": True}
    hop = new_relay({"flows": {"in": flow(http)}}, **methods).start()
    relay = sender(new_relay, hop.port, tokens, transport={"pool": pooled, "maxMessages": 1})
    for number in range(10):
        assert submit(relay.port, MAIL % number, "ann@client.example", "b@x.example").code == 250
        if number == 5:
            wait_until(lambda: len(hop.mails()) == 6, seconds=30, what="the first mails")
            tokens.valid.clear()  # withdrawn before its end
    wait_until(lambda: len(hop.mails()) >= 10, seconds=45, what=f"ten mails: {relay.log()}")
    wait_until(lambda: held(relay) == 0, seconds=20, what="an empty spool")
    subjects = Counter(
        line for mail in hop.mails() for line in mail.splitlines() if line.startswith(b"Subject")
    )
    assert subjects == Counter({b"Subject: %d" % number: 1 for number in range(10)})
    assert len(tokens.forms) == 2
    mechanisms = {asked.headers["x-smtp-relay-mechanism"] for asked in checker.asked}
    assert mechanisms == {"XOAUTH2"}


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def test_no_secret_is_shown_whatever_endpoint_and_server_repeat(new_relay: Make, tokens: TokenServer) -> None:
    repeated = f"you said {CANARY} and {quote_plus(CANARY)}"
    answers = iter(
        [
            refusal("invalid_client", repeated),
            Says(500, json.dumps({"error": CANARY, "error_description": repeated}).encode()),
            Says(302, headers={"Location": f"http://{HOST}:1/?secret={quote_plus(CANARY)}"}),
            Says(raw=f"{CANARY}\r\n".encode()),
            Says(200, json.dumps({"access_token": f"{TOKEN} {CANARY}"}).encode()),
            Says(200, json.dumps({"access_token": TOKEN, "token_type": TOKEN}).encode()),
        ]
    )
    given = json.dumps({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 3_600}).encode()
    tokens.answer = lambda form: next(answers, Says(200, given))
    status = base64.b64encode(json.dumps({"status": "400", "token": TOKEN}).encode()).decode()
    refusals = iter([f"334 {status}", f"535 5.7.8 not {TOKEN}", f"454 4.7.0 later {TOKEN}"])

    def script(heard: Heard) -> str | None:
        if heard.verb == "AUTH":
            return next(refusals, None)
        return f"550 5.1.1 no user for {TOKEN}" if heard.verb == "RCPT" else None

    metrics = free_port()
    with smarthost(script, extensions=("AUTH XOAUTH2",)) as host:
        relay = sender(new_relay, host.port, tokens, prometheus={"portNumber": metrics})
        assert submit(relay.port, MAIL % 1, "ann@client.example", "b@x.example").code == 250
        (letter,) = wait_for_records(relay, 1, seconds=150)
        assert "550 5.1.1 no user for ***" in letter["reason"]
        shown = {
            "console": relay.log(),
            "json.log": (relay.folder / "json.log").read_text(),
            "metrics": scrape(metrics),
            "deadletter": deadletter(relay, "list", "--json"),
            "spool": b"".join(p.read_bytes() for p in relay.spool.rglob("*") if p.is_file()).decode(
                "latin-1"
            ),
        }
        command = [*relay.command()]
        command[command.index("serve")] = "check"
        checked = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=relay.folder)
        shown["check"] = checked.stdout + checked.stderr
        assert '"errors": []' in json.dumps(json.loads(checked.stdout))
    for secret in (CANARY, TOKEN):
        for form in forms_of(secret):
            assert [name for name, text in shown.items() if form in text] == [], form
    assert "invalid_client: you said *** and ***" in shown["json.log"]
    assert "535 5.7.8 not ***" in shown["json.log"]
    (line,) = [
        one for one in shown["metrics"].splitlines() if one.startswith("smtp_relay_login_failures_total")
    ]
    assert float(line.rsplit(maxsplit=1)[1]) >= 7
    errors = [one for one in map(json.loads, shown["json.log"].splitlines()) if one.get("level") == "ERROR"]
    assert [one["message"] for one in errors].count("no access token") == 1, "told at the first failure"
