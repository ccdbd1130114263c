"""One result per recipient, and the reports of losses: against a server that follows a script."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from functions.errors import Temporary
from functions.smtp_client.reply import Unreachable
from functions.smtp_client.transaction import Rcpt, transact
from tests.support.clients.relaying import MAIL, message, pool, send
from tests.support.servers.smarthost import CLOSE, EXTENSIONS, RESET, SILENCE, Heard, refusing, smarthost

BARE: Any = ("ENHANCEDSTATUSCODES",)


@pytest.fixture(params=[EXTENSIONS, BARE], ids=["pipelined", "bare"])
def extensions(request: pytest.FixtureRequest) -> Any:
    return request.param


def lines(host: Any, verb: str) -> list[str]:
    return [line for line in host.heard if line.startswith(verb)]


class TestResults:
    def test_everybody_is_served(self, extensions: Any) -> None:
        with smarthost(extensions=extensions) as host:
            tally = send(pool(host.port), "b@x", "c@x")
            assert tally.accepted == ["b@x", "c@x"]
            assert not tally.refused
            assert not tally.deferred
            assert tally.answer.startswith("250 2.0.0 Ok: queued as 0-")
            (taken,) = host.taken
            assert taken.content == MAIL
            assert (taken.reverse_path, taken.recipients) == ("ann@client.example", ["b@x", "c@x"])

    def test_each_recipient_has_its_own(self, extensions: Any) -> None:
        script = refusing(no="550 5.1.1 no <such> user", later="450 4.2.0 try later")
        with smarthost(script, extensions=extensions) as host:
            tally = send(pool(host.port), "no@x", "yes@x", "later@x")
            assert tally.accepted == ["yes@x"]
            assert tally.refused["no@x"].enhanced == "5.1.1"
            assert tally.refused["no@x"].words.endswith("said to RCPT: 550 5.1.1 no <such> user")
            assert tally.deferred["later@x"].words.endswith("450 4.2.0 try later")
            assert host.copies() == {"yes@x": 1}

    def test_no_recipient_is_left_for_the_mail(self, extensions: Any) -> None:
        with smarthost(refusing(no="550 no", later="450 later"), extensions=extensions) as host:
            sessions = pool(host.port, keep=True)
            tally = send(sessions, "no@x", "later@x")
            assert (list(tally.refused), list(tally.deferred)) == (["no@x"], ["later@x"])
            assert tally.refused["no@x"].enhanced == "5.0.0"
            # The session is fit for the next mail.
            assert send(sessions, "yes@x").accepted == ["yes@x"]
            assert len(host.sessions) == 1
            sessions.close()

    @pytest.mark.parametrize(
        ("reply", "refused", "enhanced"),
        [
            ("550 5.7.1 not you", True, "5.7.1"),
            ("451 4.3.0 not now", False, "4.3.0"),
            ("421 4.3.2 going down", False, "4.3.2"),
            ("550 4.7.1 of two minds", True, "5.7.1"),
            ("530 5.7.0 log in first", False, "4.7.0"),
            ("535 5.7.8 who are you", False, "4.7.8"),
        ],
    )
    def test_the_sender_is_not_taken(self, extensions: Any, reply: str, refused: bool, enhanced: str) -> None:
        script = refusing(verb="MAIL", ann=reply)
        with smarthost(script, extensions=extensions) as host:
            sessions = pool(host.port, keep=True)
            tally = send(sessions, "b@x", "c@x")
            verdicts = tally.refused if refused else tally.deferred
            assert {said.enhanced for said in verdicts.values()} == {enhanced}
            assert list(verdicts) == ["b@x", "c@x"]
            host.script = lambda heard: None
            assert send(sessions, "b@x").accepted == ["b@x"]
            sessions.close()

    @pytest.mark.parametrize("verb", ["DATA", "."])
    @pytest.mark.parametrize("reply", ["554 5.7.1 spam", "452 4.3.1 full", "421 4.3.2 bye" + CLOSE])
    def test_the_mail_is_not_taken(self, extensions: Any, verb: str, reply: str) -> None:
        def script(heard: Heard) -> str | None:
            return {"no@x": "550 no"}.get(heard.address) or (reply if heard.verb == verb else None)

        with smarthost(script, extensions=extensions) as host:
            sessions = pool(host.port, keep=True)
            tally = send(sessions, "no@x", "b@x", "c@x")
            assert not tally.accepted
            verdicts = tally.refused if reply.startswith("5") else tally.deferred
            assert [each for each in verdicts if each != "no@x"] == ["b@x", "c@x"]
            assert verdicts["b@x"].words.endswith(reply.removesuffix(CLOSE))
            host.script = lambda heard: None
            assert send(sessions, "b@x").accepted == ["b@x"]
            assert host.copies() == {"b@x": 1}
            sessions.close()

    def test_552_to_a_recipient_means_too_many(self) -> None:
        """RFC 5321 section 4.5.3.1.10."""
        with smarthost(refusing(many="552 too many")) as host:
            tally = send(pool(host.port), "a@x", "many@x")
            assert tally.deferred["many@x"].enhanced == "4.0.0"
            assert tally.crowded

    def test_421_to_a_recipient_ends_the_session(self, extensions: Any) -> None:
        script = refusing(stop="421 4.7.0 too fast" + CLOSE)
        with smarthost(script, extensions=extensions) as host:
            sessions = pool(host.port, keep=True)
            tally = send(sessions, "a@x", "stop@x", "c@x")
            assert list(tally.deferred) == ["stop@x", "c@x", "a@x"]
            assert {said.enhanced for said in tally.deferred.values()} == {"4.7.0"}
            assert not host.taken
            assert send(sessions, "a@x").accepted == ["a@x"]
            sessions.close()

    def test_words_are_kept_short_and_harmless(self) -> None:
        with smarthost(refusing(no="550-5.1.1 one\r\n550 5.1.1 two\x1b[31m\x07 " + "w" * 2_000)) as host:
            words = send(pool(host.port), "no@x").refused["no@x"].words
            assert "said to RCPT: 550 5.1.1 one two [31m  www" in words
            assert len(words) < 600


class TestLosses:
    @pytest.mark.parametrize("how", [CLOSE, RESET, "?? what" + CLOSE, SILENCE])
    @pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
    def test_before_the_mail(self, extensions: Any, verb: str, how: str) -> None:
        with smarthost(lambda heard: how if heard.verb == verb else None, extensions=extensions) as host:
            with pytest.raises(Temporary, match="before it had the mail") as caught:
                send(pool(host.port, socket_timeout=0.3))
            assert not caught.value.in_doubt

    @pytest.mark.parametrize("how", [CLOSE, RESET])
    def test_within_a_large_mail(self, how: str) -> None:
        """More than the kernels buffer: the loss is seen before the final dot."""
        with smarthost(lambda heard: how if heard.verb == "CONTENT" else None) as host:
            host.content_cut = 100_000
            with pytest.raises(Temporary, match="before it had the mail") as caught:
                send(pool(host.port), mail=message(MAIL + b"x" * 70 + b"\r\n" + b"y\r\n" * 10_000_000))
            assert not caught.value.in_doubt

    def test_the_server_says_why_within_the_mail(self) -> None:
        def script(heard: Heard) -> str | None:
            return "552 5.3.4 too much" + CLOSE if heard.verb == "CONTENT" else None

        with smarthost(script) as host:
            host.content_cut = 100_000
            tally = send(pool(host.port), mail=message(MAIL + b"y\r\n" * 10_000_000))
            assert tally.refused["bob@server.example"].words.endswith("552 5.3.4 too much")

    @pytest.mark.parametrize("taken", [True, False])
    @pytest.mark.parametrize("how", [CLOSE, RESET, SILENCE, "what?" + CLOSE, "354 go on"])
    def test_after_the_dot_is_in_doubt(self, how: str, taken: bool) -> None:
        def script(heard: Heard) -> str | None:
            if heard.verb != ".":
                return None
            if taken:
                heard.take()
            return how

        with smarthost(script) as host:
            with pytest.raises(Temporary, match="it may have taken it") as caught:
                send(pool(host.port, socket_timeout=0.3))
            assert caught.value.in_doubt
            assert len(host.taken) == taken

    def test_a_mail_that_cannot_be_read_ends_the_session(self) -> None:
        def chunks() -> Iterator[bytes]:
            yield MAIL
            raise OSError(5, "Input/output error")

        broken = message()
        object.__setattr__(broken, "chunks", chunks)
        with smarthost() as host:
            sessions = pool(host.port, keep=True)
            with pytest.raises(Temporary, match=r"cannot be read: Input/output") as caught:
                send(sessions, mail=broken)
            assert not caught.value.in_doubt
            assert send(sessions).accepted
            assert len(host.taken) == 1
            sessions.close()

    def test_an_endless_reply(self) -> None:
        self._fails("250 " + "x" * 100_000, "without end")

    def test_a_reply_of_endless_lines(self) -> None:
        self._fails("\r\n".join(["250-x"] * 10_000) + "\r\n250 x", "not an SMTP reply")

    def _fails(self, reply: str, says: str) -> None:
        with (
            smarthost(lambda heard: reply if heard.verb == "MAIL" else None) as host,
            pytest.raises(Temporary, match=says),
        ):
            send(pool(host.port))

    def test_the_run_s_time_is_up(self) -> None:
        with (
            smarthost(lambda heard: SILENCE if heard.verb == "RCPT" else None) as host,
            pool(host.port).lease(lambda: 0.2) as lease,
            pytest.raises(Temporary, match="did not answer in time"),
        ):
            transact(lease.connection(), message(), [Rcpt("b@x")])


class TestParameters:
    def test_passed_on_where_offered(self) -> None:
        with smarthost() as host:
            mail = message(
                MAIL,
                eight_bit=True,
                utf8=True,
                parameters=("BODY=8BITMIME", "SIZE=3", "RET=HDRS", "ENVID=x1", "AUTH=<>", "SMTPUTF8"),
            )
            to = Rcpt("b@x", ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;b+40x", "OTHER=1"))
            send(pool(host.port), to, mail=mail)
            assert host.taken[0].mail == (
                f"MAIL FROM:<ann@client.example> SIZE={len(MAIL)} BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x1"
            )
            assert host.taken[0].rcpts == ["RCPT TO:<b@x> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;b+40x"]

    def test_left_out_where_not(self) -> None:
        with smarthost(extensions=BARE) as host:
            mail = message(MAIL, eight_bit=True, utf8=True, parameters=("RET=FULL",))
            send(pool(host.port), Rcpt("b@x", ("NOTIFY=NEVER",)), mail=mail)
            assert host.taken[0].mail == "MAIL FROM:<ann@client.example>"
            assert host.taken[0].rcpts == ["RCPT TO:<b@x>"]

    def test_the_null_sender(self) -> None:
        with smarthost(extensions=BARE) as host:
            send(pool(host.port), mail=message(MAIL, ""))
            assert host.taken[0].mail == "MAIL FROM:<>"

    @pytest.mark.parametrize("parameter", ["RET=FULL\r\nRSET", "ENVID=a b", "ENVID=", "RET=é"])
    def test_nothing_is_smuggled_through_parameters(self, parameter: str) -> None:
        with smarthost() as host:
            send(pool(host.port), mail=message(MAIL, parameters=(parameter,)))
            assert "RET" not in host.taken[0].mail
            assert "ENVID" not in host.taken[0].mail

    @pytest.mark.parametrize(
        "address",
        ["a@x>\r\nRCPT TO:<eve@x", "a@x> NOTIFY=NEVER", "a b@x", "a<b@x", "", "@x", "a@", 'a"b@x', "a\0@x"],
    )
    def test_nothing_is_smuggled_through_addresses(self, address: str) -> None:
        with smarthost() as host:
            tally = send(pool(host.port), address, "good@x")
            assert tally.accepted == ["good@x"]
            assert tally.refused[address].enhanced == "5.1.3"
            if address:
                tally = send(pool(host.port), "good@x", mail=message(MAIL, address))
                assert tally.refused["good@x"].enhanced == "5.1.7"
            assert host.copies() == {"good@x": 1}

    @pytest.mark.parametrize("address", ['"a b>"@x', r'"a\"b"@x', "a+b/c=d@[192.0.2.1]", "postmaster"])
    def test_odd_but_right_addresses(self, address: str) -> None:
        with smarthost() as host:
            assert send(pool(host.port), address).accepted == [address]

    def test_a_mail_too_large_is_not_offered(self) -> None:
        with smarthost(extensions=("SIZE 50",)) as host:
            (said,) = send(pool(host.port)).refused.values()
            assert said.enhanced == "5.3.4"
            assert "takes mails of 50 bytes at most" in said.words
            assert lines(host, "MAIL") == []

    @pytest.mark.parametrize("size", ["SIZE", "SIZE 0", "SIZE what"])
    def test_a_server_without_limit(self, size: str) -> None:
        with smarthost(extensions=(size,)) as host:
            assert send(pool(host.port)).accepted


class TestSmtputf8:
    """RFC 6531."""

    def test_offered(self) -> None:
        with smarthost() as host:
            tally = send(pool(host.port), "bö@x", mail=message(MAIL, "änn@client.example"))
            assert tally.accepted == ["bö@x"]
            assert host.taken[0].mail.startswith("MAIL FROM:<änn@client.example>")
            assert host.taken[0].mail.endswith(" SMTPUTF8")

    def test_only_clients_that_need_it_are_refused(self) -> None:
        with smarthost(extensions=BARE) as host:
            tally = send(pool(host.port), "bö@x", "bob@x")
            assert tally.accepted == ["bob@x"]
            assert tally.refused["bö@x"].enhanced == "5.6.7"
            assert "offers no SMTPUTF8" in tally.refused["bö@x"].words

    @pytest.mark.parametrize(
        "mail",
        [message(MAIL, "änn@client.example"), message("Subject: ä\r\n\r\n".encode(), utf8_header=True)],
    )
    def test_the_mail_needs_it(self, mail: Any) -> None:
        with smarthost(extensions=BARE) as host:
            tally = send(pool(host.port), "b@x", "c@x", mail=mail)
            assert {said.enhanced for said in tally.refused.values()} == {"5.6.7"}
            assert not host.taken

    def test_declared_but_not_needed(self) -> None:
        with smarthost(extensions=BARE) as host:
            assert send(pool(host.port), mail=message(MAIL, utf8=True)).accepted


class TestLmtp:
    """RFC 2033: one reply for each accepted recipient, after the mail."""

    def test_it_says_lhlo_and_each_recipient_has_its_own_reply(self, extensions: Any) -> None:
        script = refusing(verb=".", no="550 5.2.2 mailbox full", later="450 4.2.0 locked")
        with smarthost(script, extensions=extensions) as host:
            sessions = pool(host.port, keep=True, lmtp=True)
            tally = send(sessions, "a@x", "no@x", "b@x", "later@x")
            assert host.heard[0].startswith("LHLO ")
            assert tally.accepted == ["a@x", "b@x"]
            assert tally.refused["no@x"].words.endswith("said to the mail: 550 5.2.2 mailbox full")
            assert tally.deferred["later@x"].enhanced == "4.2.0"
            assert not tally.in_doubt
            assert host.copies() == {"a@x": 1, "b@x": 1}
            # All replies are read, so the session is fit for the next mail.
            assert send(sessions, "c@x").accepted == ["c@x"]
            assert len(host.sessions) == 1
            sessions.close()

    def test_only_recipients_that_were_accepted_have_a_reply(self, extensions: Any) -> None:
        with smarthost(refusing(no="550 5.1.1 no"), extensions=extensions) as host:
            tally = send(pool(host.port, lmtp=True), "no@x", "a@x", "b@x")
            assert (tally.accepted, list(tally.refused)) == (["a@x", "b@x"], ["no@x"])

    @pytest.mark.parametrize("end", [CLOSE, RESET, SILENCE, "299", "354 what"])
    def test_recipients_without_a_reply_are_in_doubt(self, extensions: Any, end: str) -> None:
        with smarthost(refusing(verb=".", b=end), extensions=extensions) as host:
            tally = send(pool(host.port, lmtp=True, socket_timeout=1.0), "a@x", "b@x", "c@x")
            if end == "299":  # any 2yz takes the mail
                assert tally.accepted == ["a@x", "b@x", "c@x"]
                return
            assert tally.accepted == ["a@x"]
            assert list(tally.deferred) == ["b@x", "c@x"]
            assert tally.in_doubt
            assert tally.deferred["c@x"].words.endswith("after it had the mail: it may have taken it")

    def test_a_session_that_ends_with_421_leaves_no_recipient_without_a_result(self, extensions: Any) -> None:
        with smarthost(refusing(verb=".", a="421 4.3.2 bye" + CLOSE), extensions=extensions) as host:
            tally = send(pool(host.port, lmtp=True), "a@x", "b@x")
            assert list(tally.deferred) == ["a@x", "b@x"]
            assert tally.in_doubt, "b has no reply"

    @pytest.mark.parametrize("end", [CLOSE, RESET])
    def test_no_reply_at_all_is_in_doubt(self, extensions: Any, end: str) -> None:
        with smarthost(refusing(verb=".", a=end), extensions=extensions) as host:
            with pytest.raises(Temporary) as caught:
                send(pool(host.port, lmtp=True), "a@x", "b@x")
            assert caught.value.in_doubt

    def test_an_smtp_server_is_not_taken_for_one(self) -> None:
        script = lambda heard: "500 5.5.2 what?" if heard.verb == "EHLO" else None  # noqa: E731
        with smarthost(script) as host:
            with pytest.raises(Unreachable, match=r"said to LHLO: 500 5\.5\.2 what"):
                send(pool(host.port, lmtp=True))
            assert not lines(host, "HELO")
