"""The password recipes of the replaced system's documentation, typed as printed: Node's one-liners,
`base64`, and the dialogue over `openssl s_client`."""

from __future__ import annotations

import json
import re
import select
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.clients.wire import Wire
from tests.support.programs import program, run
from tests.support.servers.reference import Printed
from tests.support.servers.relay import Relay, flow

OPTIONS: Final = {"authMethods": ["PLAIN", "LOGIN"], "allowInsecureAuth": True, "authOptional": True}

HASH_RECIPE: Final = (
    """HASH="sha256" PASSWORD="TEST" node -e 'console.log(`${process.env.HASH}:"""
    """${require("crypto").createHash(process.env.HASH).update(process.env.PASSWORD).digest("hex")}`)'"""
)
LIST_RECIPE: Final = """node -e "console.log(require('crypto').getHashes())\""""

Make = Callable[..., Relay]


def shell(line: str) -> str:
    """bash's output for a line of the documentation."""
    return run([program("bash", "bash"), "-c", line]).stdout.decode()


@pytest.fixture(autouse=True)
def _node() -> None:
    program("node", "nodejs")


@pytest.fixture
def guarded(new_relay: Make) -> Callable[..., Relay]:
    """A relay behind one static-auth filter, which these variables configure if its options do not."""

    def start(env: dict[str, str] | None = None, **options: Any) -> Relay:
        only = flow({"type": "static-auth", **options})
        return new_relay({"flows": {"in": only}, "options": OPTIONS}, env=env).start()

    return start


def log_in(relay: Relay, user: str, password: str) -> int:
    """The code after AUTH LOGIN, then of a mail if it was 235."""
    with Wire(relay.port) as wire:
        wire.greet()
        assert wire.command("AUTH LOGIN").text == "VXNlcm5hbWU6"
        assert wire.command(b64encode(user.encode())).text == "UGFzc3dvcmQ6"
        answer = wire.command(b64encode(password.encode()))
        if answer.code == 235:
            wire.envelope()
        return answer.code


class TestHashes:
    def test_one_liner(self, guarded: Callable[..., Relay]) -> None:
        made = shell(HASH_RECIPE).strip()
        assert made.startswith("sha256:94ee0593")
        relay = guarded(username="app", password=made)
        assert log_in(relay, "app", "TEST") == 235
        assert log_in(relay, "app", "test") == 535

    def test_one_liner_through_the_environment(self, guarded: Callable[..., Relay]) -> None:
        relay = guarded({"SMTP_USERNAME": "app", "SMTP_PASSWORD": shell(HASH_RECIPE).strip()})
        assert log_in(relay, "app", "TEST") == 235
        assert log_in(relay, "app", "wrong") == 535

    @pytest.mark.parametrize("algorithm", ["plain", "sha256", "sha512", "md5"])
    def test_the_named_prefixes(self, guarded: Callable[..., Relay], algorithm: str) -> None:
        if algorithm == "plain":
            password = "plain:TE:ST"
        else:
            password = shell(HASH_RECIPE.replace("sha256", algorithm).replace('"TEST"', '"TE:ST"')).strip()
        relay = guarded(username="app", password=password)
        assert log_in(relay, "app", "TE:ST") == 235
        assert log_in(relay, "app", "TE") == 535

    @pytest.mark.parametrize("by", ["option", "variable"])
    def test_salt(self, guarded: Callable[..., Relay], by: str) -> None:
        hashed = shell(
            """node -e 'const c = require("crypto"); """
            """console.log(c.createHmac("sha256", "NaCl").update("TEST").digest("hex"))'"""
        ).strip()
        if by == "option":
            relay = guarded(username="app", password=f"sha256:{hashed}", salt="NaCl")
        else:
            relay = guarded({"SMTP_PASSWORD_SALT": "NaCl"}, username="app", password=f"sha256:{hashed}")
        assert log_in(relay, "app", "TEST") == 235
        assert log_in(relay, "app", "TESTNaCl") == 535

    def test_every_algorithm_that_node_lists(self, guarded: Callable[..., Relay]) -> None:
        listed = re.findall(r"'([^']+)'", shell(LIST_RECIPE.replace("getHashes()", "getHashes().sort()")))
        shown = shell("""node -e "console.log(JSON.stringify(require('crypto').getHashes()))" """)
        assert set(listed) <= set(json.loads(shown))  # console.log shows the first hundred
        users = shell(
            """node -e 'const c = require("crypto"); const all = {}; for (const n of c.getHashes()) """
            """all[n] = `${n}:${c.createHash(n).update("TEST").digest("hex")}`; """
            """console.log(JSON.stringify(all))'"""
        )
        relay = guarded(users=json.loads(users))
        codes = {name: log_in(relay, name, "TEST") for name in json.loads(users)}
        assert [name for name, code in codes.items() if code != 235] == []


class TestDialogue:
    """`openssl s_client -connect localhost:10025` and the lines that are typed into it. TLS begins at
    once, as it does with `secure` and no certificate."""

    TYPED: Final = ("EHLO client.example.com", "AUTH LOGIN", "dXNlcm5hbWU=", "cGFzc3dvcmQ=")
    ANSWERED: Final = (r"^220 ", r"^250 ", r"^334 VXNlcm5hbWU6", r"^334 UGFzc3dvcmQ6", r"^235 2\.7\.0 ")

    @pytest.fixture
    def relay(self, tmp_path: Path) -> Iterator[Printed]:
        known = {"SMTP_USERNAME": "username", "SMTP_PASSWORD": "plain:password"}
        relay = Printed(tmp_path, "kubernetes.json", AWS_REGION="eu-west-1", **known)
        yield relay.start()
        relay.stop()

    def test_as_printed(self, relay: Printed) -> None:
        openssl = program("openssl", "openssl")
        command = [openssl, "s_client", "-connect", f"localhost:{relay.port}"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as client:
            assert client.stdin is not None
            for typed, expected in zip((None, *self.TYPED), self.ANSWERED, strict=True):
                if typed is not None:
                    client.stdin.write(typed.encode() + b"\n")
                    client.stdin.flush()
                read_until(client, expected)
            client.kill()

    def test_base64(self) -> None:
        assert shell("printf %s username | base64").strip() == self.TYPED[2]
        assert shell("printf %s password | base64").strip() == self.TYPED[3]

    def test_base64_of_a_here_string_holds_a_line_feed(self) -> None:
        """`base64 <<< "password"`, as printed, encodes the line's end too: another password."""
        assert shell('base64 <<< "password"').strip() == b64encode(b"password\n").decode()


def read_until(process: subprocess.Popen[bytes], expected: str, seconds: float = 20.0) -> str:
    """Read a program's output until a line begins so. Raises AssertionError with all of it."""
    assert process.stdout is not None
    found = b""
    pattern = re.compile(expected.encode(), re.MULTILINE)
    while not pattern.search(found):
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        piece = process.stdout.read1(65536) if ready else b""  # type: ignore[attr-defined]
        assert piece, f"no line {expected!r} in {found!r}"
        found += piece
    return found.decode(errors="replace")
