"""The function's zip: its content, and that it needs nothing else."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from functions.config import DeliveryConfig
from infra.bundle.build import bundle, packages, services
from infra.bundle.runtime import THIS_PYTHON, Platform
from infra.bundle.source import ROOT, delivery_part
from listener.config.load import read
from tests.support.clouds.aws_stack import MACHINE, bundled
from tests.support.mails.spooled import MAIL, envelope_of, spool_object
from tests.support.servers.endpoint import Asked, Says, endpoint

HANDLE = """
import json, sys
sys.path.insert(0, sys.argv[1])
class Context:
    aws_request_id = "r"
    def get_remaining_time_in_millis(self):
        return 60_000
from functions.aws.handler import handler
print("ANSWER", json.dumps(handler(json.loads(sys.argv[2]), Context())))
"""


@pytest.fixture(scope="module")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundled(tmp_path_factory.mktemp("config"))


@pytest.fixture
def tree(zipped: Path, tmp_path: Path) -> Path:
    with zipfile.ZipFile(zipped) as archive:
        archive.extractall(tmp_path / "task")
    return tmp_path / "task"


def names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as zipped:
        return zipped.namelist()


def test_the_same_inputs_give_the_same_bytes(zipped: Path, tmp_path: Path) -> None:
    inode, before = zipped.stat().st_ino, zipped.read_bytes()
    again = bundled(tmp_path)
    assert again == zipped
    assert again.stat().st_ino != inode, "not made anew"
    assert again.read_bytes() == before


def test_small_and_with_nothing_that_the_config_does_not_use(zipped: Path) -> None:
    assert zipped.stat().st_size <= 12_000_000
    there = names(zipped)
    services = {
        name.split("/")[2] for name in there if name.startswith("botocore/data/") and name.count("/") > 2
    }
    assert services == {"s3", "sqs", "sns", "events", "dynamodb", "sesv2", "sts", "ssm", "secretsmanager"}
    tops = {name.split("/")[0] for name in there}
    assert not tops & {"listener", "tests", "infra", "s3transfer", "google", "cryptography"}
    assert not [name for name in there if name.startswith(("functions/gcp", "functions/local"))]


def test_signing_takes_six_megabytes_more(tmp_path: Path) -> None:
    key = {"domainName": "example.com", "keySelector": "s", "privateKey": "ssm:/key"}
    mailer = {"type": "mailer", "nodemailer": {"host": "smtp.example.com"}, "dkims": {"example.com": key}}
    config = tmp_path / "signs.json"
    config.write_text(json.dumps({"spool": "s3://any/any", "flows": {"any": {"outputs": [mailer]}}}))
    zipped = bundle(config, Platform(THIS_PYTHON, arch=MACHINE))
    assert "cryptography" in {name.split("/")[0] for name in names(zipped)}
    assert zipped.stat().st_size <= 18_000_000


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mail2s3", {"s3", "sqs"}),
        ("mail2sqs", {"s3", "sqs", "dynamodb"}),
        ("aws-smtp-relay", {"s3", "sqs", "dynamodb", "sesv2"}),
    ],
)
def test_services_are_those_of_the_outputs(name: str, expected: set[str]) -> None:
    part = delivery_part(read(ROOT / "configs" / f"{name}.jsonc", {}).value)
    assert services(DeliveryConfig.model_validate(part, by_alias=True, by_name=False)) == expected


def test_byte_code_is_the_runtimes_own_and_needs_no_source(zipped: Path) -> None:
    with zipfile.ZipFile(zipped) as archive:
        codes = [name for name in archive.namelist() if name.endswith(".pyc")]
        sources = [name for name in archive.namelist() if name.endswith(".py")]
        assert len(codes) == len(sources)
        for name in codes:
            head = archive.read(name)[:8]
            assert head[:4] == importlib.util.MAGIC_NUMBER
            assert head[4:8] == (1).to_bytes(4, "little"), "unchecked-hash (PEP 552)"


def test_the_listeners_secrets_stay_behind() -> None:
    part = delivery_part(
        {
            "flows": {"a": {"filters": [{"type": "static-auth", "password": "plain:x"}], "outputs": []}},
            "options": {"key": "secret"},
            "keepCache": True,
        }
    )
    assert part == {"flows": {"a": {"outputs": []}}, "keepCache": True}


def run(tree: Path, url: str, event: Any, code: str = HANDLE, *more: str) -> subprocess.CompletedProcess[str]:
    """In a Python without site-packages, like Lambda's except for the zip's packages."""
    return subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(tree), json.dumps(event), *more],
        env={
            "PATH": os.environ.get("PATH", ""),
            "AWS_ACCESS_KEY_ID": "k",
            "AWS_SECRET_ACCESS_KEY": "s",
            "AWS_REGION": "eu-west-1",
            "AWS_ENDPOINT_URL": url,
            "LAMBDA_TASK_ROOT": str(tree),
            "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:1",
            "SMTP_RELAY_SPOOL": "s3://spool/relay",
            "SMTP_RELAY_RECEIPTS_TABLE": "receipts",
            "SMTP_RELAY_QUEUE_URL": f"{url}/1/doorbells",
        },
        capture_output=True,
        text=True,
        check=False,
    )


class Aws:
    """As much of S3, SQS and DynamoDB as one mail needs."""

    def __init__(self) -> None:
        self.key, data = spool_object(envelope_of(flows=("inbound",)), MAIL, "relay/")
        self.objects = {f"/spool/{self.key}": data}
        self.stored: dict[str, bytes] = {}
        self.events: list[Any] = []
        self.tables: list[str] = []
        self.requests: list[str] = []

    def __call__(self, asked: Asked) -> Says:
        target = asked.headers.get("x-amz-target", "")
        path = asked.path.partition("?")[0]
        if target.startswith("DynamoDB"):
            self.tables.append(target.partition(".")[2])
            return Says(body=b"{}")
        if target.endswith("SendMessage"):
            self.events.append(json.loads(json.loads(asked.body)["MessageBody"]))
            return Says(body=b'{"MessageId":"m"}')
        self.requests.append("LIST" if "list-type=2" in asked.path else asked.method)
        if "list-type=2" in asked.path:
            return Says(body=b"<ListBucketResult></ListBucketResult>")
        if asked.method == "PUT":
            self.stored[path] = asked.body
            return Says(headers={"ETag": '"e"'})
        if asked.method == "DELETE":
            del self.objects[path]
            return Says(204)
        data = self.objects.get(path)
        return Says(body=data) if data is not None else Says(404, b"<Error><Code>NoSuchKey</Code></Error>")


@pytest.fixture
def aws_api() -> Iterator[tuple[Aws, str]]:
    with endpoint() as api:
        made = Aws()
        api.answer = made
        yield made, api.url.partition("/ask")[0]


def event_for(key: str) -> dict[str, Any]:
    thing = {"bucket": {"name": "spool"}, "object": {"key": key, "size": 1}}
    body = {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": thing}]}
    record = {
        "messageId": "1",
        "receiptHandle": "h",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:1:doorbells",
        "attributes": {"ApproximateReceiveCount": "1"},
        "body": json.dumps(body),
    }
    return {"Records": [record]}


def test_it_delivers_a_mail_with_only_what_it_carries(tree: Path, aws_api: tuple[Aws, str]) -> None:
    aws, url = aws_api
    output = {
        "type": "aws",
        "storage": {"bucket": "mails", "path": "in/"},
        "pubsub": {"topic": f"{url}/1/out"},
    }
    config = {"spool": "s3://spool/relay", "flows": {"inbound": {"outputs": [output]}}}
    (tree / "relay.json").write_text(json.dumps(config))
    done = run(tree, url, event_for(aws.key))
    assert done.returncode == 0, done.stderr[-3000:]
    assert 'ANSWER {"batchItemFailures": []}' in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]
    (stored,) = aws.stored
    assert stored.startswith("/mails/in/")
    assert aws.events[0]["data"]["storage"]["url"].startswith("s3://mails/in/")
    # The first claim of a cold start asks the table for its clock.
    assert aws.tables == ["GetItem", "PutItem", "UpdateItem"]
    assert not aws.objects
    # The requests that S3 charges for: docs/aws.md, cost.
    assert aws.requests == ["GET", "PUT", "DELETE"]


def test_it_sends_to_domains_beyond_ascii(tree: Path, aws_api: tuple[Aws, str]) -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from functions.aws.output.ses import addressed\n"
        "print(*addressed(('kunde@faß.example', 'bob@mu\\u0308nchen.example')))\n"
    )
    done = run(tree, aws_api[1], {}, code)
    assert done.stdout == "kunde@xn--fa-hia.example bob@xn--mnchen-3ya.example\n", done.stderr[-2000:]


@pytest.mark.parametrize(
    ("name", "brought"), [("mail2s3", False), ("mail2sqs", True), ("aws-smtp-relay", True)]
)
def test_what_writes_domains_in_ascii_comes_where_mails_are_sent_or_published(
    name: str, brought: bool
) -> None:
    part = delivery_part(read(ROOT / "configs" / f"{name}.jsonc", {}).value)
    wanted = packages(DeliveryConfig.model_validate(part, by_alias=True, by_name=False))
    assert ("idna" in wanted) == brought


def test_a_missing_dependency_shows(tree: Path, aws_api: tuple[Aws, str]) -> None:
    shutil.rmtree(tree / "jmespath")
    done = run(tree, aws_api[1], {"sweep": True})
    assert done.returncode != 0
    assert "jmespath" in done.stderr


def test_it_sweeps(tree: Path, aws_api: tuple[Aws, str]) -> None:
    done = run(tree, aws_api[1], {"sweep": True})
    assert '"unfinished": 0' in done.stdout, done.stderr[-3000:]


LATE = (
    "asyncio",
    "botocore.docs.method",
    "functions.message.mime",
    "html.parser",
    "idna",
    "importlib.metadata",
    "zipfile",
)


def test_a_start_imports_nothing_that_waits(tmp_path: Path, aws_api: tuple[Aws, str]) -> None:
    """Each of these takes milliseconds of every start, and serves few mails or none. If one comes back,
    a package has changed: see `infra.bundle.sdk`."""
    tree = tmp_path / "task"
    with zipfile.ZipFile(
        bundle(ROOT / "configs" / "mail2s3.jsonc", Platform(THIS_PYTHON, arch=MACHINE))
    ) as archive:
        archive.extractall(tree)
    code = HANDLE + (
        "print('LATE', [name for name in sys.argv[3:] if name in sys.modules])\n"
        "from functions.aws import clients\n"
        "print('CLIENTS', *(each.meta.service_model.service_name for each in clients._made.values()))\n"
    )
    done = run(tree, aws_api[1], {"Records": []}, code, *LATE)
    assert "LATE []" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]
    assert "CLIENTS s3\n" in done.stdout, "one bucket, one client"


def test_every_service_model_serves_its_operations(tree: Path) -> None:
    """Trimmed models are complete: every shape that an operation names is there."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import botocore.session, json\n"
        "session = botocore.session.get_session()\n"
        "for name in ('s3', 'sqs', 'sesv2', 'dynamodb', 'sts', 'ssm', 'secretsmanager'):\n"
        "    client = session.create_client(name, region_name='eu-west-1')\n"
        "    for operation in client.meta.service_model.operation_names:\n"
        "        model = client.meta.service_model.operation_model(operation)\n"
        "        model.input_shape and list(model.input_shape.members.items())\n"
        "        model.output_shape and list(model.output_shape.members.items())\n"
        "        print(name, operation, client.meta.endpoint_url)\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code, str(tree)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "sesv2 SendEmail https://email.eu-west-1.amazonaws.com" in done.stdout
    assert "sts AssumeRole https://sts.eu-west-1.amazonaws.com" in done.stdout
    assert "s3 PutObject https://s3.eu-west-1.amazonaws.com" in done.stdout
