"""`gcp-secret:` references in a running listener, read from a Secret Manager on loopback."""

from __future__ import annotations

import base64
import json
import smtplib
import subprocess
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from functions.gcp.secrets import ENDPOINT
from tests.support.clients.tls import Authority
from tests.support.net import HOST, wait_until
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import Relay
from tests.support.servers.smarthost import EXTENSIONS, smarthost

Relays = Callable[..., Relay]

NAME: Final = "gcp-secret:projects/p/secrets/"


class Manager:
    """Holds `secrets`, by name, and answers as the API's `versions.access` does."""

    def __init__(self, api: Endpoint) -> None:
        self.secrets: dict[str, str] = {}
        self.asked: list[str] = []
        self.environment = {ENDPOINT: api.url.partition("/ask")[0]}
        api.answer = self._answer

    def _answer(self, asked: Asked) -> Says:
        self.asked.append(asked.path)
        name = asked.path.removeprefix("/v1/projects/p/secrets/").removesuffix("/versions/latest:access")
        if name not in self.secrets:
            error = {"code": 404, "status": "NOT_FOUND", "message": f"Secret [{name}] not found."}
            return Says(404, json.dumps({"error": error}).encode())
        data = base64.b64encode(self.secrets[name].encode()).decode()
        return Says(body=json.dumps({"name": name, "payload": {"data": data}}).encode())


@pytest.fixture
def manager() -> Iterator[Manager]:
    with endpoint() as api:
        yield Manager(api)


def config_of(**auth: Any) -> dict[str, Any]:
    """A filter's password and that of the next hop in Secret Manager."""
    login = {"type": "static-auth", "username": "ada", "password": f"{NAME}login"}
    mailer = {"type": "mailer", "nodemailer": {"host": HOST, "auth": {"user": "relay", "pass": f"{NAME}hop"}}}
    mailer["nodemailer"] |= auth
    return {"flows": {"out": {"filters": [login], "outputs": [mailer]}}}


def test_they_are_read_at_start(manager: Manager, new_relay: Relays) -> None:
    identity = Authority.shared().issue("localhost")
    manager.secrets = {
        "login": "plain:ada's",
        "hop": "next hop's",
        "key": identity.key_pem(),
        "cert": identity.pem,
    }
    with smarthost(extensions=(*EXTENSIONS, "AUTH PLAIN")) as host:
        tls = {"key": f"{NAME}key", "cert": f"{NAME}cert"}
        config = config_of(port=host.port)
        relay = new_relay(config, env=manager.environment, authOptional=False, **tls).start()
        asked = len(manager.asked)
        with smtplib.SMTP("localhost", relay.port, timeout=30) as client:
            client.starttls(context=Authority.shared().context())
            client.login("ada", "ada's")
            client.sendmail("ada@example.com", ["bob@example.com"], "Subject: a secret\r\n\r\nx\r\n")
        wait_until(lambda: bool(host.taken), seconds=20, what="the mail at the next hop")
        assert [(one.user, one.password) for one in host.sessions] == [("relay", "next hop's")]
    assert len(manager.asked) == asked == 4, "each once, at the start"
    assert "next hop's" not in relay.log()


@pytest.mark.parametrize(
    ("missing", "where"),
    [("login", "flows.out.filters[0].password"), ("hop", "flows.out.outputs[0].nodemailer.auth.pass")],
)
def test_a_wrong_name_ends_the_start_with_one_line(
    manager: Manager, new_relay: Relays, missing: str, where: str
) -> None:
    manager.secrets = {name: "plain:x" for name in ("login", "hop") if name != missing}
    relay = new_relay(config_of(port=25), env=manager.environment)
    done = subprocess.run(
        relay.command(),
        cwd=relay.folder,
        env={**relay.environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("smtp-relay: ")]
    assert done.returncode == 2
    assert said == (
        f"smtp-relay: {relay.path}: {where}: {NAME}{missing}: "
        f"cannot be read: 404 Secret [{missing}] not found."
    )
    assert "Traceback" not in done.stderr
