"""The place of the configuration, the environment's overrides, and the result."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from functions.errors import ConfigError
from functions.options.secrets import secrets_of
from listener.config.load import EMBEDDED_SOURCE, load
from listener.config.relay import HttpAddress, RelayConfig
from tests.support.servers.relay import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.jsonc"))
EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.json"))

LOG = {"outputs": [{"type": "log"}]}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(environ: dict[str, str] | None = None, /, **keys: Any) -> RelayConfig:
    return load(
        None, {"SMTP_RELAY_CONFIG_JSON": json.dumps({"flows": {"in": LOG}, **keys}), **(environ or {})}
    )


class TestFinding:
    def test_without_any_file_the_embedded_default(self):
        config = load(None, {})
        assert config.source == EMBEDDED_SOURCE
        (listener,) = config.resolved_listeners()
        assert (listener.bind, listener.port) == ("127.0.0.1", 10025)
        assert listener.options.auth_optional
        stored = config.flows["debug"].outputs[0].model_dump()
        assert stored["path"] == "./received_emails/"
        assert stored["add_raw_headers"]
        assert stored["retention"] == {"count": 5_000, "age": None, "bytes": None}
        assert config.logs_addresses

    @pytest.mark.parametrize(
        "name", ["smtp-relay.jsonc", "smtp-relay.json", "smtp-relay.yaml", "smtp-relay.yml"]
    )
    def test_the_working_folder(self, name: str):
        Path(name).write_text('{"flows": {}}')
        assert load(None, {}).source == name

    def test_jsonc_comes_first_and_a_named_file_before_it(self, tmp_path: Path):
        Path("smtp-relay.jsonc").write_text('{"flows": {}, "port": 1}')
        Path("smtp-relay.yml").write_text("{flows: {}, port: 2}")
        named = tmp_path / "other.json"
        named.write_text('{"flows": {}, "port": 3} // comments are fine here too')
        assert load(None, {}).port == 1
        assert load(named, {}).port == 3

    def test_yaml(self):
        Path("relay.yaml").write_text(
            "flows:\n  in:\n    filters:\n      - type: whitelist\n        to: [a@b.test]\n"
            "    outputs: [{type: log}]\noptions: {authOptional: true}\nport: 26\n"
        )
        config = load(Path("relay.yaml"), {})
        assert config.port == 26
        assert config.options.auth_optional

    @pytest.mark.parametrize(
        ("name", "text", "words"),
        [
            ("a.json", '{"flows": {},\n "port" 3}', "a.json:2:9: a colon is missing after the name"),
            ("a.json", '{"flows": {}, "flows": {}}', "a.json:1:15: the key 'flows' stands twice"),
            ("a.json", "[]", "a.json: is not an object"),
            ("a.yaml", "flows: {}\nflows: {}\n", "a.yaml:2:1: the key 'flows' stands twice"),
            ("a.yaml", "flows: {\n", "a.yaml:2:1: "),
            ("a.yaml", "on: 1\n", "a.yaml:1:1: a key is text here"),
            ("a.yaml", "flows: !!python/object:os.x {}\n", "a.yaml:1:8: could not determine a constructor"),
            ("a.yaml", "just text", "a.yaml: is not an object"),
            ("a.yaml", "flows: &a {in: *a}", "a.yaml: flows.in"),
        ],
    )
    def test_unreadable_text_names_the_line(self, name: str, text: str, words: str):
        Path(name).write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(Path(name), {})
        assert str(caught.value).startswith(words)

    def test_unreadable_files(self, tmp_path: Path):
        with pytest.raises(ConfigError, match=r"gone\.json: the file does not exist"):
            load(Path("gone.json"), {})
        with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
            load(tmp_path, {})
        Path("latin.json").write_bytes(b'{\n"flows": "\xe9"}')
        with pytest.raises(ConfigError, match=r"latin.json:2: is not UTF-8"):
            load(Path("latin.json"), {})

    def test_a_byte_order_mark_is_no_mistake(self):
        Path("bom.json").write_bytes(b'\xef\xbb\xbf{"flows": {}}')
        assert load(Path("bom.json"), {}).flows == {}


class TestExamples:
    @pytest.mark.parametrize("path", CONFIGS + EXAMPLES, ids=lambda path: path.name)
    def test_load(self, path: Path):
        config = load(path, {})
        assert config.resolved_listeners()

    def test_there_are_some(self):
        assert len(CONFIGS) >= 10
        assert len(EXAMPLES) >= 2

    def test_the_references_kubernetes_file(self):
        config = load(next(path for path in EXAMPLES if path.name == "kubernetes.json"), {})
        flow = config.flows["localhost"]
        assert [label for label, _ in flow.labelled_filters()] == ["whitelist_0", "static-auth_1"]
        assert flow.filters_operator == "AND"
        assert config.options.secure
        assert not config.options.has_certificate
        assert config.spool.url == "file:///tmp/.smtp-relay"
        assert [one.level for one in config.log_outputs] == ["INFO"]
        assert config.warnings == ()

    def test_keys_that_mean_nothing_here_give_a_line_each(self):
        config = load(next(path for path in EXAMPLES if path.name == "reference-forms.json"), {})
        assert [line.partition(": ignored")[0] for line in config.warnings] == [
            "options.logger",
            "options.handshakeTimeout",
            "flows.first.filters[1].allowPrivateUrls",
            "flows.first.outputs[1].nodemailer.logger",
            "flows.first.outputs[1].nodemailer.tls.ecdhCurve",
        ]
        assert dict(secrets_of(config.options))["key"].shown == "file://./certs/tls.key"
        assert config.prometheus is not None
        assert config.prometheus.node_metrics

    def test_the_docker_example_is_reached_from_outside(self):
        (listener,) = load(ROOT / "configs/fake-smtp-docker.jsonc", {}).resolved_listeners()
        assert listener.bind == "0.0.0.0"


class TestDefaults:
    def test_options(self):
        options = read().options
        assert options.size == 40 * 1024 * 1024
        assert options.auth_methods == ("PLAIN", "LOGIN")
        assert options.auth_optional is False
        assert (options.max_clients, options.max_clients_per_ip) == (2000, None)
        assert (options.max_recipients, options.max_messages_per_connection) == (1000, None)
        assert (options.socket_timeout, options.close_timeout) == (60_000, 30_000)
        assert (options.max_header_size, options.max_auth_failures) == (1024 * 1024, 5)
        assert (options.min_data_rate, options.min_free_space) == (100, 100 * 1024 * 1024)
        assert (options.min_version, options.max_line_length) == ("TLSv1.2", 65_536)
        assert options.received is True
        assert options.bare_newline == "normalize"
        assert options.offers_dsn is False

    def test_top_level(self):
        config = read()
        assert config.filter_timeout == 30_000
        assert dict(config.mail_headers) == {"x-smtp-relay": __import__("functions").__version__}
        assert config.cache_path == ".email_${iso8601}_${id}.eml"
        assert (config.keep_cache, config.workers) == (False, 1)
        assert config.health_endpoint is None
        assert config.metrics_endpoint is None
        assert [one.type for one in config.log_outputs] == ["CONSOLE"]
        assert config.logs_addresses is False

    def test_the_digest_is_stable_and_hides_secrets(self):
        assert read().digest == read().digest
        assert len(read().digest) == 64
        assert read(port=1).digest != read(port=2).digest
        user = {"filters": [{"type": "static-auth", "username": "u", "password": "plain:a"}]}
        other = {"filters": [{"type": "static-auth", "username": "u", "password": "plain:b"}]}
        assert read(flows={"a": user}).digest == read(flows={"a": other}).digest


class TestListeners:
    def test_one_from_port_and_bind(self):
        (listener,) = read(port=25, bind="::1").resolved_listeners()
        assert (listener.name, listener.bind, listener.port) == ("25", "::1", 25)
        assert not listener.exposed

    @pytest.mark.parametrize(
        ("bind", "address"),
        [("localhost", "127.0.0.1"), ("*", "0.0.0.0"), ("[::]", "::"), ("h.test", "h.test")],
    )
    def test_names_of_addresses(self, bind: str, address: str):
        assert read(bind=bind).resolved_listeners()[0].bind == address

    def test_versions_of_a_listener_are_looked_at_with_those_of_options(self):
        """An old printer's port: its newest version is older than the default oldest."""
        (old, _) = read(
            options={"minVersion": "TLSv1"}, listeners=[{"port": 1, "maxVersion": "TLSv1.1"}, {"port": 2}]
        ).resolved_listeners()
        assert (old.options.min_version, old.options.max_version) == ("TLSv1", "TLSv1.1")

    @pytest.mark.parametrize("own", [{"key": "k", "cert": "c"}, {"pfx": "p", "passphrase": "s"}])
    @pytest.mark.parametrize(
        "options", [{"pfx": "P", "passphrase": "S"}, {"key": "K", "cert": "C", "passphrase": "S"}, {}]
    )
    def test_a_certificate_is_laid_over_as_a_whole(self, own: dict[str, str], options: dict[str, str]):
        (mine, theirs) = read(
            options=options, listeners=[{"port": 1, **own}, {"port": 2}]
        ).resolved_listeners()
        for listener, wanted in ((mine, own), (theirs, options)):
            found = {name: getattr(listener.options, name) for name in ("key", "cert", "pfx", "passphrase")}
            assert {name: each._text for name, each in found.items() if each is not None} == wanted

    def test_options_are_laid_over(self):
        config = read(
            listeners=[
                {"port": 25, "bind": "0.0.0.0", "authOptional": True},
                {"port": 465, "secure": True, "name": "submissions", "hostname": "mx.test"},
            ],
            options={"size": 1000, "name": "relay.test", "secure": False},
            flows={"in": {**LOG, "listeners": ["submissions"]}, "out": {**LOG, "listeners": 25}},
        )
        smtp, submissions = config.resolved_listeners()
        assert (smtp.name, smtp.options.auth_optional, smtp.options.secure) == ("25", True, False)
        assert (smtp.options.size, smtp.options.name) == (1000, "relay.test")
        assert (submissions.options.secure, submissions.options.auth_optional) == (True, False)
        assert submissions.options.name == "mx.test"
        assert submissions.bind == "127.0.0.1"
        assert config.flows["out"].listeners == ("25",)

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"listeners": [{"port": 25}], "port": 26}, "port cannot stand beside listeners"),
            ({"listeners": [{"port": 25}, {"port": 25}]}, "127.0.0.1:25 stands 2 times"),
            ({"listeners": [{"port": 25, "name": "a"}, {"port": 26, "name": "a"}]}, "have the name 'a'"),
            ({"flows": {"in": {**LOG, "listeners": ["x"]}}}, "no listener is named 'x'; there are 10025"),
            ({"listeners": [{"port": 25, "loggers": []}]}, "put it at the top"),
            ({"loggers": [], "options": {"loggers": []}}, "loggers stands in options too"),
        ],
    )
    def test_contradictions(self, keys: dict[str, Any], words: str):
        with pytest.raises(ConfigError) as caught:
            read(**keys)
        assert words in str(caught.value)


class TestEnvironment:
    def test_the_whole_configuration(self):
        Path("smtp-relay.json").write_text('{"flows": {}, "port": 1}')
        config = load(None, {"SMTP_RELAY_CONFIG_JSON": '{"flows": {}, "port": 2,} // fine'})
        assert (config.port, config.source) == (2, "SMTP_RELAY_CONFIG_JSON")

    def test_spool(self):
        config = read({"SMTP_RELAY_SPOOL": "s3://b/p"}, spool={"url": "file://x", "durability": "none"})
        assert (config.spool.url, config.spool.durability, config.mode) == ("s3://b/p", "fsync", "events")
        kept = read({"SMTP_RELAY_SPOOL": "s3://b"}, spool={"url": "s3://a", "region": "r"})
        assert (kept.spool.bucket, kept.spool.region) == ("b", "r")

    def test_listeners_stand_over_port_and_bind(self):
        config = read({"SMTP_RELAY_LISTENERS": '[{"port": 2525, "secure": true}]'}, port=1, bind="0.0.0.0")
        (listener,) = config.resolved_listeners()
        assert (listener.port, listener.options.secure) == (2525, True)

    def test_trusted_proxies(self):
        config = read({"SMTP_RELAY_TRUSTED_PROXIES": "10.0.0.0/8, 192.0.2.1"})
        assert [str(one) for one in config.options.use_proxy or ()] == ["10.0.0.0/8", "192.0.2.1/32"]  # type: ignore[union-attr]
        listeners = [{"port": 1, "useProxy": True}, {"port": 2, "useProxy": False}, {"port": 3}]
        three = read({"SMTP_RELAY_TRUSTED_PROXIES": '["10.0.0.0/8"]'}, listeners=listeners)
        proxied = [bool(one.options.use_proxy) for one in three.resolved_listeners()]
        assert proxied == [True, False, True]
        assert three.resolved_listeners()[0].options.use_proxy is not True

    def test_health_port(self):
        assert read({"SMTP_RELAY_HEALTH_PORT": "9090"}).health_endpoint == HttpAddress("127.0.0.1", 9090)
        over = read({"SMTP_RELAY_HEALTH_PORT": "9090"}, health={"portNumber": 1, "bind": "::1"})
        assert over.health_endpoint == HttpAddress("::1", 9090)

    def test_health_beside_metrics(self):
        both = read(prometheus={"portNumber": 9100, "bind": "0.0.0.0"})
        assert both.health_endpoint == both.metrics_endpoint == HttpAddress("0.0.0.0", 9100)

    def test_default_bind_stands_under_the_file(self):
        environ = {"SMTP_RELAY_DEFAULT_BIND": "0.0.0.0"}
        assert read(environ).resolved_listeners()[0].bind == "0.0.0.0"
        assert read(environ, bind="127.0.0.1").resolved_listeners()[0].bind == "127.0.0.1"
        two = read(environ, listeners=[{"port": 1}, {"port": 2, "bind": "::1"}], prometheus={"portNumber": 3})
        assert [one.bind for one in two.resolved_listeners()] == ["0.0.0.0", "::1"]
        assert two.metrics_endpoint == HttpAddress("0.0.0.0", 3)
        assert load(None, environ).resolved_listeners()[0].bind == "0.0.0.0"

    @pytest.mark.parametrize(
        ("inbox", "bind"),
        [
            ({"open": True}, "0.0.0.0"),
            ({"users": {"ann": {"password": "plain:secret"}}}, "0.0.0.0"),
            ({"open": True, "bind": "127.0.0.1"}, "127.0.0.1"),
            ({}, None),
        ],
    )
    def test_default_bind_is_that_of_an_inbox_with_a_rule_for_others(
        self, inbox: dict[str, Any], bind: str | None
    ):
        found = read({"SMTP_RELAY_DEFAULT_BIND": "0.0.0.0"}, inbox=inbox).inbox
        assert found is not None
        assert found.bind == bind

    @pytest.mark.parametrize(
        "name",
        [
            "SMTP_RELAY_CONFIG_JSON",
            "SMTP_RELAY_SPOOL",
            "SMTP_RELAY_LISTENERS",
            "SMTP_RELAY_TRUSTED_PROXIES",
            "SMTP_RELAY_HEALTH_PORT",
            "SMTP_RELAY_DEFAULT_BIND",
        ],
    )
    def test_what_kubernetes_sets_for_a_service_is_ignored_with_one_line(self, name: str):
        config = load(None, {name: "tcp://10.96.0.7:8080"})
        assert config.digest == load(None, {}).digest
        (line,) = config.warnings
        assert line.startswith(f"{name}: ignored: tcp://10.96.0.7:8080 ")

    def test_empty_variables_count_as_none(self):
        names = ("CONFIG_JSON", "SPOOL", "LISTENERS", "TRUSTED_PROXIES", "HEALTH_PORT", "DEFAULT_BIND")
        assert load(None, {f"SMTP_RELAY_{name}": "" for name in names}).source == EMBEDDED_SOURCE

    @pytest.mark.parametrize(
        ("variable", "text", "words"),
        [
            ("SMTP_RELAY_LISTENERS", "{", "SMTP_RELAY_LISTENERS:1:2"),
            ("SMTP_RELAY_LISTENERS", "{}", "SMTP_RELAY_LISTENERS: is not a JSON list"),
            (
                "SMTP_RELAY_LISTENERS",
                '[{"prot": 1}]',
                "SMTP_RELAY_LISTENERS: listeners[0]: unknown key 'prot'",
            ),
            ("SMTP_RELAY_HEALTH_PORT", "http", "SMTP_RELAY_HEALTH_PORT: 'http' is not a port"),
            ("SMTP_RELAY_SPOOL", "s4://x", "SMTP_RELAY_SPOOL: spool: 's4://x' is not"),
            ("SMTP_RELAY_TRUSTED_PROXIES", "10.0.0.1/8", "10.0.0.0/8 is meant?"),
        ],
    )
    def test_mistakes_name_the_variable(self, variable: str, text: str, words: str):
        with pytest.raises(ConfigError) as caught:
            read({variable: text})
        assert words in str(caught.value)


def test_loading_imports_no_sdk_and_no_yaml():
    heavy = (
        "boto3",
        "botocore",
        "google.cloud.storage",
        "google.cloud.pubsub_v1",
        "yaml",
        "httpx",
        "dns",
        "aiosmtpd",
        "cryptography",
        "obstore",
    )
    script = (
        "import os, sys; from pathlib import Path; from listener.config.load import load\n"
        "for path in sys.argv[1:]: load(Path(path), os.environ)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    files = [path for path in CONFIGS if path.name.startswith(("aws", "mail2", "fake"))]
    result = subprocess.run(
        [sys.executable, "-c", script, *map(str, files)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("number", ["1:30", "0025", "-010", "1:30.5", "0_7"])
def test_numbers_of_old_yaml_are_refused(number: str):
    from listener.config.yaml import NotYaml, parse_yaml

    with pytest.raises(NotYaml) as caught:
        parse_yaml(f"flows: {{}}\nworkers: {number}\n")
    assert (caught.value.line, caught.value.column) == (2, 10)
    assert number in caught.value.reason


@pytest.mark.parametrize("number", ["0", "25", "0.5", "-1", "1_000", "'0025'", "'1:30'"])
def test_other_numbers_and_texts_of_yaml_are_read(number: str):
    from listener.config.yaml import parse_yaml

    assert parse_yaml(f"a: {number}") is not None


def test_shared_lists_of_yaml_are_searched_for_a_nul_once(tmp_path: Path):
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    file = tmp_path / "a.yaml"
    file.write_text("\n".join([*lines, 'flows: {in: "a\\0b"}']))
    with pytest.raises(ConfigError, match=r"flows\.in: holds a NUL character"):
        load(file, {})
