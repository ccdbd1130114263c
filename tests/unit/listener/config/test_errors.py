"""Mistakes in a configuration: the path, the reason, the nearest key; all of them at once."""

import json
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError, ConfigErrors
from listener.config.errors import keys_of, path_of
from listener.config.load import load
from listener.config.obsolete import HTTP, OPTIONS, RAW_EMAIL, TRANSPORT, without_obsolete
from listener.config.relay import RelayConfig
from listener.config.smtp import SmtpOptions


def mistakes(tmp_path: Path, **keys: Any) -> list[str]:
    """The messages for a file with these keys, its name left out."""
    path = tmp_path / "relay.json"
    path.write_text(json.dumps({"flows": {}, **keys}))
    with pytest.raises(ConfigError) as caught:
        load(path, {})
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    return [line.removeprefix(f"{path}: ") for line in lines]


def output(**options: Any) -> dict[str, Any]:
    return {"in": {"outputs": [options]}}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"flows": output(type="aws", storage={"bucket": "b", "buckett": "b"})},
            "flows.in.outputs[0].storage: unknown key 'buckett', did you mean 'bucket'?",
        ),
        ({"prot": 25}, "unknown key 'prot', did you mean 'port'?"),
        ({"authOptional": True}, "unknown key 'authOptional', it belongs into options"),
        (
            {"options": {"mailHeaders": {}}},
            "options: unknown key 'mailHeaders', it belongs to the top of the file",
        ),
        (
            {"options": {"auth_optional": True}},
            "options: unknown key 'auth_optional', did you mean 'authOptional'?",
        ),
        (
            {"options": {"hideStartTls": True}},
            "options: unknown key 'hideStartTls', did you mean 'hideSTARTTLS'?",
        ),
        (
            {"options": {"sniOptions": {"mx.test": {"pfxx": "a"}}}},
            "options.sniOptions['mx.test']: unknown key 'pfxx', did you mean 'pfx'?",
        ),
        (
            {"options": {"loggers": [{"type": "FILE", "filePath": "x", "filepath": "x"}]}},
            "options.loggers[0]: unknown key 'filePath', did you mean 'filepath'?",
        ),
        (
            {"flows": {"in": {"filters": [{"type": "whitelist", "form": []}]}}},
            "flows.in.filters[0]: unknown key 'form', did you mean 'from'?",
        ),
        (
            {"flows": {"in": {"filters": [{"type": "static_auth"}]}}},
            "flows.in.filters[0]: unknown filter type 'static_auth', did you mean 'static-auth'?",
        ),
        (
            {"flows": output(type="fiel")},
            "flows.in.outputs[0]: unknown output type 'fiel', did you mean 'file'?",
        ),
        (
            {"flows": {"in": {"filters": ["whitelist"]}}},
            "flows.in.filters[0]: expected an object with a type: one filter",
        ),
        ({"flows": {"in": {"filter": []}}}, "flows.in: unknown key 'filter', did you mean 'filters'?"),
        (
            {"flows": {"in": {"filtersOperator": "and"}}},
            "flows.in.filtersOperator: should be 'AND' or 'OR', not 'and'",
        ),
        ({"flows": []}, "flows: should be an object"),
        ({"options": 1}, "options: should be an object"),
        ({"listeners": {}}, "listeners: should be a list"),
        ({"port": 65536}, "port: should be less than or equal to 65535"),
        ({"port": "smtp"}, "port: should be a valid integer"),
        (
            {"workers": "many"},
            "workers: should be a valid integer (write a number), or should be 'auto', not 'many'",
        ),
        ({"options": {"size": -1}}, "options.size: should be greater than or equal to 1"),
        ({"options": {"banner": "a\r\nb"}}, "options.banner: cannot hold line breaks or control characters"),
        ({"options": {"key": "file://k"}}, "options: key and cert go together"),
        (
            {"options": {"minVersion": "TLSv1.3", "maxVersion": "TLSv1.2"}},
            "options: maxVersion TLSv1.2 is older than minVersion TLSv1.3",
        ),
        (
            {"options": {"sniOptions": {"a.test": {"maxVersion": "TLSv1.1"}}}},
            "options: maxVersion TLSv1.1 is older than minVersion TLSv1.2 for sniOptions.a.test",
        ),
        (
            {"options": {"maxVersion": "TLSv1.2"}, "listeners": [{"port": 25, "minVersion": "TLSv1.3"}]},
            "listeners: 25: maxVersion TLSv1.2 is older than minVersion TLSv1.3",
        ),
        (
            {"options": {"useProxy": "everybody"}},
            "options.useProxy: 'everybody' is not an address or a subnet (10.0.0.0/8)",
        ),
        (
            {"mailHeaders": {"X Y": "1"}},
            "mailHeaders: 'X Y' is not a header field name (RFC 5322 section 3.6.8)",
        ),
        ({"prometheus": {"port": 1}}, "prometheus.portNumber: is required"),
        (
            {"flows": {"in": {"filters": [{"type": "whitelist", "to": ["regexp:(?=a)b"]}]}}},
            "flows.in.filters[0].to[0]: ",
        ),
        ({"cachePath": "${idd}.eml"}, "cachePath: unknown variable"),
        (
            {"flows": {"in": {"filters": [{"type": "static-auth", "users": {"a.b": ""}}]}}},
            "flows.in.filters[0].users['a.b']: is empty (fill it in",
        ),
        ({"loggers": [{"type": "FILE"}]}, "loggers[0]: filepath is missing: a FILE logger needs one"),
        (
            {"loggers": [{"type": "CONSOLE", "format": "xml"}]},
            "loggers[0]: format: 'xml' is not text or json, and does not hold %(m)s",
        ),
        (
            {"flows": output(type="mailer", override={"html": "x"})},
            "flows.in.outputs[0].override: html cannot be overridden: the mail's body is forwarded unchanged",
        ),
    ],
)
def test_messages(tmp_path: Path, keys: dict[str, Any], message: str):
    assert any(line.startswith(message) for line in mistakes(tmp_path, **keys))


def test_all_mistakes_at_once(tmp_path: Path):
    path = tmp_path / "relay.json"
    path.write_text('{"flows": {}, "prot": 1, "binding": 2, "options": {"secure": "x"}}')
    with pytest.raises(ConfigErrors) as caught:
        load(path, {})
    assert len(caught.value.problems) == 3
    assert caught.value.where == caught.value.problems[0].where
    assert len(str(caught.value).splitlines()) == 3


def test_no_secret_is_quoted(tmp_path: Path):
    text = "\n".join(
        mistakes(
            tmp_path,
            flows={
                "in": {
                    "filters": [{"type": "static-auth", "username": "u", "password": ["hunter2"]}],
                    "outputs": [
                        {"type": "mailer", "nodemailer": "smtp://u:hunter2@h:x"},
                        {"type": "mailer", "dkim": {"privateKey": {"hunter2": 1}}},
                        {"type": "aws", "ses": {}, "sesClient": {"aws_secret_access_key": 2}},
                    ],
                }
            },
            options={"key": {"pem": "hunter2"}, "passphrase": 3},
        )
    )
    assert "hunter2" not in text
    assert "passphrase" in text


def test_a_file_without_flows(tmp_path: Path):
    path = tmp_path / "relay.json"
    path.write_text("{}")
    with pytest.raises(ConfigError, match="flows: is required"):
        load(path, {})


def test_paths():
    assert path_of(()) == ""
    assert path_of(("flows", "in", "outputs", 0, "storage")) == "flows.in.outputs[0].storage"
    assert path_of(("dkims", "example.com", "privateKey")) == "dkims['example.com'].privateKey"


def test_keys_are_the_files():
    keys = keys_of(SmtpOptions)
    for key in (
        "hideSTARTTLS",
        "hide8BITMIME",
        "hideENHANCEDSTATUSCODES",
        "useXClient",
        "maxClientsPerIp",
        "sniOptions",
    ):
        assert key in keys
    assert "$schema" in keys_of(RelayConfig)


class TestObsolete:
    def test_no_such_key_is_known_to_the_models(self):
        assert not set(OPTIONS) & set(keys_of(SmtpOptions))
        assert len([*OPTIONS, *HTTP, *TRANSPORT, *RAW_EMAIL]) > 30

    def test_what_was_read_stays_as_it_was(self):
        value = {"flows": {}, "options": {"logger": True}}
        cleaned, lines = without_obsolete(value)
        assert value == {"flows": {}, "options": {"logger": True}}
        assert cleaned == {"flows": {}, "options": {}}
        assert len(lines) == 1

    @pytest.mark.parametrize(
        "value",
        [
            {},
            {"options": 1},
            {"flows": 1},
            {"flows": {"a": 1}},
            {"flows": {"a": {"filters": 1}}},
            {"listeners": {}},
        ],
    )
    def test_malformed_files_are_left_to_the_models(self, value: dict[str, Any]):
        assert without_obsolete(value) == (value, ())
