"""The option models of the outputs: defaults, shorthands, refusals, identities."""

from typing import Any

import pytest
from pydantic import ValidationError

from functions.aws.output.client_options import ClientOptions
from functions.options.secrets import secrets_of
from functions.processors.base import OutputOptions
from functions.processors.mailer.transport_options import service, transport_of_url
from functions.processors.registry import KINDS, OUTPUTS

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/mail"


def read(**options: Any) -> Any:
    return OUTPUTS.parse(options)


def refused(**options: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        OUTPUTS.parse(options)
    return str(caught.value)


def test_every_kind_has_options_of_its_type():
    for name in KINDS:
        model = OUTPUTS.options(name)
        assert model is not None
        assert issubclass(model, OutputOptions)


class TestAws:
    def test_defaults_are_those_of_the_specification(self):
        options = read(type="aws", storage={"bucket": "b"}, pubsub={"topic": QUEUE}, ses={})
        assert options.storage.type == "raw"
        assert options.storage.add_raw_headers is True
        assert options.storage.key == "${iso8601}_${id}.eml"
        assert options.pubsub.truncate == 8192
        assert options.pubsub.format == "cloudevent"
        assert options.ses is not None

    @pytest.mark.parametrize(
        ("storage", "key"),
        [
            ({"bucket": "b", "path": "in/"}, "in/${iso8601}_${id}.eml"),
            ({"bucket": "b", "path": "in/${id}"}, "in/${id}"),
            ({"bucket": "b", "type": "attachments"}, "${id}/${attachment}"),
            ({"bucket": "b", "path": "a/", "type": "attachments"}, "a/${id}/${attachment}"),
        ],
    )
    def test_keys(self, storage: dict[str, str], key: str):
        assert read(type="aws", storage=storage).storage.key == key

    @pytest.mark.parametrize(("ses", "sends"), [(True, True), ({}, True), (False, False)])
    def test_ses_may_be_a_flag(self, ses: object, sends: bool):
        assert (read(type="aws", ses=ses, storage={"bucket": "b"}).ses is not None) is sends

    def test_nothing_to_do_is_refused(self):
        assert "does nothing" in refused(type="aws")
        assert "does nothing" in refused(type="aws", ses=False)

    @pytest.mark.parametrize("where", ["bucket", "topic"])
    def test_templates_are_refused_where_permissions_are_made_from_the_name(self, where: str):
        options: dict[str, dict[str, Any]] = {
            "bucket": {"storage": {"bucket": "mail-${domain}"}},
            "topic": {"pubsub": {"topic": QUEUE + "${flow}"}},
        }
        assert "no template variables" in refused(type="aws", **options[where])

    def test_a_queue_is_a_url(self):
        assert "not the URL of a queue" in refused(type="aws", pubsub={"topic": "mail"})

    def test_unknown_template_variables_are_refused(self):
        assert "${idd}" in refused(type="aws", storage={"bucket": "b", "path": "${idd}.eml"})
        assert "attachments only" in refused(type="aws", storage={"bucket": "b", "path": "${attachment}"})

    def test_assume_role_may_be_its_arn(self):
        arn = "arn:aws:iam::123456789012:role/send"
        assert read(type="aws", ses={}, assumeRole=arn).assume_role.role_arn == arn
        assert "pattern" in refused(type="aws", ses={}, assumeRole="send")

    def test_request_parameters_keep_their_aws_names(self):
        options = read(
            type="aws",
            ses={},
            storage={"bucket": "b"},
            putOptions={"ACL": "private", "SSEKMSKeyId": "k", "StorageClass": "STANDARD_IA"},
            sendRawEmailOptions={"ConfigurationSetName": "c", "Tags": [{"Name": "a", "Value": "b"}]},
        )
        assert options.put_options.model_dump(by_alias=True, exclude_none=True) == {
            "ACL": "private",
            "SSEKMSKeyId": "k",
            "StorageClass": "STANDARD_IA",
        }
        assert options.send_raw_email_options.tags[0].name == "a"

    def test_a_send_rate_is_positive_and_destinations_are_some(self):
        refused(type="aws", ses={"maxSendRate": 0})
        refused(type="aws", ses={}, sendRawEmailOptions={"Destinations": []})

    def test_identity_names_destinations_and_no_secret(self):
        options: dict[str, Any] = {
            "type": "aws",
            "storage": {"bucket": "b"},
            "pubsub": {"topic": QUEUE},
            "s3client": {"credentials": {"accessKeyId": "AKIA", "secretAccessKey": "hush"}},
        }
        identity = read(**options).identity()
        assert "s3://b/" in identity
        assert QUEUE in identity
        assert "hush" not in identity
        assert "AKIA" not in identity
        assert read(**options, name="store").identity() == "store"
        assert read(**{**options, "storage": {"bucket": "c"}}).identity() != identity


class TestAwsClient:
    def test_both_names_give_the_same_arguments(self):
        ours = ClientOptions.model_validate(
            {
                "region_name": "eu-west-1",
                "endpoint_url": "http://127.0.0.1:1",
                "aws_access_key_id": "env:ID",
                "aws_secret_access_key": "k",
                "config": {"s3": {"addressing_style": "path"}},
            }
        )
        theirs = ClientOptions.model_validate(
            {
                "region": "eu-west-1",
                "endpoint": "http://127.0.0.1:1",
                "credentials": {"accessKeyId": "env:ID", "secretAccessKey": "k"},
                "forcePathStyle": True,
            }
        )
        resolve = {"env:ID": "AKIA", "k": "k"}.__getitem__
        assert ours.arguments(resolve) == theirs.arguments(resolve)
        assert ours.arguments(resolve)["aws_access_key_id"] == "AKIA"
        assert ours.config_arguments() == theirs.config_arguments() == {"s3": {"addressing_style": "path"}}

    def test_defaults_add_no_arguments(self):
        assert ClientOptions().arguments(str) == {}
        assert ClientOptions().config_arguments() == {}

    @pytest.mark.parametrize(
        "options",
        [
            {"region": "a", "region_name": "a"},
            {"aws_access_key_id": "a"},
            {
                "aws_access_key_id": "a",
                "aws_secret_access_key": "b",
                "credentials": {"accessKeyId": "a", "secretAccessKey": "b"},
            },
        ],
    )
    def test_contradictions_are_refused(self, options: dict[str, Any]):
        with pytest.raises(ValidationError):
            ClientOptions.model_validate(options)


class TestGcp:
    def test_the_references_shorthand(self):
        options = read(type="gcp", path="gs://myemail/", pubsub="")
        assert options.storage.bucket == "myemail"
        assert options.storage.key == "${iso8601}_${id}.eml"
        assert options.pubsub is None
        assert read(type="gcp", path="gs://b/in/").storage.key == "in/${iso8601}_${id}.eml"
        assert read(type="gcp", pubsub="topic").pubsub.topic == "topic"

    def test_what_was_read_can_be_read_again(self):
        options = read(type="gcp", path="gs://myemail/", pubsub="t")
        assert read(**options.model_dump(by_alias=True, exclude_none=True)) == options

    @pytest.mark.parametrize("path", ["s3://b/", "gs://", "myemail/"])
    def test_other_paths_are_refused(self, path: str):
        assert "is not gs://BUCKET/PREFIX" in refused(type="gcp", path=path)

    def test_one_place_is_enough(self):
        assert "give one of them" in refused(type="gcp", path="gs://b/", storage={"bucket": "b"})
        assert "does nothing" in refused(type="gcp", pubsub="")


class TestMailer:
    def test_both_names_are_one_output(self):
        assert read(type="mailer").identity() == read(type="nodemailer").identity()

    def test_a_url_is_read_into_options(self):
        options = read(
            type="mailer",
            nodemailer="smtps://us%40er:p%2Fw@smtp.test/?pool=true&tls.rejectUnauthorized=false",
        )
        server = options.nodemailer
        assert (server.host, server.effective_port, server.secure, server.pool) == (
            "smtp.test",
            465,
            True,
            True,
        )
        assert server.auth.user == "us@er"
        assert server.auth.password.resolve(str) == "p/w"
        assert server.tls.reject_unauthorized is False
        assert "p/w" not in repr(options)

    @pytest.mark.parametrize(
        "url",
        ["http://u:hush@x", "smtp://u:hush@", "smtp://u:hush@h:99999", "smtp://h/hush", "smtp://hush@[x"],
    )
    def test_other_urls_are_refused_without_showing_them(self, url: str):
        with pytest.raises(ValueError, match="is not a URL") as caught:
            transport_of_url(url)
        assert "hush" not in str(caught.value)

    def test_services(self):
        assert read(type="mailer", nodemailer={"service": "Gmail"}).nodemailer.host == "smtp.gmail.com"
        ses = service("SES-eu-west-1")
        assert ses is not None
        assert ses.host == "email-smtp.eu-west-1.amazonaws.com"
        chosen = read(type="mailer", nodemailer={"service": "Gmail", "host": "proxy.test"}).nodemailer
        assert (chosen.host, chosen.port) == ("proxy.test", 465)
        assert "give host and port" in refused(type="mailer", nodemailer={"service": "nobody"})

    def test_ports(self):
        assert read(type="mailer").nodemailer.effective_port == 587
        assert read(type="mailer", nodemailer={"secure": True}).nodemailer.effective_port == 465
        assert read(type="mailer", nodemailer={"port": 25}).nodemailer.effective_port == 25

    @pytest.mark.parametrize("part", ["text", "html", "attachments"])
    def test_the_body_cannot_be_overridden(self, part: str):
        assert f"{part} cannot be overridden" in refused(type="mailer", override={part: "x"})

    def test_override_takes_the_references_forms(self):
        override = read(
            type="mailer",
            override={
                "to": "a@b.test",
                "cc": [{"name": "C", "address": "c@b.test"}, "d@b.test"],
                "from": {"address": "f@b.test"},
                "headers": [{"key": "X-A", "value": "1"}],
                "replyTo": "r@b.test",
            },
        ).override
        assert override.to == ("a@b.test",)
        assert override.cc == ("C <c@b.test>", "d@b.test")
        assert override.from_ == "f@b.test"
        assert override.headers == {"X-A": "1"}

    @pytest.mark.parametrize(
        "override",
        [
            {"to": "nobody"},
            {"to": "a@b.test\r\nBcc: x@y.test"},
            {"subject": "a\nb"},
            {"headers": {"X A": "1"}},
            {"headers": {"X": "1\r\nY: 2"}},
        ],
    )
    def test_nothing_can_be_smuggled_into_the_header(self, override: dict[str, Any]):
        refused(type="mailer", override=override)

    def test_dkim_in_its_three_places(self):
        key = {"domainName": "Example.com", "keySelector": "a", "privateKey": "file://k.pem"}
        assert read(type="mailer", dkim=key).dkim.domain_name == "example.com"
        assert read(type="mailer", nodemailer={"host": "h", "dkim": key}).dkim.key_selector == "a"
        many = {"example.com": {"keySelector": "a", "privateKey": "env:K"}}
        assert [place for place, _ in secrets_of(read(type="mailer", dkims=many))] == [
            "dkims.example.com.privateKey"
        ]
        assert "is not a domain" in refused(type="mailer", dkims={"exa mple": many["example.com"]})
        assert "give one of them" in refused(type="mailer", dkim=key, nodemailer={"dkim": key})

    def test_tls_contradictions(self):
        assert "exclude each other" in refused(
            type="mailer", nodemailer={"requireTLS": True, "ignoreTLS": True}
        )
