"""The committed examples with outputs to a cloud, as one process each: they store, publish and send
into stand-ins, which only the environment names."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import pytest

from tests.support.clients.wire import submit
from tests.support.clouds.gcp import PROJECT, FakeGcs, Pubsub, call
from tests.support.mails.stored import strip_added_fields
from tests.support.net import PATIENCE, wait_until
from tests.support.servers.endpoint import Asked, Endpoint, Says, endpoint
from tests.support.servers.reference import Printed

MAIL: Final = (
    b"From: Ann <ann@client.example>\r\nTo: bob@mydomain.com\r\nSubject: an example\r\n"
    b"Message-ID: <m1@client.example>\r\n\r\nx\r\n"
)
KEY: Final = r"\d{4}/\d\d/\d\d/\d{8}T\d{9}Z_[0-9a-f-]{36}\.eml"

Run = Callable[..., Printed]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Serves a committed example with these variables, and accepts the mail."""
    made: list[Printed] = []

    def start(name: str, **environ: str) -> Printed:
        made.append(Printed(tmp_path / name, f"configs/{name}.jsonc", **environ))
        made[-1].start()
        assert submit(made[-1].port, MAIL, "ann@client.example", "bob@mydomain.com").code == 250
        return made[-1]

    yield start
    for each in made:
        assert each.stop() == 0
        assert "Traceback" not in each.log()


class TestAws:
    """An AWS that records its requests: S3's PUT, SQS's SendMessage, SES's SendEmail."""

    @pytest.fixture
    def aws(self) -> Iterator[Endpoint]:
        with endpoint() as served:
            served.url = served.url.partition("/ask")[0]
            served.answer = self._answer
            yield served

    @staticmethod
    def _answer(asked: Asked) -> Says:
        body: dict[str, Any] = {}
        if "sqs" in asked.headers.get("x-amz-target", "").lower():
            said = json.loads(asked.body)["MessageBody"].encode()
            body = {"MessageId": "m-1", "MD5OfMessageBody": md5(said, usedforsecurity=False).hexdigest()}
        elif asked.path.startswith("/v2/email/"):
            body = {"MessageId": "m-1", "SendingEnabled": True, "SendQuota": {"MaxSendRate": 14.0}}
        elif asked.method == "PUT":
            return Says(headers={"ETag": '"0"'})
        return Says(body=json.dumps(body).encode(), headers={"Content-Type": "application/json"})

    @staticmethod
    def environment(aws: Endpoint) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": aws.url,
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def asked(self, aws: Endpoint, test: Callable[[Asked], bool]) -> Asked:
        """The one such request, once it came."""
        wait_until(lambda: any(map(test, aws.asked)), seconds=PATIENCE, what="the request")
        (one,) = filter(test, aws.asked)
        return one

    def test_aws_smtp_relay(self, run: Run, aws: Endpoint) -> None:
        run("aws-smtp-relay", **self.environment(aws))
        sent = json.loads(self.asked(aws, lambda one: one.path == "/v2/email/outbound-emails").body)
        assert sent["Destination"] == {"ToAddresses": ["bob@mydomain.com"]}
        assert strip_added_fields(base64.b64decode(sent["Content"]["Raw"]["Data"])) == MAIL

    def test_mail2s3(self, run: Run, aws: Endpoint) -> None:
        run("mail2s3", **self.environment(aws))
        put = self.asked(aws, lambda one: one.method == "PUT")
        assert re.search(KEY, unquote(urlsplit(put.path).path))
        assert "my-inbound-mail" in put.path + put.headers["host"]
        assert MAIL in put.body

    def test_mail2sqs(self, run: Run, aws: Endpoint) -> None:
        run("mail2sqs", **self.environment(aws))
        message = self.asked(aws, lambda one: "x-amz-target" in one.headers)
        said = json.loads(message.body)
        assert said["QueueUrl"] == "https://sqs.eu-west-1.amazonaws.com/123456789012/inbound-mail"
        event = json.loads(said["MessageBody"])
        assert event["data"]["email"]["subject"] == "an example"
        assert event["data"]["storage"]["url"].startswith("s3://my-inbound-mail/inbound/")


class TestGcp:
    @pytest.fixture
    def gcs(self, tmp_path: Path) -> Iterator[FakeGcs]:
        server = FakeGcs(tmp_path / "gcs", ["myemail"], None, "", "")
        yield server.start()
        server.stop()

    def test_mail2gcp(self, run: Run, gcs: FakeGcs) -> None:
        run("mail2gcp", STORAGE_EMULATOR_HOST=gcs.url, GOOGLE_CLOUD_PROJECT=PROJECT)
        wait_until(lambda: gcs.keys("myemail") != [], seconds=PATIENCE, what="an object")
        (key,) = gcs.keys("myemail")
        assert gcs.read("myemail", key).endswith(MAIL)

    def test_mail2gcppubsub(self, run: Run, gcs: FakeGcs, tmp_path: Path) -> None:
        topics = Pubsub(tmp_path / "pubsub").start()
        try:
            place = f"{topics.url}/v1/projects/my-project"
            topic = "projects/my-project/topics/inbound-mail"
            call("PUT", f"{place}/topics/inbound-mail", {})
            call("PUT", f"{place}/subscriptions/reader", {"topic": topic})
            run(
                "mail2gcppubsub",
                STORAGE_EMULATOR_HOST=gcs.url,
                PUBSUB_EMULATOR_HOST=topics.address,
                GOOGLE_CLOUD_PROJECT=PROJECT,
            )
            wait_until(lambda: gcs.keys("myemail") != [], seconds=PATIENCE, what="an object")
            found: list[Any] = []

            def came() -> bool:
                pull = {"maxMessages": 10, "returnImmediately": True}
                answer = call("POST", f"{place}/subscriptions/reader:pull", pull)
                found.extend(answer.get("receivedMessages", ()))
                return bool(found)

            wait_until(came, seconds=PATIENCE, what="a message")
        finally:
            topics.stop()
        (key,) = gcs.keys("myemail")
        event = json.loads(base64.b64decode(found[0]["message"]["data"]))
        assert re.fullmatch(KEY, key)
        assert event["data"]["storage"]["url"] == f"gs://myemail/{key}"
