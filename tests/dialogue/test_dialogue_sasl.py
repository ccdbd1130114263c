"""SASL beyond PLAIN and LOGIN: CRAM-MD5 (RFC 2195) and XOAUTH2."""

from __future__ import annotations

import hmac
import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.support.clients.wire import Closed, Reply, Wire
from tests.support.net import free_port
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.relay import Relay, flow

Make = Callable[..., Relay]

PLAIN: Final = {"type": "static-auth", "username": "user", "password": "plain:tanstaaf"}
HASHED: Final = {
    "type": "static-auth",
    "username": "user",
    "password": "sha256:" + "ab" * 32,
}
METHODS: Final = ["PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2"]


def b64(text: str) -> str:
    return b64encode(text.encode()).decode()


def offers(wire: Wire) -> list[str]:
    return next((line.split()[1:] for line in wire.greet().lines if line.startswith("AUTH")), [])


class TestCramMd5:
    @pytest.fixture
    def relay(self, relay_for: Make) -> Relay:
        return relay_for(
            {"flows": {"in": flow(PLAIN)}}, authOptional=False, allowInsecureAuth=True, authMethods=METHODS
        )

    def challenge(self, wire: Wire, name: str = "CRAM-MD5") -> bytes:
        reply = wire.command(f"AUTH {name}")
        assert reply.code == 334, reply
        return b64decode(reply.text)

    def answer(self, wire: Wire, challenge: bytes, secret: str = "tanstaaf", user: str = "user") -> Reply:
        digest = hmac.new(secret.encode(), challenge, "md5").hexdigest()
        return wire.command(b64(f"{user} {digest}"))

    @pytest.mark.parametrize("name", ["CRAM-MD5", "cram-md5"])
    def test_right(self, relay: Relay, name: str) -> None:
        with Wire(relay.port) as wire:
            assert offers(wire) == ["PLAIN", "LOGIN", "CRAM-MD5"], "no filter checks tokens"
            challenge = self.challenge(wire, name)
            assert challenge.startswith(b"<")
            assert challenge.endswith(b">")
            assert self.answer(wire, challenge).code == 235
            assert wire.command("MAIL FROM:<a@client.example>").code == 250

    @pytest.mark.parametrize(("secret", "user"), [("wrong", "user"), ("tanstaaf", "nobody"), ("", "user")])
    def test_wrong(self, relay: Relay, secret: str, user: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert self.answer(wire, self.challenge(wire), secret, user).code == 535
            assert wire.command("MAIL FROM:<a@client.example>").code == 530

    def test_an_answer_fits_one_challenge_only(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            first = self.challenge(wire)
            assert wire.command("*").code == 501
            assert self.challenge(wire) != first
            assert self.answer(wire, first).code == 535

    @pytest.mark.parametrize("answer", ["", "=", b64("user"), b64("user "), b64(" digest"), "!!"])
    def test_malformed(self, relay: Relay, answer: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            self.challenge(wire)
            assert str(wire.command(answer)).startswith("501 5.5.2")

    def test_an_initial_response_is_refused(self, relay: Relay) -> None:
        """The server speaks first (RFC 4954 section 4): without a challenge the answer to it would be
        the same each time."""
        digest = hmac.new(b"tanstaaf", b"", "md5").hexdigest()
        with Wire(relay.port) as wire:
            wire.greet()
            assert str(wire.command(f"AUTH CRAM-MD5 {b64(f'user {digest}')}")).startswith("501 5.7.0 ")
            assert wire.command("AUTH CRAM-MD5 =").code == 501
            assert self.answer(wire, self.challenge(wire)).code == 235

    @pytest.mark.parametrize(
        "beside", [HASHED | {"username": "other"}, {"type": "http-auth", "url": "http://127.0.0.1:1/"}]
    )
    def test_it_is_offered_only_where_it_works_for_everybody(
        self, relay_for: Make, beside: dict[str, Any]
    ) -> None:
        """Clients choose CRAM-MD5 if it is offered, and then users with hashes or at other services
        could not log in."""
        relay = relay_for(
            {"flows": {"in": flow(PLAIN), "also": flow(beside)}},
            allowInsecureAuth=True,
            authMethods=METHODS[:3],
        )
        with Wire(relay.port) as wire:
            assert offers(wire) == ["PLAIN", "LOGIN"]
        assert "CRAM-MD5 is not offered" in relay.log()

    def test_flows_of_other_listeners_do_not_matter(self, new_relay: Make) -> None:
        flows = {"in": {**flow(PLAIN), "listeners": ["one"]}, "also": {**flow(HASHED), "listeners": ["two"]}}
        relay = new_relay({"flows": flows}, allowInsecureAuth=True, authMethods=METHODS[:3])
        other = free_port()
        relay.config["listeners"] = [
            {"name": "one", "port": relay.port, "bind": relay.config.pop("bind")},
            {"name": "two", "port": other},
        ]
        del relay.config["port"]
        relay.start()
        with Wire(relay.port) as wire:
            assert offers(wire) == ["PLAIN", "LOGIN", "CRAM-MD5"]
        with Wire(other) as wire:
            assert offers(wire) == ["PLAIN", "LOGIN"]

    def test_hashed_passwords_cannot_be_checked_with_it(self, relay_for: Make) -> None:
        relay = relay_for({"flows": {"in": flow(HASHED)}}, allowInsecureAuth=True, authMethods=METHODS)
        with Wire(relay.port) as wire:
            assert offers(wire) == ["PLAIN", "LOGIN"]
            assert wire.command("AUTH CRAM-MD5").code == 504


class TestXoauth2:
    @pytest.fixture
    def issuer(self) -> Iterator[Endpoint]:
        with endpoint() as made:

            def answer(asked: Asked) -> Says:
                body = json.loads(asked.body)
                good = body == {"username": "user@client.example", "password": "good-token"}
                busy = body.get("password") == "busy"
                return Says(503 if busy else 200 if good else 403)

            made.answer = answer
            yield made

    @pytest.fixture
    def relay(self, relay_for: Make, issuer: Endpoint) -> Relay:
        http = {"type": "http-auth", "url": issuer.url, "credentialsMethod": "JSON"}
        return relay_for(
            {"flows": {"in": flow(http)}}, authOptional=False, allowInsecureAuth=True, authMethods=METHODS
        )

    @staticmethod
    def response(token: str = "good-token", user: str = "user@client.example") -> str:
        return b64(f"user={user}\x01auth=Bearer {token}\x01\x01")

    @pytest.mark.parametrize("initial", [True, False])
    def test_right(self, relay: Relay, issuer: Endpoint, initial: bool) -> None:
        with Wire(relay.port) as wire:
            assert offers(wire) == ["PLAIN", "LOGIN", "XOAUTH2"]
            if initial:
                reply = wire.command(f"AUTH XOAUTH2 {self.response()}")
            else:
                assert wire.command("AUTH xoauth2") == (334, ("",))
                reply = wire.command(self.response())
            assert reply.code == 235
            assert wire.command("MAIL FROM:<a@client.example>").code == 250
        assert issuer.asked[-1].headers["x-smtp-relay-mechanism"] == "XOAUTH2"

    @pytest.mark.parametrize("last", ["", "=", "*", b64("\x01")])
    def test_why_comes_before_the_refusal(self, relay: Relay, last: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            began = time.monotonic()
            reply = wire.command(f"AUTH XOAUTH2 {self.response('stolen')}")
            assert time.monotonic() - began > 0.3
            assert reply.code == 334
            assert json.loads(b64decode(reply.text))["status"] == "400"
            assert str(wire.command(last)).startswith("535 5.7.8")
            assert wire.command("NOOP").code == 250
            assert wire.command(f"AUTH XOAUTH2 {self.response()}").code == 235

    def test_five_and_no_more(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            for number in range(5):
                assert wire.command(f"AUTH XOAUTH2 {self.response('stolen')}").code == 334, number
                assert wire.command("").code == 535
            assert wire.reply().code == 421
            with pytest.raises(Closed):
                wire.reply()

    def test_an_issuer_that_is_busy(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert str(wire.command(f"AUTH XOAUTH2 {self.response('busy')}")).startswith("454 4.7.0")
            assert wire.command(f"AUTH XOAUTH2 {self.response()}").code == 235

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "x",
            "user=u\x01\x01",
            "user=u\x01auth=Basic x\x01\x01",
            "auth=Bearer x\x01\x01",
            "user=u\x01auth=Bearer \x01\x01",
        ],
    )
    def test_malformed(self, relay: Relay, text: str) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert str(wire.command(f"AUTH XOAUTH2 {b64(text) or '='}")).startswith("501 5.5.2")

    def test_a_long_token(self, relay: Relay) -> None:
        with Wire(relay.port) as wire:
            wire.greet()
            assert wire.command(f"AUTH XOAUTH2 {self.response('x' * 7000)}").code == 334

    def test_passwords_are_not_its_matter(self, relay_for: Make) -> None:
        relay = relay_for({"flows": {"in": flow(PLAIN)}}, allowInsecureAuth=True, authMethods=["XOAUTH2"])
        with Wire(relay.port) as wire:
            assert offers(wire) == []
            assert wire.command(f"AUTH XOAUTH2 {self.response()}").code == 504


def test_without_a_filter_that_checks_every_mechanism_will_do(relay_for: Make) -> None:
    relay: Any = relay_for(allowInsecureAuth=True, authMethods=METHODS)
    with Wire(relay.port) as wire:
        assert offers(wire) == METHODS
