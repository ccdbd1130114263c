"""The `mailer` output from its options to the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from functions.errors import ConfigError, Permanent, Temporary
from functions.processors.context import BuildContext
from functions.processors.mailer.oauth import source as sources
from functions.processors.mailer.output import MailerProcessor
from functions.processors.mailer.recipients import GROUP
from functions.processors.mailer.transport import server_of
from functions.processors.mailer.transport_options import Transport
from functions.processors.registry import OUTPUTS, build_processor
from functions.smtp_client import pool as pools
from tests.support.clients.relaying import MAIL, Remembering, job, make_mail
from tests.support.clients.tls import Authority
from tests.support.net import HOST, free_port
from tests.support.servers.endpoint import Says
from tests.support.servers.smarthost import CLOSE, Heard, Smarthost, refusing, server_context, smarthost
from tests.support.servers.token_server import TokenServer, refusal, token_server

KEY = Authority.shared().issue(algorithm="rsa").key_pem()
Make = Callable[..., MailerProcessor]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Builds a mailer from the options as the file has them."""
    made: list[MailerProcessor] = []

    def build(host: Smarthost | None = None, transport: Any = None, **options: Any) -> MailerProcessor:
        if host is not None:
            transport = {"host": HOST, "port": host.port, "socketTimeout": 5_000, **(transport or {})}
        found = OUTPUTS.parse({"type": "mailer", "nodemailer": transport or {}, **options})
        context = BuildContext.of(tmp_path, {"PASSWORD": "geheim", "KEY": KEY})
        processor = build_processor(found, "mailer_0", context)
        assert isinstance(processor, MailerProcessor)
        made.append(processor)
        return processor

    yield build
    for each in made:
        each.close()


def test_forwards_the_mail_unchanged_with_its_envelope(make: Make) -> None:
    with smarthost() as host:
        mail = make_mail(
            MAIL, "bob@x", "carl@x", parameters=("BODY=8BITMIME", "RET=HDRS"), dsn=("NOTIFY=FAILURE",)
        )
        make(host).process(job(mail))
        (taken,) = host.taken
        assert taken.content == MAIL
        assert taken.mail == f"MAIL FROM:<ann@client.example> SIZE={len(MAIL)} BODY=8BITMIME RET=HDRS"
        assert taken.rcpts == ["RCPT TO:<bob@x> NOTIFY=FAILURE", "RCPT TO:<carl@x> NOTIFY=FAILURE"]


def test_by_url(make: Make) -> None:
    with smarthost(extensions=("AUTH PLAIN",)) as host:
        make(transport=f"smtp://us%40er:p%2Fw@{HOST}:{host.port}/?pool=true&name=me.example").process(
            job(make_mail())
        )
        assert host.heard[0] == "EHLO me.example"
        assert (host.sessions[0].user, host.sessions[0].password) == ("us@er", "p/w")
        assert len(host.taken) == 1


@pytest.mark.parametrize(
    ("host", "asked"),
    [
        ("smtp.faß.example", "smtp.xn--fa-hia.example"),
        ("SMTP.Bücher.example", "smtp.xn--bcher-kva.example"),
        ("Mail.example", "Mail.example"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_host_beyond_ascii_is_asked_for_by_its_a_labels(host: str, asked: str) -> None:
    transport = Transport.model_validate({"host": host})
    assert server_of(transport, str).host == asked


def test_secrets_are_looked_up(make: Make) -> None:
    with smarthost(extensions=("AUTH PLAIN XOAUTH2",)) as host:
        make(host, {"auth": {"user": "u", "pass": "env:PASSWORD"}}).process(job(make_mail()))
        token = {"auth": {"type": "OAuth2", "user": "u", "accessToken": "env:PASSWORD"}}
        make(host, token).process(job(make_mail()))
        assert host.sessions[0].password == "geheim"
        assert host.sessions[1].password == "user=u\x01auth=Bearer geheim\x01\x01"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"transport": {"name": "two words"}},
            "mailer_0: nodemailer: name: 'two words' is not a host",
        ),
        ({"transport": {"tls": {"ca": "nonsense"}}}, "nodemailer: tls.ca"),
        (
            {"transport": {"host": "💩.example"}},
            "mailer_0: nodemailer: host: '💩.example' is not a host name",
        ),
        ({"transport": {"auth": {"user": "u", "pass": "env:MISSING"}}}, "env:MISSING: the environment"),
        ({"override": {"to": []}}, "output mailer_0: override: to, cc and bcc name no recipient"),
        (
            {"dkim": {"domainName": "x.example", "keySelector": "s", "privateKey": "env:PASSWORD"}},
            "output mailer_0: dkim.privateKey: is not a private key",
        ),
        (
            {"dkims": {"x.example": {"keySelector": "s", "privateKey": "file://gone"}}},
            "file://gone: cannot be read",
        ),
    ],
)
def test_mistakes_are_found_at_start(make: Make, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        make(**options)
    assert "geheim" not in str(caught.value)


class TestSigning:
    DKIMS: ClassVar[Any] = {
        "author.example": {"keySelector": "a", "privateKey": "env:KEY"},
        "sender.example": {"domainName": "other.example", "keySelector": "s", "privateKey": "env:KEY"},
        "xn--bcher-kva.example": {"keySelector": "i", "privateKey": "env:KEY"},
        "xn--fa-hia.example": {"keySelector": "f", "privateKey": "env:KEY"},
        "fass.example": {"keySelector": "w", "privateKey": "env:KEY"},
    }
    SINGLE: ClassVar[Any] = {"domainName": "single.example", "keySelector": "x", "privateKey": "env:KEY"}

    @pytest.mark.parametrize(
        ("author", "sender", "single", "signs"),
        [
            ("Ann <ann@Author.Example>", "a@sender.example", True, "d=author.example; s=a;"),
            ("ann@author.example, b@sender.example", "", False, "d=author.example; s=a;"),
            ("ann@elsewhere.example", "a@sender.example", True, "d=other.example; s=s;"),
            ("ann@elsewhere.example", "a@elsewhere.example", True, "d=single.example; s=x;"),
            ("ann@elsewhere.example", "a@elsewhere.example", False, ""),
            ("ann@sub.author.example", "", False, ""),
            ("ann@bücher.example", "", False, "d=xn--bcher-kva.example; s=i;"),
            ("ann@BU\u0308CHER.example", "", False, "d=xn--bcher-kva.example; s=i;"),
            ("ann@faß.example", "", False, "d=xn--fa-hia.example; s=f;"),
            ("ann@faß.example", "b@fass.example", False, "d=xn--fa-hia.example; s=f;"),
            ("ann@elsewhere.example", "b@faß.example", False, "d=xn--fa-hia.example; s=f;"),
            ("ann@fass.example", "", False, "d=fass.example; s=w;"),
            (
                "=?utf-8?Q?Support@author.example,_John?= <john@elsewhere.example>",
                "a@sender.example",
                False,
                "d=other.example; s=s;",
            ),
            (
                "=?utf-8?Q?Support@author.example,_John?= <john@fass.example>",
                "",
                False,
                "d=fass.example; s=w;",
            ),
            ("=?utf-8?q?a@author.example;?= <john@fass.example>", "", False, "d=fass.example; s=w;"),
            ("=?utf-8?q?<a@author.example>?= <john@fass.example>", "", False, "d=fass.example; s=w;"),
            ("=?utf-8?q?x, a@author.example, y?= <j@fass.example>", "", False, "d=fass.example; s=w;"),
            ('=?utf-8?q?"?= <j@fass.example>, a@author.example (")', "", False, "d=fass.example; s=w;"),
            ("<@author.example:john@fass.example>", "", False, "d=fass.example; s=w;"),
            ("<john@fass.example(@author.example)>", "", False, "d=fass.example; s=w;"),
            ("john @ fass (x) . example", "", False, "d=fass.example; s=w;"),
            ("john@fass.example.", "", False, "d=fass.example; s=w;"),
            (None, "a@sender.example", False, "d=other.example; s=s;"),
            ("nonsense", "", False, ""),
        ],
    )
    def test_the_key_is_the_author_s(
        self, make: Make, author: str | None, sender: str, single: bool, signs: str
    ) -> None:
        mail = (f"From: {author}\r\n" if author else "").encode() + b"Subject: x\r\n\r\nx\r\n"
        with smarthost() as host:
            options = {"dkims": self.DKIMS} | ({"dkim": self.SINGLE} if single else {})
            make(host, **options).process(job(make_mail(mail, reverse_path=sender)))
            sent = host.taken[0].content
            head = sent[: sent.index(b"Subject: ")].replace(b"\r\n", b"")
            assert signs.replace(" ", "") in head.decode().replace(" ", "")
            assert sent.count(b"DKIM-Signature:") == bool(signs)
            assert sent.endswith(mail)

    def test_after_the_edits(self, make: Make) -> None:
        """The signature is that of the author that the reader sees."""
        with smarthost() as host:
            mailer = make(host, dkims=self.DKIMS, override={"from": "ann@author.example", "subject": "new"})
            mailer.process(job(make_mail()))
            sent = host.taken[0].content
            assert b" d=author.example;" in sent
            assert sent.index(b"DKIM-Signature:") < sent.index(b"From: ann@author.example")


class TestOverride:
    def test_envelope_and_header(self, make: Make) -> None:
        with smarthost() as host:
            override = {"to": "Staging <all@x>", "bcc": "log@x", "from": "Relay <relay@x>"}
            mail = make_mail(MAIL, "bob@y", "carl@y", dsn=("NOTIFY=NEVER",))
            make(host, override=override).process(job(mail))
            (taken,) = host.taken
            assert taken.reverse_path == "relay@x"
            assert taken.rcpts == ["RCPT TO:<all@x>", "RCPT TO:<log@x>"]
            assert taken.content.startswith(
                b"From: Relay <relay@x>\r\nTo: Staging <all@x>\r\nSubject: x\r\n\r\n"
            )

    def test_international_addresses_need_smtputf8(self, make: Make) -> None:
        override = {"to": ["jörg@x", "bob@x"]}
        with smarthost() as host:
            make(host, override=override).process(job(make_mail()))
            assert host.taken[0].mail.endswith(" SMTPUTF8")
        with smarthost(extensions=()) as host:
            with pytest.raises(Permanent, match="offers no SMTPUTF8") as caught:
                make(host, override=override).process(job(make_mail()))
            assert caught.value.enhanced == "5.6.7"


class TestResults:
    def test_a_thousand_recipients(self, make: Make) -> None:
        everybody = [f"r{number}@x" for number in range(2 * GROUP + 50)]
        script = refusing(r7="550 5.1.1 no", r150="450 4.2.1 later")
        with smarthost(script) as host:
            mailer, once = make(host), Remembering()
            mail = make_mail(MAIL, *everybody, *everybody[:5])
            with pytest.raises(Temporary) as caught:
                mailer.process(job(mail, once))
            assert set(caught.value.recipients) == {"r7@x", "r150@x"}
            assert len(host.sessions) == 1
            assert [len(each.recipients) for each in host.taken] == [GROUP - 1, GROUP - 1, 50]
            host.script = lambda heard: None
            with pytest.raises(Permanent, match=r"<r7@x>: .* 550 5\.1\.1 no") as caught_again:
                mailer.process(job(mail, once))
            assert caught_again.value.recipients == ("r7@x",)
            assert host.taken[3].recipients == ["r150@x"]
            assert set(host.copies().values()) == {1}
            assert len(host.copies()) == len(everybody) - 1

    def test_a_server_that_is_out_of_reach_is_asked_once(self, make: Make) -> None:
        everybody = [f"r{number}@x" for number in range(3 * GROUP)]
        with smarthost(lambda heard: "421 4.3.2 busy" + CLOSE) as host:
            with pytest.raises(Temporary, match="busy"):
                make(host).process(job(make_mail(MAIL, *everybody)))
            assert len(host.sessions) == 1

    def test_those_served_before_are_not_named(self, make: Make) -> None:
        everybody = [f"r{number}@x" for number in range(2 * GROUP)]
        once, mail = Remembering(), make_mail(MAIL, *everybody)
        with smarthost(refusing(r0="450 later")) as host:
            mailer = make(host)
            with pytest.raises(Temporary) as caught:
                mailer.process(job(mail, once))
            assert caught.value.recipients == ("r0@x",)
        with pytest.raises(Temporary, match="Connection refused") as caught:
            mailer.process(job(mail, once))
        assert caught.value.recipients == ("r0@x",)

    def test_no_server_listens(self, make: Make) -> None:
        with pytest.raises(Temporary, match="Connection refused") as caught:
            make(transport={"host": HOST, "port": free_port()}).process(job(make_mail(MAIL, "a@x", "b@x")))
        assert caught.value.enhanced == "4.4.1"
        assert caught.value.recipients == ()

    def test_a_server_that_takes_few_at_once(self, make: Make) -> None:
        def script(heard: Heard) -> str | None:
            return "452 4.5.3 too many" if heard.verb == "RCPT" and len(heard.session.rcpts) >= 40 else None

        with smarthost(script) as host:
            everybody = [f"r{number}@x" for number in range(GROUP)]
            make(host).process(job(make_mail(MAIL, *everybody)))
            assert [len(each.recipients) for each in host.taken] == [40, 40, 20]

    def test_doubt(self, make: Make) -> None:
        with smarthost(lambda heard: CLOSE if heard.verb == "." else None) as host:
            mailer, once = make(host), Remembering()
            with pytest.raises(Temporary) as caught:
                mailer.process(job(make_mail(), once))
            assert caught.value.in_doubt
            assert once.results == {}

    def test_no_effect_starts_late_in_a_run(self, make: Make) -> None:
        with smarthost() as host:
            with pytest.raises(Temporary, match="too little of the run"):
                make(host).process(job(make_mail(), seconds_left=lambda: 34))
            assert not host.sessions

    def test_closing_while_idle(self, make: Make) -> None:
        with smarthost() as host:
            mailer = make(host, {"pool": True})
            mailer.process(job(make_mail()))
            mailer.process(job(make_mail()))
            assert len(host.sessions) == 1
            mailer.close()
            assert host.heard[-1] == "QUIT"
            with pytest.raises(Temporary, match="going down"):
                mailer.process(job(make_mail()))

    def test_nobody(self, make: Make) -> None:
        """A flow that took no recipient has nothing to do."""
        with smarthost() as host:
            mail = make_mail()
            nobody = job(mail).__class__(mail, "other", (), Remembering(), lambda: 1e9)
            make(host).process(nobody)
            assert not host.sessions


def test_tls_options(make: Make, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(Authority.shared().identity.pem)
    context = server_context(Authority.shared().issue("mx.server.example"), tmp_path)
    good = {"ca": "file://ca.pem", "servername": "mx.server.example"}
    with smarthost(context=context) as host:
        make(host, {"tls": good, "requireTLS": True}).process(job(make_mail()))
        make(host, {"tls": {"rejectUnauthorized": False}}).process(job(make_mail()))
        make(host, {"ignoreTLS": True}).process(job(make_mail()))
        assert [each.encrypted for each in host.sessions] == [True, True, False]
        with pytest.raises(Temporary, match="not trusted"):
            make(host, {"tls": {"ca": ["file://ca.pem"]}}).process(job(make_mail()))
    with smarthost(context=context, implicit=True) as host:
        make(host, {"secure": True, "tls": good}).process(job(make_mail()))
        assert host.sessions[0].encrypted


def test_lmtp_serves_each_recipient_once(make: Make) -> None:
    script = refusing(verb=".", full="452 4.2.2 full", gone="550 5.1.1 gone")
    with smarthost(script) as host:
        mailer, once = make(host, {"lmtp": True}), Remembering()
        mail = make_mail(MAIL, "a@x", "full@x", "gone@x", "b@x")
        with pytest.raises(Temporary, match=r"452 4\.2\.2 full"):
            mailer.process(job(mail, once))
        host.script = lambda heard: None
        with pytest.raises(Permanent, match="gone") as caught:
            mailer.process(job(mail, once))
        assert caught.value.recipients == ("gone@x",)
        assert host.copies() == {"a@x": 1, "b@x": 1, "full@x": 1}


def test_a_rate_is_kept_and_a_mail_that_waits_long_comes_again(make: Make) -> None:
    with smarthost() as host:
        mailer = make(host, {"pool": True, "rateLimit": 3, "rateDelta": "1h"})
        for _ in range(3):
            mailer.process(job(make_mail()))
        with pytest.raises(Temporary, match="waiting for rateLimit") as caught:
            mailer.process(job(make_mail()))
        assert caught.value.retry_after is not None
        assert 3_600 < caught.value.retry_after <= 4_800
        assert len(host.taken) == 3


class TestOAuth:
    """The mailer with a token endpoint: what a mail gets while the endpoint works, fails, and lies."""

    @pytest.fixture
    def server(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
        monkeypatch.setattr(sources, "REST", 0.0)
        monkeypatch.setattr(pools, "LOGIN_REST", 0.0)
        monkeypatch.setattr(pools, "REST", 0.0)
        with token_server() as made:
            yield made

    def login(self, server: TokenServer) -> dict[str, Any]:
        return {
            "auth": {
                "type": "oauth2",
                "user": "u@x",
                "clientId": "id",
                "clientSecret": "env:PASSWORD",
                "accessUrl": server.url,
            }
        }

    def test_a_mail_goes_out_with_a_token(self, make: Make, server: TokenServer) -> None:
        with smarthost(extensions=("AUTH PLAIN XOAUTH2",)) as host:
            mailer = make(host, self.login(server))
            for _ in range(3):
                mailer.process(job(make_mail()))
            assert {each.password for each in host.sessions} == {"user=u@x\x01auth=Bearer token-1\x01\x01"}
            assert len(server.forms) == 1

    def test_a_token_that_the_server_does_not_take_any_more_is_replaced(
        self, make: Make, server: TokenServer
    ) -> None:
        def script(heard: Heard) -> str | None:
            taken = "token-2" in (heard.session.password or "")
            return "535 5.7.8 gone" if heard.verb == "AUTH" and not taken else None

        with smarthost(script, extensions=("AUTH XOAUTH2",)) as host:
            make(host, self.login(server)).process(job(make_mail()))
            assert len(host.taken) == 1
            assert [each["grant_type"] for each in server.forms] == ["client_credentials"] * 2

    @pytest.mark.parametrize(
        ("answer", "code", "words"),
        [
            (
                refusal("invalid_client", "no such client: geheim"),
                "4.7.8",
                "400 invalid_client: no such client",
            ),
            (Says(500), "4.4.2", "it answers 500"),
            (Says(200, b'{"access_token": "a b"}', {}), "4.4.2", "none that can be used"),
        ],
    )
    def test_a_token_failure_is_temporary_and_says_that_there_is_no_login(
        self, make: Make, server: TokenServer, answer: Says, code: str, words: str
    ) -> None:
        server.answer = lambda form: answer
        with smarthost(extensions=("AUTH XOAUTH2",)) as host:
            mailer = make(host, self.login(server))
            with pytest.raises(Temporary, match=words) as caught:
                mailer.process(job(make_mail()))
            assert (caught.value.enhanced, caught.value.no_login, caught.value.in_doubt) == (
                code,
                True,
                False,
            )
            assert "geheim" not in caught.value.reason
            assert host.sessions == [], "no session is opened that could not log in"
            server.answer = lambda form: None
            mailer.process(job(make_mail()))
            assert len(host.taken) == 1

    def test_a_refused_password_is_no_login_either(self, make: Make) -> None:
        script = lambda heard: "535 5.7.8 no" if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=("AUTH PLAIN",)) as host:
            mailer = make(host, {"auth": {"user": "u", "pass": "env:PASSWORD"}})
            for _ in range(2):
                with pytest.raises(Temporary) as caught:
                    mailer.process(job(make_mail()))
                assert caught.value.no_login

    def test_a_server_that_is_down_is_no_failed_login(self, make: Make, server: TokenServer) -> None:
        mailer = make(transport={"host": HOST, "port": free_port(), **self.login(server)})
        with pytest.raises(Temporary) as caught:
            mailer.process(job(make_mail()))
        assert not caught.value.no_login
