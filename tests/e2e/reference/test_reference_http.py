"""`http-auth` and `http-filter` as the replaced system documents them, option by option: a real client
logs in or sends, and the endpoint records the requests."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
from base64 import b64encode
from collections.abc import Callable, Iterator
from email.message import EmailMessage
from typing import Any, Final
from urllib.parse import parse_qs

import pytest

from tests.support.net import HOST
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.reference import example
from tests.support.servers.relay import Relay, flow

OPTIONS: Final = {"authMethods": ["PLAIN", "LOGIN"], "allowInsecureAuth": True, "authOptional": True}
USER, PASSWORD = "ann", "pass & word"

Make = Callable[..., Relay]


@pytest.fixture
def asked() -> Iterator[Endpoint]:
    with endpoint() as served:
        yield served


def serve(new_relay: Make, asked: Endpoint, **options: Any) -> Relay:
    """A relay behind one filter that asks the endpoint."""
    only = flow({**options, "url": asked.url})
    return new_relay({"flows": {"in": only}, "options": OPTIONS}, env={"NO_PROXY": "*"}).start()


def log_in(relay: Relay) -> int:
    """The code of AUTH; if it succeeded, a mail was sent after it."""
    with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
        try:
            code, _ = client.login(USER, PASSWORD)
        except smtplib.SMTPAuthenticationError as error:
            return error.smtp_code
        client.sendmail("ann@mydomain.com", "bob@mydomain.com", "Subject: x\r\n\r\ny\r\n")
        return code


def signature(asked: Asked, url: str, secret: str, *, algo: str = "sha256") -> str:
    """The result of the documentation's signing."""
    parts = [url, asked.method, asked.headers["x-smtp-relay-time"]]
    text = "\n".join(parts).encode() + (b"\n" + asked.body if asked.body else b"")
    return hmac.new(secret.encode(), text, algo).hexdigest()


class TestHttpAuth:
    def test_as_printed(self, new_relay: Make, asked: Endpoint) -> None:
        relay = serve(new_relay, asked, **example("http-auth"))
        assert log_in(relay) == 235
        assert len(relay.mails()) == 1
        (one,) = asked.asked
        assert one.headers["authorization"] == "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        asked.answer = Says(status=401)
        assert log_in(relay) == 535
        assert len(relay.mails()) == 1

    @pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
    def test_method(self, new_relay: Make, asked: Endpoint, method: str) -> None:
        relay = serve(new_relay, asked, **example("http-auth"), method=method)
        assert log_in(relay) == 235
        assert [one.method for one in asked.asked] == [method]

    @pytest.mark.parametrize(
        ("fields", "names"),
        [({}, ("username", "password")), ({"userField": "u", "passwordField": "p"}, ("u", "p"))],
    )
    def test_form(
        self, new_relay: Make, asked: Endpoint, fields: dict[str, str], names: tuple[str, str]
    ) -> None:
        relay = serve(new_relay, asked, type="http-auth", credentialsMethod="FORM_URLENCODED", **fields)
        assert log_in(relay) == 235
        (one,) = asked.asked
        assert one.headers["content-type"] == "application/x-www-form-urlencoded"
        assert parse_qs(one.body.decode()) == {names[0]: [USER], names[1]: [PASSWORD]}

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            ({}, {"username": USER, "password": PASSWORD}),
            (
                {"userField": "$.login.user", "passwordField": "$.login.secret"},
                {"login": {"user": USER, "secret": PASSWORD}},
            ),
        ],
    )
    @pytest.mark.parametrize("method", ["POST", "PUT"])
    def test_json(
        self, new_relay: Make, asked: Endpoint, fields: dict[str, str], body: dict[str, Any], method: str
    ) -> None:
        relay = serve(new_relay, asked, type="http-auth", credentialsMethod="JSON", method=method, **fields)
        assert log_in(relay) == 235
        (one,) = asked.asked
        assert one.headers["content-type"] == "application/json"
        assert (one.method, json.loads(one.body)) == (method, body)

    @pytest.mark.parametrize(
        ("answer", "code"),
        [
            (b'{"ok": "yes"}', 235),
            (b'{"ok": "no"}', 535),
            (b"{}", 535),
            (b"no JSON", 454),
        ],
    )
    def test_json_result(self, new_relay: Make, asked: Endpoint, answer: bytes, code: int) -> None:
        asked.answer = Says(body=answer)
        wanted = {"path": "$.ok", "value": "yes"}
        assert log_in(serve(new_relay, asked, **example("http-auth"), json_result=wanted)) == code

    @pytest.mark.parametrize(("status", "code"), [(299, 235), (300, 535), (403, 535), (500, 454)])
    def test_status(self, new_relay: Make, asked: Endpoint, status: int, code: int) -> None:
        asked.answer = Says(status=status)
        assert log_in(serve(new_relay, asked, **example("http-auth"))) == code

    @pytest.mark.parametrize(
        ("more", "header", "algo"),
        [({}, "x-smtp-relay", "sha256"), ({"algo": "sha512", "header": "X-Sign"}, "x-sign", "sha512")],
    )
    def test_hmac(
        self, new_relay: Make, asked: Endpoint, more: dict[str, str], header: str, algo: str
    ) -> None:
        relay = serve(new_relay, asked, **example("http-auth"), hmac={"secret": "s", **more})
        assert log_in(relay) == 235
        (one,) = asked.asked
        assert one.headers[header] == signature(one, asked.url, "s", algo=algo)


class TestHttpFilter:
    """Unsigned, signed, by PUT, and with any user."""

    @staticmethod
    def mail() -> EmailMessage:
        mail = EmailMessage()
        mail["From"] = "Ann <ann@mydomain.com>"
        mail["To"], mail["Cc"] = "Bob <bob@mydomain.com>, eve@mydomain.com", "Cy <cy@mydomain.com>"
        mail["Bcc"], mail["Reply-To"] = "dan@mydomain.com", "desk@mydomain.com"
        mail["Subject"], mail["Date"] = "as printed", "Mon, 5 Jan 2026 10:00:00 +0000"
        mail["X-Priority"], mail["Message-ID"] = "1", "<m1@mydomain.com>"
        mail.set_content("plain\n")
        mail.add_alternative("<p>html</p>", subtype="html")
        mail.add_attachment(b"12345", maintype="application", subtype="pdf", filename="a.pdf")
        return mail

    def send(self, relay: Relay, *, user: str | None = None) -> None:
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            if user:
                client.login(user, "whatever it is")
            octets = self.mail().as_bytes().replace(b"\n", b"\r\n")
            client.sendmail("ann@mydomain.com", ["bob@mydomain.com", "eve@mydomain.com"], octets)

    @pytest.mark.parametrize("method", [None, "POST", "PUT"])
    def test_accepts_and_refuses(self, new_relay: Make, asked: Endpoint, method: str | None) -> None:
        said = {} if method is None else {"method": method}
        relay = serve(new_relay, asked, type="http-filter", **said)
        self.send(relay)
        assert len(relay.mails()) == 1
        assert asked.asked[0].method == (method or "POST")
        assert "x-smtp-relay" not in asked.asked[0].headers
        for status, code in ((300, 550), (400, 550), (503, 451)):
            asked.answer = Says(status=status)
            with pytest.raises(smtplib.SMTPDataError) as refused:
                self.send(relay)
            assert refused.value.smtp_code == code
        assert len(relay.mails()) == 1

    def test_signed(self, new_relay: Make, asked: Endpoint) -> None:
        relay = serve(new_relay, asked, type="http-filter", hmac={"secret": "s"})
        self.send(relay)
        (one,) = asked.asked
        assert one.headers["x-smtp-relay"] == signature(one, asked.url, "s")
        assert len(one.headers["x-smtp-relay"]) == hashlib.sha256().digest_size * 2

    def test_any_user(self, new_relay: Make, asked: Endpoint) -> None:
        relay = serve(new_relay, asked, type="http-filter", allowAnyUser=True)
        self.send(relay, user="somebody")
        (one,) = asked.asked
        assert json.loads(one.body)["data"]["server"]["username"] == "somebody"

    def test_the_event(self, new_relay: Make, asked: Endpoint) -> None:
        """Each field of the documented interface, with its type."""
        self.send(serve(new_relay, asked, type="http-filter"))
        event = json.loads(asked.asked[0].body)
        assert event["specversion"] == "1.0"
        email, server = event["data"]["email"], event["data"]["server"]
        assert email["from"]["value"] == [{"address": "ann@mydomain.com", "name": "Ann"}]
        (attachment,) = email["attachments"]
        assert (attachment["filename"], attachment["size"]) == ("a.pdf", 5)
        assert (email["subject"], email["priority"]) == ("as printed", "high")
        (to,), (cc,), (bcc,) = email["to"], email["cc"], email["bcc"]
        assert [each["address"] for each in to["value"]] == ["bob@mydomain.com", "eve@mydomain.com"]
        assert [each["address"] for each in cc["value"]] == ["cy@mydomain.com"]
        assert [each["address"] for each in bcc["value"]] == ["dan@mydomain.com"]
        assert email["replyTo"] == "desk@mydomain.com"
        assert email["date"] == "2026-01-05T10:00:00.000Z"
        assert (email["text"], email["html"]) == ("plain\n", "<p>html</p>\n")
        assert server["remoteAddress"] == HOST
        assert isinstance(server["remotePort"], int)
        assert server["secure"] is False
        assert (server["transmissionType"], server["username"]) == ("ESMTP", "")
        assert server["clientHostname"]
        assert server["hostNameAppearAs"]
        assert server["id"]
        assert {*email, *server} >= {
            *("from", "attachments", "subject", "priority", "to", "cc", "bcc", "replyTo", "date"),
            *("text", "html", "clientHostname", "remoteAddress", "remotePort", "hostNameAppearAs"),
            *("id", "secure", "transmissionType", "username"),
        }
