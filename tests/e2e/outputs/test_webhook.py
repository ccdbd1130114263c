"""The output `webhook` of a running server: crashes, a dead endpoint, secrets, and receivers in other
languages."""

from __future__ import annotations

import json
import os
import re
import smtplib
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.net import HOST, free_port, wait_until
from tests.support.programs import NODE_MODULES, program, run
from tests.support.servers import receiver as faults
from tests.support.servers.receiver import Handler, Receiver, answer, in_turn, receiving
from tests.support.servers.relay import ROOT, Relay

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER: Final = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
CANARY: Final = "c4n4rysecret"
MAIL: Final = b"From: a@example.com\r\nTo: b@example.com\r\nSubject: hello \xe2\x82\xac\r\n\r\nhi\r\n"

Relays = Callable[..., Relay]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def start(
    new_relay: Relays, url: str, *others: Any, env: Mapping[str, str] | None = None, **given: Any
) -> Relay:
    hook = {"type": "webhook", "name": "hook", "url": url, "retry": {"first": 100, "max": 300}, **given}
    flow = {"filters": [{"type": "whitelist", "ips": [HOST]}], "outputs": [hook, *others]}
    return new_relay({"flows": {"all": flow}, "prometheus": {"portNumber": free_port()}}, env=env).start()


def send(relay: Relay, count: int = 1) -> None:
    with smtplib.SMTP(HOST, relay.port, timeout=30) as client:
        for _ in range(count):
            client.sendmail("a@example.com", ["b@example.com"], MAIL)


def command(relay: Relay, *words: str, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "listener.cli.main", *words, "--config", str(relay.path)],
        cwd=relay.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.stdout + done.stderr


def emptied(relay: Relay) -> None:
    wait_until(
        lambda: '"id"' not in command(relay, "queue", "list", "--json"), seconds=30, what="an empty spool"
    )


@pytest.mark.parametrize("moment", ["before the answer", "after the answer"])
def test_a_mail_keeps_its_id_when_the_server_is_killed(
    new_relay: Relays, receiver: Receiver, moment: str
) -> None:
    asked, go = threading.Event(), threading.Event()

    def held(handler: Handler) -> None:
        if moment == "after the answer":
            answer()(handler)
        asked.set()
        go.wait(30)
        handler.close_connection = True

    receiver.react = in_turn(held, answer())
    relay = start(new_relay, receiver.url, secret=SECRET)
    send(relay)
    assert asked.wait(20)
    relay.kill()
    go.set()
    relay.start()
    if moment == "before the answer":
        faults.wait_for(receiver, 2)
    emptied(relay)
    assert len(set(receiver.ids())) == 1
    assert len({one.body for one in receiver.received}) == 1
    assert "in_doubt" not in relay.log()


def test_mails_that_waited_for_a_dead_endpoint_come_all(new_relay: Relays) -> None:
    port = free_port()
    relay = start(new_relay, f"http://{HOST}:{port}/in", secret=SECRET)
    send(relay, 200)
    wait_until(lambda: "the server fails" in relay.log(), seconds=20, what="an open circuit")
    relay.kill()
    relay.start()
    send(relay, 100)
    with receiving(port=port) as receiver:
        faults.wait_for(receiver, 300, seconds=60)
        emptied(relay)
        assert len(set(receiver.ids())) == 300


def test_a_dead_endpoint_delays_no_other_output(new_relay: Relays) -> None:
    file = {"type": "file", "path": "{received}", "filename": "${id}.eml"}
    relay = start(new_relay, f"http://{HOST}:{free_port()}/", file)
    send(relay, 20)
    assert len(relay.files()) == 20


def test_a_canary_is_found_nowhere(new_relay: Relays, receiver: Receiver) -> None:
    """Not in logs, metrics, dead records or the output of commands, whatever the receiver repeats."""
    env = {"HOOK": f"{receiver.url}/{CANARY}/in?k={CANARY}", "KEY": CANARY, "SIGN": SECRET}
    receiver.react = in_turn(
        answer(500, CANARY.encode(), X_Echo=CANARY),
        answer(302, location=f"https://{HOST}/{CANARY}"),
        faults.reset,
        answer(410, CANARY.encode()),
    )
    relay = start(
        new_relay,
        "env:HOOK",
        env=env,
        secret="env:SIGN",
        headers={"X-Key": "env:KEY"},
        auth={"user": "ann", "pass": "env:KEY"},
        hmac={"secret": "env:KEY"},
    )
    send(relay)
    wait_until(lambda: "given up" in relay.log(), seconds=30, what="a dead record")
    shown = [
        command(relay, "deadletter", "show", "latest", "--json", env=env),
        command(relay, "deadletter", "list", "--json", env=env),
        command(relay, "queue", "list", "--json", env=env),
        command(relay, "check", "--json", env=env),
        command(relay, "webhook", "test", "hook", "--json", env=env),
        command(relay, "webhook", "test", env=env),
        metrics(relay),
    ]
    assert "410" in shown[0]
    assert '"status": 410' in shown[4]
    database = b"".join(path.read_bytes() for path in relay.spool.rglob("spool.db*"))
    everything = "".join([relay.log(), *shown, database.decode("latin-1")])
    for secret in (CANARY, SECRET, SECRET.removeprefix("whsec_")):
        assert secret not in everything
    assert receiver.received[0].headers["x-key"] == CANARY


def metrics(relay: Relay) -> str:
    import httpx

    return httpx.get(f"http://{HOST}:{relay.config['prometheus']['portNumber']}/metrics").text


def test_the_test_shows_status_time_and_a_bounded_body(new_relay: Relays, receiver: Receiver) -> None:
    receiver.react = answer(422, b"no \x1b[31m such\nuser" + b"x" * 200_000)
    relay = start(new_relay, receiver.url, secret=SECRET)
    shown = command(relay, "webhook", "test")
    assert re.search(r"all/hook to http://127\.0\.0\.1:\d+: status 422 after [\d.]+ s\n", shown)
    assert "\x1b" not in shown
    assert len(shown) < 80_000
    (one,) = receiver.received
    assert json.loads(one.body)["data"]["email"]["subject"] == "A sample of smtp-relay"
    assert "is not an output of type webhook" in command(relay, "webhook", "test", "other")


# -- the page's receivers ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def requests() -> list[dict[str, Any]]:
    """A good request by two keys, and the same changed in one place each."""
    import base64
    import hashlib
    import hmac
    import time

    body = '{"subject": "hello €"}'
    now = int(time.time())

    def signed(at: int, *secrets: str) -> dict[str, Any]:
        text = f"msg_1.{at}.{body}".encode()
        keys = [base64.b64decode(each.removeprefix("whsec_")) for each in secrets]
        codes = [base64.b64encode(hmac.digest(key, text, hashlib.sha256)).decode() for key in keys]
        headers = {
            "webhook-id": "msg_1",
            "webhook-timestamp": str(at),
            "webhook-signature": " ".join(f"v1,{code}" for code in codes),
        }
        return {"headers": headers, "body": body, "good": True}

    good = signed(now, OTHER, SECRET)
    changed = [
        {**good, "body": body + " "},
        {**good, "headers": {**good["headers"], "webhook-id": "msg_2"}},
        {**good, "headers": {**good["headers"], "webhook-timestamp": str(now - 1)}},
        {**good, "headers": {**good["headers"], "webhook-signature": "v1,AAAA v1"}},
        signed(now, OTHER),
        signed(now - 3600, SECRET),
        signed(now + 3600, SECRET),
    ]
    return [good, signed(now, SECRET), *({**each, "good": False} for each in changed)]


def example(language: str) -> str:
    page = (ROOT / "docs" / "outputs" / "webhook.md").read_text()
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


RUNNERS: Final[dict[str, tuple[str, str, str]]] = {
    "python": (
        "main.py",
        "CODE\nimport json, sys\nfor one in json.load(sys.stdin):\n"
        "    print(int(verify('SECRET', one['headers'], one['body'].encode())))\n",
        "python",
    ),
    "js": (
        "main.cjs",
        "CODE\nfor (const one of JSON.parse(require('fs').readFileSync(0))) "
        "console.log(Number(verify('SECRET', one.headers, Buffer.from(one.body))));\n",
        "node",
    ),
    "go": (
        "main.go",
        "package main\n\nimport (\n"
        + "".join(
            f'\t"{name}"\n'
            for name in (
                "crypto/hmac",
                "crypto/sha256",
                "encoding/base64",
                "encoding/json",
                "fmt",
                "net/http",
                "os",
                "strconv",
                "strings",
                "time",
            )
        )
        + ")\n\nCODE\nfunc main() {\n\tvar all []struct {\n"
        "\t\tHeaders map[string]string\n\t\tBody string\n\t}\n"
        "\tjson.NewDecoder(os.Stdin).Decode(&all)\n\tfor _, one := range all {\n\t\th := http.Header{}\n"
        "\t\tfor name, value := range one.Headers {\n\t\t\th.Set(name, value)\n\t\t}\n"
        '\t\tif verify("SECRET", h, []byte(one.Body)) {\n\t\t\tfmt.Println(1)\n\t\t} else {\n'
        "\t\t\tfmt.Println(0)\n\t\t}\n\t}\n}\n",
        "go",
    ),
    "php": (
        "main.php",
        "<?php\nCODE\nforeach (json_decode(stream_get_contents(STDIN), true) as $one)\n"
        "    echo (int) verify('SECRET', $one['headers'], $one['body']), \"\\n\";\n",
        "php",
    ),
}


@pytest.mark.parametrize("language", list(RUNNERS))
def test_the_page_s_receivers_tell_good_requests_from_others(
    requests: list[dict[str, Any]], language: str, tmp_path: Path
) -> None:
    name, source, tool = RUNNERS[language]
    lines = [line for line in example(language).splitlines() if line]
    assert len(lines) <= 12
    file = tmp_path / name
    file.write_text(source.replace("CODE", example(language)).replace("SECRET", SECRET))
    packages = {"python": "python3", "node": "nodejs", "go": "golang-go", "php": "php-cli"}
    found = sys.executable if tool == "python" else program(tool, packages[tool])
    how = [found, "run", str(file)] if tool == "go" else [found, str(file)]
    env = {"GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    done = run(how, stdin=json.dumps(requests).encode(), env=env, seconds=240)
    assert [line == "1" for line in done.stdout.decode().split()] == [one["good"] for one in requests]


def test_node_s_library_takes_what_the_server_sends(
    new_relay: Relays, receiver: Receiver, tmp_path: Path
) -> None:
    node = program("node", "nodejs")
    if not (NODE_MODULES / "standardwebhooks").exists():
        pytest.skip("npm's standardwebhooks is missing (`make test` installs it)")
    relay = start(new_relay, receiver.url, secrets=[OTHER, SECRET])
    send(relay)
    faults.wait_for(receiver, 1)
    (one,) = receiver.received
    script = tmp_path / "verify.cjs"
    script.write_text(
        "const { Webhook } = require('standardwebhooks');\n"
        "const one = JSON.parse(require('fs').readFileSync(0));\n"
        "const event = new Webhook(one.secret).verify(one.body, one.headers);\n"
        "console.log(event.data.email.subject);\n"
        "try { new Webhook('whsec_' + 'A'.repeat(32)).verify(one.body, one.headers); process.exit(9); }\n"
        "catch (error) { if (error.name !== 'WebhookVerificationError') throw error; }\n"
    )
    sent = {"secret": SECRET, "body": one.body.decode(), "headers": one.headers}
    done = run([node, script], stdin=json.dumps(sent).encode(), env={"NODE_PATH": str(NODE_MODULES)})
    assert done.stdout.decode() == "hello €\n"
