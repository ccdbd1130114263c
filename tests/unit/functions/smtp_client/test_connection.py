"""Opening a session: greetings, hello, TLS, login, and the reports of their failures."""

from __future__ import annotations

import hmac
import socket
import ssl
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from functions.errors import Temporary
from functions.processors.mailer.output import _Work
from functions.smtp_client.connection import own_name
from functions.smtp_client.pool import Pool
from functions.smtp_client.reply import Unreachable
from functions.smtp_client.server import Login, SmtpServer
from functions.smtp_client.tls import Policy, client_context
from functions.smtp_client.transaction import Rcpt
from tests.support.clients.relaying import endless, job, make_mail, message, pool, send
from tests.support.clients.tls import Authority
from tests.support.net import HOST, free_port
from tests.support.servers.smarthost import CLOSE, SILENCE, Heard, Smarthost, server_context, smarthost

NAME = "mx.server.example"
USER = Login("user", "pass wörd")
DIGEST = hmac.new("pass wörd".encode(), b"<1.2@smarthost.example>", "md5").hexdigest()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    return server_context(Authority.shared().issue(NAME), tmp_path_factory.mktemp("tls"))


def trusting(**options: Any) -> dict[str, Any]:
    policy = Policy(ca=(Authority.shared().identity.pem,), **options)
    return {"policy": policy, "servername": NAME}


def failure(host: Smarthost | int, **options: Any) -> Unreachable:
    port = host if isinstance(host, int) else host.port
    with pytest.raises(Unreachable) as caught:
        send(pool(port, **options))
    return caught.value


class TestGreeting:
    @pytest.mark.parametrize(
        ("verb", "reply", "enhanced"),
        [
            ("CONNECT", "554 5.7.1 not you", "4.7.1"),
            ("CONNECT", "421 4.3.2 too busy" + CLOSE, "4.3.2"),
            ("CONNECT", "554 no" + CLOSE, "4.0.0"),
            ("EHLO", "450 4.7.1 who", "4.7.1"),
        ],
    )
    def test_refused(self, verb: str, reply: str, enhanced: str) -> None:
        """A reply of any class concerns the session, and every mail would fail with it."""
        with smarthost(lambda heard: reply if heard.verb == verb else None) as host:
            fault = failure(host)
            assert fault.enhanced == enhanced
            assert fault.reason.endswith(reply.removesuffix(CLOSE))

    @pytest.mark.parametrize("reply", [CLOSE, SILENCE, "HTTP/1.1 400 Bad Request" + CLOSE])
    def test_no_smtp(self, reply: str) -> None:
        with smarthost(lambda heard: reply) as host:
            assert "did not open a session" in failure(host, greeting_timeout=0.3).reason

    def test_no_server_listens(self) -> None:
        port = free_port()
        fault = failure(port)
        assert fault.reason == f"{HOST}:{port} cannot be reached: Connection refused"
        assert fault.enhanced == "4.4.1"

    def test_no_such_host(self) -> None:

        sessions = Pool(
            SmtpServer("no.such.host.invalid", 25, client_context(Policy())), keep=False, most=1, messages=1
        )
        with pytest.raises(Unreachable, match=r"no\.such\.host\.invalid:25 cannot be reached") as caught:
            send(sessions)
        assert caught.value.enhanced == "4.4.3"

    def test_no_answer_in_time(self) -> None:
        with socket.create_server((HOST, 0), backlog=0) as server:
            port = server.getsockname()[1]
            # With its backlog full the system answers no connection.
            fillers = [socket.socket() for _ in range(3)]
            for each in fillers:
                each.setblocking(False)
                each.connect_ex((HOST, port))
            started = time.monotonic()
            fault = failure(port, connect_timeout=0.3)
            assert time.monotonic() - started < 3
            assert "does not answer" in fault.reason
            for each in fillers:
                each.close()

    def test_an_old_server(self) -> None:
        """RFC 5321 section 3.2."""
        with smarthost(lambda heard: "502 5.5.1 what" if heard.verb == "EHLO" else None) as host:
            assert send(pool(host.port)).accepted
            assert host.taken[0].mail == "MAIL FROM:<ann@client.example>"

    def test_our_name(self) -> None:
        with smarthost() as host:
            send(pool(host.port, hello="relay.client.example"))
            assert host.heard[0] == "EHLO relay.client.example"

    def test_our_own_name(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(socket, "gethostname", lambda: "vm")
        assert own_name("127.0.0.1") == "[127.0.0.1]"
        assert own_name("fe80::1%eth0") == "[IPv6:fe80::1]"
        monkeypatch.setattr(socket, "gethostname", lambda: "vm.client.example")
        assert own_name("127.0.0.1") == "vm.client.example"

    def test_quit(self) -> None:
        with smarthost() as host:
            send(pool(host.port))
            assert host.heard[-1] == "QUIT"


class TestTls:
    def test_used_where_offered(self, context: ssl.SSLContext) -> None:
        with smarthost(context=context) as host:
            assert send(pool(host.port, **trusting())).accepted
            assert host.sessions[0].encrypted
            assert [line.split()[0] for line in host.heard[:3]] == ["EHLO", "STARTTLS", "EHLO"]

    def test_implicit(self, context: ssl.SSLContext) -> None:
        with smarthost(context=context, implicit=True) as host:
            assert send(pool(host.port, implicit_tls=True, **trusting())).accepted
            assert host.sessions[0].encrypted

    def test_never(self, context: ssl.SSLContext) -> None:
        with smarthost(context=context) as host:
            assert send(pool(host.port, starttls="never")).accepted
            assert not host.sessions[0].encrypted

    def test_required(self, context: ssl.SSLContext) -> None:
        with smarthost() as host:
            assert send(pool(host.port)).accepted  # clear text is acceptable here
            fault = failure(host, starttls="always")
            assert (fault.enhanced, "offers no STARTTLS" in fault.reason) == ("4.7.4", True)
            assert len(host.taken) == 1

    @pytest.mark.parametrize("implicit", [True, False])
    @pytest.mark.parametrize(
        "options",
        [{"policy": Policy(), "servername": NAME}, {"policy": trusting()["policy"]}],
        ids=["unknown authority", "other name"],
    )
    def test_certificates_are_checked(
        self, context: ssl.SSLContext, implicit: bool, options: dict[str, Any]
    ) -> None:
        with smarthost(context=context, implicit=implicit) as host:
            fault = failure(host, implicit_tls=implicit, **options)
            assert fault.enhanced == "4.7.5"
            assert "its certificate is not trusted" in fault.reason
            assert not host.taken

    def test_not_when_told_so(self, context: ssl.SSLContext) -> None:
        with smarthost(context=context) as host:
            assert send(pool(host.port, policy=Policy(verify=False))).accepted
            assert host.sessions[0].encrypted

    def test_starttls_is_refused(self, context: ssl.SSLContext) -> None:
        script = lambda heard: "454 4.7.0 not now" if heard.verb == "STARTTLS" else None  # noqa: E731
        with smarthost(script, context=context) as host:
            assert failure(host, **trusting()).reason.endswith("454 4.7.0 not now")

    def test_what_came_in_clear_text_is_not_believed(self, context: ssl.SSLContext) -> None:
        """RFC 3207 section 4.2: a reply injected behind the 220."""
        script = lambda heard: "220 go\r\n250 injected" if heard.verb == "STARTTLS" else None  # noqa: E731
        with smarthost(script, context=context) as host:
            fault = failure(host, **trusting())
            assert (fault.enhanced, "more before TLS" in fault.reason) == ("4.7.5", True)

    def test_no_tls_on_the_port(self) -> None:
        with smarthost() as host:
            fault = failure(host, implicit_tls=True, **trusting())
            assert "TLS failed: WRONG_VERSION_NUMBER" in fault.reason

    def test_versions(self, tmp_path: Path) -> None:
        old = server_context(Authority.shared().issue(NAME), tmp_path)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        with smarthost(context=old) as host:
            assert send(pool(host.port, **trusting())).accepted
            assert "TLS failed" in failure(host, **trusting(min_version="TLSv1.3")).reason

    def test_our_own_certificate(self, tmp_path: Path) -> None:
        picky = server_context(Authority.shared().issue(NAME), tmp_path)
        picky.load_verify_locations(cadata=Authority.shared().identity.pem)
        picky.verify_mode = ssl.CERT_REQUIRED
        own = Authority.shared().issue("client.example")
        with smarthost(context=picky) as host:
            for shown in (
                trusting(cert=own.pem, key=own.key_pem()),
                trusting(cert=own.pem, key=own.key_pem("secret"), passphrase="secret"),
                trusting(cert=own.pem + own.key_pem()),
            ):
                assert send(pool(host.port, **shown)).accepted
            assert failure(host, **trusting()).enhanced in ("4.4.2", "4.7.5")

    @pytest.mark.parametrize(
        ("policy", "says"),
        [
            (Policy(ca=("nonsense",)), "tls.ca"),
            (Policy(ciphers="NO-SUCH-CIPHER"), "tls.ciphers"),
            (Policy(cert="nonsense"), "tls.cert"),
            (Policy(key="x"), "tls.key"),
            (
                Policy(cert=Authority.shared().identity.pem, key=Authority.shared().issue().key_pem()),
                "KEY_VALUES_MISMATCH",
            ),
        ],
    )
    def test_mistakes_are_named(self, policy: Policy, says: str) -> None:
        with pytest.raises(ValueError, match=says):
            client_context(policy)

    def test_old_versions_can_be_allowed(self) -> None:
        context = client_context(Policy(min_version="TLSv1", max_version="TLSv1.2"))
        assert context.maximum_version == ssl.TLSVersion.TLSv1_2


class TestLogin:
    @pytest.mark.parametrize(
        ("offered", "used", "seen"),
        [
            ("PLAIN LOGIN CRAM-MD5", "CRAM-MD5", DIGEST),
            ("LOGIN PLAIN", "PLAIN", "pass wörd"),
            ("LOGIN XOAUTH2", "LOGIN", "pass wörd"),
            ("login", "LOGIN", "pass wörd"),
        ],
    )
    def test_in_clear_text(self, offered: str, used: str, seen: str) -> None:
        with smarthost(extensions=(f"AUTH {offered}",)) as host:
            assert send(pool(host.port, login=USER)).accepted
            (session,) = host.sessions
            assert session.heard[1].split()[:2] == ["AUTH", used]
            assert (session.user, session.password) == ("user", seen)

    def test_under_tls(self, context: ssl.SSLContext) -> None:
        with smarthost(extensions=("AUTH CRAM-MD5 LOGIN PLAIN", "AUTH=LOGIN"), context=context) as host:
            send(pool(host.port, login=USER, **trusting()))
            assert host.heard[3].startswith("AUTH PLAIN ")

    def test_with_a_token(self) -> None:
        with smarthost(extensions=("AUTH PLAIN XOAUTH2",)) as host:
            send(pool(host.port, login=Login("u@x", "to.ken", token=True)))
            assert host.sessions[0].password == "user=u@x\x01auth=Bearer to.ken\x01\x01"

    def test_a_refused_token(self) -> None:
        script = lambda heard: "334 eyJzdGF0dXMiOiI0MDEifQ==" if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=("AUTH XOAUTH2",)) as host:
            fault = failure(host, login=Login("u@x", "to.ken", token=True))
            assert "535 5.7.8 token refused" in fault.reason
            assert "to.ken" not in fault.reason

    def test_refused(self) -> None:
        script = lambda heard: "535 5.7.8 no" if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=("AUTH PLAIN",)) as host:
            sessions = pool(host.port, login=USER)
            for _ in range(3):
                with pytest.raises(Unreachable, match="did not accept the login as 'user'") as caught:
                    send(sessions)
                assert caught.value.enhanced == "4.7.8"
                assert "pass" not in caught.value.reason
            # Mails that wait do not lock the account.
            assert len(host.sessions) == 1

    @pytest.mark.parametrize(
        ("offered", "works", "tried"),
        [
            ("PLAIN LOGIN CRAM-MD5", "PLAIN", ["CRAM-MD5", "PLAIN"]),
            ("PLAIN LOGIN CRAM-MD5", "LOGIN", ["CRAM-MD5", "PLAIN", "LOGIN"]),
            ("LOGIN CRAM-MD5", "LOGIN", ["CRAM-MD5", "LOGIN"]),
            ("LOGIN PLAIN", "none", ["PLAIN", "LOGIN"]),
        ],
    )
    @pytest.mark.parametrize("reply", ["535 5.7.8 no", "504 5.5.4 cannot do it", "500 5.5.2 what?"])
    def test_each_offered_mechanism_is_tried_once_until_one_works(
        self, offered: str, works: str, tried: list[str], reply: str
    ) -> None:
        def script(heard: Heard) -> str | None:
            return reply if heard.verb == "AUTH" and heard.line.split()[1] != works else None

        with smarthost(script, extensions=(f"AUTH {offered}",)) as host:
            sessions = pool(host.port, login=USER)
            if works == "none":
                with pytest.raises(Unreachable) as caught:
                    send(sessions)
                assert all(f"({name}): {reply}" in caught.value.reason for name in tried)
                assert caught.value.no_login
            else:
                assert send(sessions).accepted
            assert [line.split()[1] for line in host.heard if line.startswith("AUTH")] == tried
            assert len(host.sessions) == 1

    def test_no_other_mechanism_is_tried_after_a_temporary_refusal(self) -> None:
        script = lambda heard: "454 4.7.0 later" if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=("AUTH PLAIN LOGIN",)) as host:
            assert "454 4.7.0 later" in failure(host, login=USER).reason
            assert sum(line.startswith("AUTH") for line in host.heard) == 1

    def test_a_server_that_hangs_up_after_a_refusal_is_quoted(self) -> None:
        script = lambda heard: "535 5.7.8 go away" + CLOSE if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=("AUTH PLAIN LOGIN",)) as host:
            assert "(PLAIN): 535 5.7.8 go away" in failure(host, login=USER).reason

    @pytest.mark.parametrize("method", ["PLAIN", "LOGIN", "CRAM-MD5"])
    def test_only_the_method_that_was_named_is_used(self, method: str) -> None:
        script = lambda heard: "535 5.7.8 no" if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=("AUTH PLAIN LOGIN CRAM-MD5",)) as host:
            failure(host, login=replace(USER, method=method))
            assert [line.split()[1] for line in host.heard if line.startswith("AUTH")] == [method]

    def test_a_named_method_that_is_not_offered_is_not_replaced(self) -> None:
        with smarthost(extensions=("AUTH PLAIN",)) as host:
            fault = failure(host, login=replace(USER, method="LOGIN"))
            assert "offers no login that fits, only PLAIN" in fault.reason
            assert not any(line.startswith("AUTH") for line in host.heard)

    @pytest.mark.parametrize(
        ("offered", "method", "seen"),
        [
            (
                "OAUTHBEARER",
                None,
                "n,a=u=3D=2C@x,\x01host={host}\x01port={port}\x01auth=Bearer to.ken\x01\x01",
            ),
            ("OAUTHBEARER XOAUTH2", None, "user=u=,@x\x01auth=Bearer to.ken\x01\x01"),
            (
                "OAUTHBEARER XOAUTH2",
                "OAUTHBEARER",
                "n,a=u=3D=2C@x,\x01host={host}\x01port={port}\x01auth=Bearer to.ken\x01\x01",
            ),
        ],
    )
    def test_both_forms_of_a_token(self, offered: str, method: str | None, seen: str) -> None:
        with smarthost(extensions=(f"AUTH {offered}",)) as host:
            send(pool(host.port, login=Login("u=,@x", "to.ken", token=True, method=method)))
            assert host.sessions[0].password == seen.format(host=HOST, port=host.port)

    @pytest.mark.parametrize(("mechanism", "last"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
    @pytest.mark.parametrize(
        ("says", "status"),
        [
            ('{"status":"400","schemes":"Bearer"}', " (status 400)"),
            ('{"status":"invalid_token"}', " (status invalid_token)"),
            ('{"status":"to.ken"}', ""),
            ('{"status":["400"]}', ""),
            ("[" * 5_000, ""),
            ("nonsense", ""),
        ],
    )
    def test_a_refused_token_is_reported_with_its_status(
        self, mechanism: str, last: str, says: str, status: str
    ) -> None:
        challenge = f"334 {b64encode(says.encode()).decode()}"
        script = lambda heard: challenge if heard.verb == "AUTH" else None  # noqa: E731
        with smarthost(script, extensions=(f"AUTH {mechanism}",)) as host:
            fault = failure(host, login=Login("u@x", "to.ken", token=True))
            assert fault.reason.endswith(f"({mechanism}): 535 5.7.8 token refused{status}")
            assert host.heard[-1] == last

    def test_a_refused_token_is_renewed_once(self) -> None:
        class Renewing:
            made = 0
            gone: ClassVar[list[str]] = []

            def token(self, limit: Callable[[], float]) -> str:
                return f"token-{self.made}"

            def refused(self, token: str) -> None:
                self.gone.append(token)
                self.made += 1

        def script(heard: Heard) -> str | None:
            old = heard.verb == "AUTH" and "token-0" in (heard.session.password or "")
            return "535 5.7.8 old" if old else None

        tokens = Renewing()
        with smarthost(script, extensions=("AUTH XOAUTH2",)) as host:
            assert send(pool(host.port, login=Login("u@x", token=True, tokens=tokens))).accepted
            assert tokens.gone == ["token-0"]
            host.script = lambda heard: "535 5.7.8 no" if heard.verb == "AUTH" else None
            assert "535 5.7.8 no" in failure(host, login=Login("u@x", token=True, tokens=tokens)).reason
            assert tokens.gone == ["token-0", "token-1"]
            assert len(host.sessions) == 4

    def test_nothing_that_fits(self) -> None:
        with smarthost(extensions=("AUTH GSSAPI",)) as host:
            assert "offers no login that fits, only GSSAPI" in failure(host, login=USER).reason

    def test_not_offered(self, caplog: pytest.LogCaptureFixture) -> None:
        """As Nodemailer: goes on without."""
        with smarthost() as host:
            assert send(pool(host.port, login=USER)).accepted
            assert "the server offers no login" in caplog.text
            assert not any(line.startswith("AUTH") for line in host.heard)


class TestPool:
    def test_sessions_are_used_again(self) -> None:
        with smarthost() as host:
            sessions = pool(host.port, keep=True, messages=3)
            for _ in range(7):
                assert send(sessions).accepted
            assert [sum("MAIL" in line for line in each.heard) for each in host.sessions] == [3, 3, 1]
            sessions.close()
            assert host.heard[-1] == "QUIT"

    def test_without_keeping(self) -> None:
        with smarthost() as host:
            sessions = pool(host.port)
            send(sessions)
            send(sessions)
            assert len(host.sessions) == 2

    @pytest.mark.parametrize("goodbye", [CLOSE, "421 4.4.2 idle too long" + CLOSE])
    def test_a_session_that_was_closed_while_idle(self, goodbye: str) -> None:
        closing = False

        def script(heard: Heard) -> str | None:
            if closing and heard.verb == "MAIL" and heard.session.number == 0:
                return CLOSE
            return None

        with smarthost(script) as host:
            sessions = pool(host.port, keep=True)
            send(sessions)
            closing = True
            # It looks alive, and is gone at the first command: another one serves.
            with sessions.lease(endless) as lease:
                assert lease.connection().alive()

            with sessions.lease(endless) as lease:
                work = _Work(job(make_mail()), lease, {"b@x": Rcpt("b@x")}, message)
                assert work.send(["b@x"]).accepted == ["b@x"]
            assert len(host.taken) == 2
            sessions.close()

    def test_turns(self) -> None:

        with smarthost() as host:
            sessions = pool(host.port, keep=True, most=1)
            with sessions.lease(endless):
                with pytest.raises(Temporary, match="every session") as caught, sessions.lease(lambda: 0.05):
                    raise AssertionError("there is one session only")
                assert caught.value.enhanced == "4.4.5"
            with sessions.lease(lambda: 0.05) as lease:
                lease.connection()
            sessions.close()

    def test_a_server_that_kept_us_waiting_is_left_alone_for_as_long(self) -> None:
        with smarthost(lambda heard: SILENCE) as host:
            sessions = pool(host.port, greeting_timeout=0.3)
            for _ in range(5):
                with pytest.raises(Unreachable, match="did not answer in time"):
                    send(sessions)
            assert len(host.sessions) == 1

    @pytest.mark.parametrize(("verb", "doubt"), [("RCPT", False), (".", True)])
    def test_closing_ends_waiting_threads(self, verb: str, doubt: bool) -> None:
        heard = threading.Event()

        def script(about: Heard) -> str | None:
            if about.verb == verb:
                heard.set()
                return SILENCE
            return None

        with smarthost(script) as host:
            sessions = pool(host.port)
            caught: list[Temporary] = []

            def work() -> None:
                try:
                    send(sessions)
                except Temporary as error:
                    caught.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            assert heard.wait(5)
            sessions.close()
            thread.join(5)
            assert not thread.is_alive()
            assert ("closed the connection, before it had the mail" in str(caught[0])) is not doubt
            assert caught[0].in_doubt is doubt
