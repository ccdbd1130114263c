"""The configuration as the delivering half reads it: spool, delivery, outputs; it leaves the rest to
the listener."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from functions.config import DeliveryConfig, label_of, load_delivery
from functions.errors import ConfigError
from functions.options.spool import SpoolOptions


def read(**keys: Any) -> DeliveryConfig:
    return DeliveryConfig.model_validate({"flows": {}, **keys}, by_alias=True, by_name=False)


def refused(**keys: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        read(**keys)
    return str(caught.value)


class TestSpool:
    def test_default_is_a_folder(self):
        spool = read().spool
        assert (spool.scheme, spool.in_bucket) == ("file", False)
        assert spool.folder(Path("/srv")) == Path("/srv/.smtp-relay")

    @pytest.mark.parametrize(
        ("url", "scheme", "bucket", "prefix"),
        [
            ("s3://mail", "s3", "mail", ""),
            ("s3://mail/", "s3", "mail", ""),
            ("s3://mail/relay/in/", "s3", "mail", "relay/in/"),
            ("gs://mail/relay", "gs", "mail", "relay/"),
        ],
    )
    def test_buckets(self, url: str, scheme: str, bucket: str, prefix: str):
        spool = read(spool=url).spool
        assert (spool.scheme, spool.bucket, spool.prefix) == (scheme, bucket, prefix)

    @pytest.mark.parametrize(
        ("url", "folder"), [("file:///var/spool", "/var/spool"), ("file://spool", "/srv/spool")]
    )
    def test_folders(self, url: str, folder: str):
        assert read(spool=url).spool.folder(Path("/srv")) == Path(folder)

    @pytest.mark.parametrize(
        "url", ["", "spool", "s3://", "file://", "ftp://x", "s3://b/../c", "s3://mail-${id}"]
    )
    def test_other_places_are_refused(self, url: str):
        refused(spool=url)

    def test_url_is_never_a_secret(self):
        assert "is not file://" in refused(spool="env:SPOOL")

    @pytest.mark.parametrize(
        ("cache", "url"),
        [
            ("/tmp/.email_${iso8601}.eml", "file:///tmp/.smtp-relay"),
            (".email_${id}.eml", "file://./.smtp-relay"),
            ("cache/mails/${id}.eml", "file://cache/mails/.smtp-relay"),
            ("/mails/${date:%Y/%m}/${id}.eml", "file:///mails/.smtp-relay"),
        ],
    )
    def test_default_lies_beside_the_cache(self, cache: str, url: str):
        assert read(cachePath=cache).spool.url == url
        assert read(cachePath=cache, spool="s3://b").spool.url == "s3://b"
        assert read(cachePath=cache, spool={"durability": "none"}).spool.url == url

    @pytest.mark.parametrize(
        ("spool", "words"),
        [
            ({"url": "file://x", "region": "eu-west-1"}, "region cannot be used with file://x"),
            ({"url": "s3://b", "serviceAccountKey": "k"}, "serviceAccountKey cannot be used"),
            ({"url": "s3://b", "accessKeyId": "k"}, "go together"),
            ({"url": "s3://b", "kmsKeyId": "k"}, "aws:kms"),
        ],
    )
    def test_options_fit_the_place(self, spool: dict[str, str], words: str):
        assert words in refused(spool=spool)

    def test_options_of_a_bucket(self):
        spool = read(
            spool={"url": "s3://b", "region": "r", "sse": "aws:kms", "kmsKeyId": "k", "endpoint": "http://x"}
        ).spool
        assert isinstance(spool, SpoolOptions)
        assert (spool.region, spool.sse, spool.kms_key_id, spool.bucket_key) == ("r", "aws:kms", "k", True)


class TestDelivery:
    def test_defaults(self):
        delivery = read().delivery
        assert (delivery.wait, delivery.wait_for) == (10_000, "local")
        assert (delivery.retry.first, delivery.retry.max) == (30_000, 900_000)
        assert delivery.give_up_after == 3 * 24 * 3600 * 1000
        assert delivery.on_doubt == "resend"

    @pytest.mark.parametrize(
        ("keys", "mode"),
        [
            ({}, "in-process"),
            ({"spool": "s3://b"}, "events"),
            ({"spool": "gs://b"}, "events"),
            ({"spool": "s3://b", "delivery": {"mode": "in-process"}}, "in-process"),
        ],
    )
    def test_the_spool_decides_the_delivering_process(self, keys: dict[str, Any], mode: str):
        assert read(**keys).mode == mode

    def test_waits_are_in_order(self):
        assert "longer than max" in refused(delivery={"retry": {"first": 2, "max": 1}})


class TestFlows:
    LOG = {"type": "log"}  # noqa: RUF012

    def test_the_listeners_keys_are_left_alone(self):
        flows = {"in": {"filters": [{"type": "nobody-knows"}], "outputs": [self.LOG]}}
        config = read(flows=flows, options={"x": 1}, port="y")
        assert [label for label, _ in config.flows["in"].labelled()] == ["log_0"]

    def test_names_become_labels(self):
        flows = {"in": {"outputs": [{**self.LOG, "name": "console"}, {"type": "gcp", "path": "gs://b/"}]}}
        labelled = read(flows=flows).flows["in"].labelled()
        assert [label for label, _ in labelled] == ["console", "gcp_1"]
        assert label_of(labelled[1][1], 7) == "gcp_7"

    def test_outputs_that_receipts_cannot_tell_apart_are_refused(self):
        twice = [{"type": "aws", "storage": {"bucket": "b"}}] * 2
        assert "cannot be told apart" in refused(flows={"in": {"outputs": twice}})
        named = [twice[0], {**twice[1], "name": "second"}]
        assert len(read(flows={"in": {"outputs": named}}).flows["in"].outputs) == 2

    def test_the_digest_follows_the_meaning_and_no_secret(self):
        def digest(password: str, **keys: Any) -> str:
            server = {"host": "h", "auth": {"user": "u", "pass": password}}
            return read(flows={"in": {"outputs": [{"type": "mailer", "nodemailer": server}]}}, **keys).digest

        assert digest("one") == digest("two") == digest("one", keepCache=False)
        assert digest("one") != digest("one", keepCache=True)
        assert digest("env:A") != digest("env:B")


class TestLoad:
    def test_file_and_environment(self, tmp_path: Path):
        path = tmp_path / "relay.jsonc"
        path.write_text('{"flows": {}, /* where */ "spool": {"url": "s3://a", "region": "r"},}')
        assert load_delivery(path, {}).spool.bucket == "a"
        moved = load_delivery(path, {"SMTP_RELAY_SPOOL": "s3://b/p"}).spool
        assert (moved.bucket, moved.prefix, moved.region) == ("b", "p/", "r")
        assert load_delivery(path, {"SMTP_RELAY_SPOOL": "gs://b"}).spool.region is None
        whole = {"SMTP_RELAY_CONFIG_JSON": json.dumps({"flows": {}, "spool": "gs://c"})}
        assert load_delivery(path, whole).spool.url == "gs://c"

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("{", "relay.json:1:2"),
            ('{"flows": {"in": {"outputs": [{"type": "awz"}]}}}', "flows.in.outputs.0: unknown output type"),
            ("{}", "flows: Field required"),
        ],
    )
    def test_mistakes(self, tmp_path: Path, text: str, words: str):
        path = tmp_path / "relay.json"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_delivery(path, {})
        assert words in str(caught.value)

    def test_a_missing_file(self, tmp_path: Path):
        with pytest.raises(ConfigError, match="cannot be read"):
            load_delivery(tmp_path / "gone", {})
