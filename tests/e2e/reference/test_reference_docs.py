"""The configurations that the replaced system's documentation prints, run as printed: each is
loaded by the real process, and a real client delivers through it."""

from __future__ import annotations

import base64
import json
import re
import smtplib
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import dkim
import pytest

from listener.config.load import load
from tests.support.clouds.gcp import PROJECT, FakeGcs, Pubsub
from tests.support.mails.signer import record, rsa_key, sign
from tests.support.mails.stored import split_block, strip_added_fields
from tests.support.net import HOST, wait_until
from tests.support.servers.dns_server import DnsServer
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.reference import EXAMPLES, Printed, example
from tests.support.servers.relay import ROOT, Relay, flow
from tests.support.servers.smarthost import smarthost

MAIL: Final = (
    b"From: Ann <ann@mydomain.com>\r\nTo: Bob <bob@mydomain.com>\r\nSubject: as printed\r\n"
    b"Date: Mon, 5 Jan 2026 10:00:00 +0000\r\nMessage-ID: <m1@mydomain.com>\r\n\r\nd\xc3\xa9j\xc3\xa0\r\n"
)

ZONE: Final = {
    "sel._domainkey.mydomain.com": {"TXT": [record(rsa_key(1024))]},
    "mydomain.com": {"TXT": ["v=spf1 include:one.example include:two.example ip4:127.0.0.1 -all"]},
    "one.example": {"TXT": ["v=spf1 a:gone1.example -all"]},
    "two.example": {"TXT": ["v=spf1 a:gone2.example -all"]},
    "default._bimi.mydomain.com": {"TXT": ["v=BIMI1; l=https://mydomain.com/logo.svg"]},
    "_dmarc.mydomain.com": {"TXT": ["v=DMARC1; p=reject"]},
    "_dmarc.soft.example": {"TXT": ["v=DMARC1; p=none"]},
}

Run = Callable[..., Printed]


@pytest.fixture(scope="module")
def dns() -> Iterator[DnsServer]:
    with DnsServer(ZONE) as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Starts a printed file, after `write`, with these variables."""
    made: list[Printed] = []

    def start(file: str, config: dict[str, Any] | None = None, **environ: str) -> Printed:
        made.append(Printed(tmp_path / f"{len(made)}", file, **environ))
        if config is not None:
            made[-1].write(config)
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        assert each.stop() == 0
        assert "Traceback" not in each.log()


def send(relay: Relay, mail: bytes = MAIL, *recipients: str, sender: str = "ann@mydomain.com") -> None:
    with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
        client.sendmail(sender, recipients or ("bob@mydomain.com",), mail)


class TestFakeSmtp:
    """The debug server: on a machine, and with the arguments of both `docker run` commands."""

    @pytest.mark.parametrize("file", ["configs/fake-smtp.jsonc", "./configs/fake-smtp-docker.jsonc"])
    def test_stores_in_the_mounted_folder(self, run: Run, file: str) -> None:
        relay = run(file)
        send(relay)
        (stored,) = relay.mails()
        assert strip_added_fields(split_block(stored)[1]) == MAIL

    def test_with_auth(self, run: Run) -> None:
        relay = run("configs/fake-smtp-with-auth.jsonc", SMTP_USERNAME="test", SMTP_PASSWORD="plain:test")
        with pytest.raises(smtplib.SMTPSenderRefused) as refused:
            send(relay)
        assert refused.value.smtp_code == 530
        with smtplib.SMTP(HOST, relay.port, timeout=20) as client:
            client.login("test", "test")
            client.sendmail("ann@mydomain.com", "bob@mydomain.com", MAIL)
        assert len(relay.mails()) == 1

    def test_log(self, run: Run) -> None:
        relay = run("configs/fake-smtp-log.jsonc")
        send(relay)
        assert 'subject="as printed"' in relay.log()
        assert relay.mails() == []


class TestSes:
    """The Kubernetes example: AWS SES behind basic authentication, TLS from the first byte."""

    @pytest.fixture
    def ses(self) -> Iterator[Endpoint]:
        with endpoint() as served:
            served.url = served.url.partition("/ask")[0]
            served.answer = self._answer
            yield served

    @staticmethod
    def _answer(asked: Asked) -> Says:
        account = {"SendQuota": {"Max24HourSend": 200.0, "MaxSendRate": 14.0, "SentLast24Hours": 0.0}}
        body = {"MessageId": "m-1"} if asked.method == "POST" else {"SendingEnabled": True, **account}
        return Says(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})

    def test_sends_for_clients_that_log_in(self, run: Run, ses: Endpoint) -> None:
        relay = run(
            "kubernetes.json",
            SMTP_USERNAME="username",
            SMTP_PASSWORD="plain:password",
            AWS_ENDPOINT_URL=ses.url,
            AWS_REGION="eu-west-1",
            AWS_ACCESS_KEY_ID="key",
            AWS_SECRET_ACCESS_KEY="secret",
        )
        with self._client(relay) as client:
            with pytest.raises(smtplib.SMTPSenderRefused) as refused:
                client.sendmail("ann@mydomain.com", "bob@mydomain.com", MAIL)
            assert refused.value.smtp_code == 530
        with self._client(relay) as client:
            client.login("username", "password")
            client.sendmail("ann@mydomain.com", ["bob@mydomain.com", "eve@mydomain.com"], MAIL)
        wait_until(lambda: self._sent(ses) != [], seconds=20, what="SES to be asked")
        (sent,) = self._sent(ses)
        assert sent["Destination"] == {"ToAddresses": ["bob@mydomain.com", "eve@mydomain.com"]}
        assert strip_added_fields(base64.b64decode(sent["Content"]["Raw"]["Data"])) == MAIL

    @staticmethod
    def _client(relay: Relay) -> smtplib.SMTP_SSL:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return smtplib.SMTP_SSL(HOST, relay.port, timeout=20, context=context)

    @staticmethod
    def _sent(ses: Endpoint) -> list[dict[str, Any]]:
        return [json.loads(asked.body) for asked in ses.asked if asked.path == "/v2/email/outbound-emails"]


class TestGcp:
    """The example of the start page, shorthand as it is: a path and an empty topic."""

    @pytest.fixture
    def gcs(self, tmp_path: Path) -> Iterator[FakeGcs]:
        server = FakeGcs(tmp_path / "gcs", ["myemail"], None, "", "")
        yield server.start()
        server.stop()

    def serve(self, run: Run, gcs: FakeGcs, topics: Pubsub | None = None, **changes: Any) -> Printed:
        config = example("gcp")
        config["flows"]["localhost"]["outputs"][0] |= changes
        environ = {"STORAGE_EMULATOR_HOST": gcs.url, "GOOGLE_CLOUD_PROJECT": PROJECT}
        if topics is not None:
            environ["PUBSUB_EMULATOR_HOST"] = topics.address
        return run("gcp.json", config if changes else None, **environ)

    def test_stores_in_the_bucket(self, run: Run, gcs: FakeGcs) -> None:
        relay = self.serve(run, gcs)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            send(relay, MAIL, "bob@elsewhere.com")
        send(relay)
        wait_until(lambda: gcs.keys("myemail") != [], seconds=20, what="an object")
        (key,) = gcs.keys("myemail")
        assert re.fullmatch(r"\d{8}T\d{9}Z_[0-9a-f-]{36}\.eml", key)
        stored = gcs.read("myemail", key)
        assert stored.endswith(MAIL)
        assert b"X-smtp-relay-RCPT_TO: bob@mydomain.com\r\n" in stored

    def test_publishes_where_a_topic_is_given(self, run: Run, gcs: FakeGcs, tmp_path: Path) -> None:
        pubsub = Pubsub(tmp_path / "pubsub").start()
        try:
            topic = pubsub.topic("mails")
            pubsub.subscribe("reader", topic)
            relay = self.serve(run, gcs, pubsub, pubsub=topic, path="gs://myemail/in/")
            send(relay)
            found: list[dict[str, Any]] = []
            wait_until(
                lambda: bool(found.extend(pubsub.pull("reader")) or found), seconds=20, what="a message"
            )
        finally:
            pubsub.stop()
        event = json.loads(found[0]["data"])
        (key,) = gcs.keys("myemail", "in/")
        assert event["data"]["storage"]["url"] == f"gs://myemail/{key}"
        assert event["data"]["email"]["subject"] == "as printed"


class TestMailAuth:
    """The mail-auth example, each option in it turned, and its result read in the stored mail."""

    def results(self, dns: DnsServer, relay_for: Callable[..., Relay], mail: bytes, **changes: Any) -> str:
        """Authentication-Results of one mail, unfolded, under the example with these options changed."""
        options = example("mail-auth")
        options["mailauth"] |= changes
        options["mailauth"]["resolver"] = {"nameservers": [HOST], "port": dns.port}
        relay = relay_for({"flows": {"in": flow(options)}}, name="mx.mydomain.com")
        send(relay, mail)
        (stored,) = relay.mails()
        found = re.search(rb"^Authentication-Results: (.*?)\r\n(?![ \t])", stored, re.DOTALL | re.MULTILINE)
        assert found is not None
        return " ".join(found[1].decode().split())

    @pytest.fixture
    def signed(self) -> bytes:
        return sign(MAIL, rsa_key(1024), d="mydomain.com", s="sel")

    def test_as_printed(self, dns: DnsServer, relay_for: Callable[..., Relay], signed: bytes) -> None:
        found = self.results(dns, relay_for, signed)
        for each in ("spf=pass", "dkim=pass", "dmarc=pass (p=reject enforced here)", " arc=none"):
            assert each in found
        assert "bimi=" not in found

    @pytest.mark.parametrize(
        ("option", "value", "there", "gone"),
        [
            ("minBitLength", 2048, "dkim=policy", "dkim=pass"),
            ("disableArc", True, "dkim=pass", " arc="),
            ("disableDmarc", True, "dkim=pass", " dmarc="),
            ("disableBimi", False, "bimi=pass", "bimi=none"),
            ("maxResolveCount", 3, "spf=permerror", "spf=pass"),
            ("maxVoidCount", 1, "spf=permerror", "spf=pass"),
        ],
    )
    def test_options(
        self,
        dns: DnsServer,
        relay_for: Callable[..., Relay],
        signed: bytes,
        option: str,
        value: object,
        there: str,
        gone: str,
    ) -> None:
        found = self.results(dns, relay_for, signed, **{option: value})
        assert there in found, found
        assert gone not in found, found

    def test_the_enforced_policy_replaces_the_domains_own(
        self, dns: DnsServer, relay_for: Callable[..., Relay]
    ) -> None:
        options = example("mail-auth")
        options["mailauth"]["resolver"] = {"nameservers": [HOST], "port": dns.port}
        forged = MAIL.replace(b"ann@mydomain.com", b"ann@soft.example")
        enforcing = relay_for({"flows": {"in": flow(options)}})
        with pytest.raises(smtplib.SMTPDataError) as refused:
            send(enforcing, forged)
        assert refused.value.smtp_code == 550
        del options["enforceDmarc"]
        send(relay_for({"flows": {"in": flow(options)}}), forged)


class TestDkimGenerate:
    """`dkim-generate example.com default`, and both snippets that it prints."""

    @pytest.fixture
    def printed(self) -> str:
        command = [sys.executable, "-m", "listener.cli.main", "dkim-generate", "example.com", "default"]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    @pytest.mark.parametrize(("index", "key"), [(0, "dkim"), (1, "dkims")])
    def test_signs(self, new_relay: Callable[..., Relay], printed: str, index: int, key: str) -> None:
        snippet = json.loads(re.findall(r"^\{.*?^\}", printed, re.MULTILINE | re.DOTALL)[index])
        (output,) = snippet["outputs"]
        assert key in output
        mail = MAIL.replace(b"ann@mydomain.com", b"ann@example.com")
        with smarthost() as host:
            output["nodemailer"] = {"host": HOST, "port": host.port, "ignoreTLS": True}
            relay = new_relay({"flows": {"out": {**flow(), "outputs": [output]}}}).start()
            send(relay, mail)
            wait_until(lambda: host.taken != [], seconds=20, what="the smarthost to get the mail")
            (taken,) = host.taken
        value = re.search(
            r"^default\._domainkey\.example\.com (v=DKIM1; k=rsa; p=\S+)$", printed, re.MULTILINE
        )
        assert value is not None
        asked: list[bytes] = []

        def dns(name: bytes, **_: object) -> bytes:
            asked.append(name)
            return value[1].encode()

        assert dkim.verify(taken.content, dnsfunc=dns)
        assert asked == [b"default._domainkey.example.com."]
        assert taken.content.endswith(mail)


class TestTemplateVariables:
    """Every variable that the documentation lists, in a file's name."""

    def test_in_a_file_name(self, relay_for: Callable[..., Relay]) -> None:
        names = ("iso8601", "timestamp", "id", "from", "messageId", "subject", "to")
        filename = "!".join("${" + name + "}" for name in names) + ".eml"
        relay = relay_for({"flows": {"in": flow(filename=filename)}})
        send(relay, MAIL, "bob@mydomain.com", "eve@mydomain.com")
        (file,) = relay.files()
        found = dict(zip(names, file.name.removesuffix(".eml").split("!"), strict=True))
        assert re.fullmatch(r"\d{8}T\d{9}Z", found["iso8601"])
        assert re.fullmatch(r"\d{13}", found["timestamp"])
        assert re.fullmatch(r"[0-9a-f-]{36}", found["id"])
        assert found["from"] == "ann@mydomain.com"
        assert found["messageId"] == "m1@mydomain.com"
        assert found["subject"] == "as printed"
        assert found["to"].split(",")[0] == "bob@mydomain.com"


class TestLoads:
    """Each printed example loads, and `check --from-loopingz` has findings for each."""

    @pytest.mark.parametrize("name", ["gcp", "kubernetes"])
    def test_check(self, name: str, tmp_path: Path) -> None:
        path = EXAMPLES / f"{name}.json"
        assert load(path, {}).warnings == ()
        command = [
            sys.executable,
            "-m",
            "listener.cli.main",
            "check",
            "--offline",
            "--from-loopingz",
            str(path),
        ]
        environ = {"PYTHONPATH": str(ROOT), "SMTP_USERNAME": "u", "SMTP_PASSWORD": "plain:p"}
        done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "differences from loopingz/smtp-relay" in done.stdout
