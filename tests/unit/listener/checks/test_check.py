"""The findings of `check` about a configuration."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from functions.errors import ConfigError
from functions.processors.registry import OUTPUTS
from listener.checks import report as check
from listener.checks.deployment import in_container, on_container_disk, platform_of
from listener.checks.finding import Platform, Setting
from listener.checks.flows import never_accepts, sentence
from listener.checks.flows import sentences as explained
from listener.checks.listeners import sentences
from listener.checks.loopingz import differences
from listener.checks.strangers import recipients_limited, stranger_passes
from listener.config.load import load
from listener.config.relay import RelayConfig
from listener.filters.registry import FILTERS
from listener.server.build import build_delivery, build_from_bucket
from tests.support.servers.relay import ROOT

SES = {"type": "aws", "ses": {}}
FILE = {"type": "file", "path": "./emails"}
FIVE: Any = {**FILE, "retention": {"count": 5}}
LOG = {"type": "log"}
ANYBODY = {"type": "whitelist", "ips": ["regexp:.*"]}
LOCAL = {"type": "whitelist", "ips": ["127.0.0.1"]}
USERS = {"type": "static-auth", "username": "u", "password": "plain:p"}
OPEN = {"authOptional": True}
GUARD = {"type": "blacklist", "ips": ["192.0.2.1"]}


def read(**keys: Any) -> RelayConfig:
    return load(None, {"SMTP_RELAY_CONFIG_JSON": json.dumps(keys)})


def flow(*filters: dict[str, Any], outputs: Any = (LOG,), **more: Any) -> dict[str, Any]:
    return {"in": {"filters": filters, "outputs": outputs, **more}}


@pytest.fixture
def look(tmp_path: Path) -> Callable[..., list[str]]:
    """The findings of one severity, as text."""

    def found(
        severity: str = "error",
        *,
        public: bool = False,
        platform: Platform | None = None,
        environ: dict[str, str] | None = None,
        **keys: Any,
    ) -> list[str]:
        setting = Setting.of(tmp_path, environ or {}, public=public, platform=platform)
        return [str(one) for one in check.findings(read(**keys), setting) if one.severity == severity]

    return found


def says(lines: list[str], *words: str) -> bool:
    """True if one of the lines holds all the words."""
    return any(all(word in line for word in words) for line in lines)


class TestStrangers:
    @pytest.mark.parametrize(
        ("filters", "operator", "passes"),
        [
            ([], "AND", False),
            ([ANYBODY], "AND", True),
            ([LOCAL], "AND", False),
            ([{"type": "whitelist", "ips": ["regexp:10\\..*"]}], "AND", False),
            ([{"type": "whitelist", "subnets": ["0.0.0.0/0"]}], "AND", True),
            ([{"type": "whitelist", "subnets": ["10.0.0.0/8", "fc00::/7"]}], "AND", False),
            ([{"type": "whitelist", "subnets": ["10.0.0.0/8", "::/0"]}], "AND", True),
            ([{"type": "whitelist", "subnets": ["2000::/3"]}], "AND", True),
            ([{"type": "whitelist", "subnets": ["64.0.0.0/2"]}], "AND", True),
            ([{"type": "whitelist", "subnets": ["9.0.0.0/8", "2a01:db8::/29"]}], "AND", False),
            ([{"type": "whitelist", "ips": ["regexp:[0-9a-f:]+"]}], "AND", True),
            ([{"type": "whitelist", "domains": ["regexp:.*\\.com"]}], "AND", True),
            ([{"type": "whitelist", "domains": ["regexp:.*\\.mine\\.com"]}], "AND", False),
            ([{"type": "whitelist", "domains": ["regexp:.*\\.mine\\.test"]}], "AND", False),
            ([{"type": "whitelist", "domains": ["regexp:.+"]}], "AND", True),
            ([{"type": "whitelist", "from": ["boss@mine.test"]}], "AND", True),
            ([{"type": "whitelist", "to": ["a@mine.test"]}], "AND", True),
            ([{"type": "whitelist", "ips": ["127.0.0.1"], "from": ["boss@mine.test"]}], "AND", False),
            ([{"type": "whitelist", "ips": ["127.0.0.1"], "from": ["boss@mine.test"]}], "OR", True),
            ([ANYBODY, LOCAL], "AND", False),
            ([ANYBODY, LOCAL], "OR", True),
            ([ANYBODY, USERS], "AND", False),
            ([ANYBODY, USERS], "OR", True),
            ([USERS], "OR", False),
            ([{"type": "mail-auth"}], "AND", True),
            ([{"type": "http-filter", "url": "http://x"}], "AND", False),
            ([{"type": "http-auth", "url": "http://x"}], "AND", False),
            ([{"type": "whitelist", "ips": ["glob:*"]}], "AND", True),
            ([{"type": "whitelist", "ips": ["glob:10.*"]}], "AND", False),
            ([{"type": "whitelist", "ips": ["glob:10.*"], "to": ["a@mine.test"]}], "OR", True),
            ([{"type": "whitelist", "domains": ["glob:*.com"]}], "AND", True),
            ([{"type": "whitelist", "domains": ["glob:*.mine.com"]}], "AND", False),
            ([{"type": "blacklist", "ips": ["192.0.2.1"]}], "AND", False),
            ([{"type": "blacklist", "ips": ["192.0.2.1"]}], "OR", False),
            ([ANYBODY, {"type": "blacklist", "ips": ["192.0.2.1"]}], "AND", True),
            ([ANYBODY, {"type": "blacklist", "ips": ["192.0.2.1"]}], "OR", True),
            ([LOCAL, {"type": "blacklist", "to": ["a@mine.test"]}], "AND", False),
            ([LOCAL, {"type": "blacklist", "to": ["a@mine.test"]}], "OR", False),
        ],
    )
    def test_who_gets_through(self, filters: list[dict[str, Any]], operator: str, passes: bool):
        config = read(flows=flow(*filters, filtersOperator=operator), options=OPEN)
        (listener,) = config.resolved_listeners()
        assert stranger_passes(config, "in", listener) is passes

    def test_required_authentication_keeps_strangers_out(self):
        both = {**flow(ANYBODY), "users": {"filters": [USERS], "outputs": [LOG]}}
        config = read(flows=both)
        assert not stranger_passes(config, "in", config.resolved_listeners()[0])
        optional = read(flows=both, options=OPEN)
        assert stranger_passes(optional, "in", optional.resolved_listeners()[0])
        lifted = read(flows=both, options={"disabledCommands": ["AUTH"]})
        assert stranger_passes(lifted, "in", lifted.resolved_listeners()[0])

    def test_authentication_that_anybody_passes_keeps_no_stranger_out(self):
        config = read(flows=flow(ANYBODY))
        assert stranger_passes(config, "in", config.resolved_listeners()[0])
        anybody = {"type": "http-filter", "url": "http://x", "allowAnyUser": True}
        two = read(flows={**flow(ANYBODY), "b": {"filters": [anybody, USERS]}})
        assert stranger_passes(two, "in", two.resolved_listeners()[0])

    def test_a_flow_concerns_its_listeners_only(self):
        config = read(
            flows=flow(ANYBODY, listeners=["a"]),
            listeners=[{"port": 1, "name": "a"}, {"port": 2, "name": "b"}],
            options=OPEN,
        )
        assert [stranger_passes(config, "in", one) for one in config.resolved_listeners()] == [True, False]

    @pytest.mark.parametrize(
        ("to", "limited"),
        [
            (["a@mine.test"], True),
            (["regexp:.*@mine\\.test"], True),
            (["regexp:.*@.*"], False),
            (["glob:*@mine.test"], True),
            (["glob:*@*"], False),
            ([], False),
        ],
    )
    def test_limited_recipients(self, to: list[str], limited: bool):
        config = read(flows=flow({"type": "whitelist", "to": to, "ips": ["regexp:.*"]}))
        assert recipients_limited(config.flows["in"]) is limited
        guarded = read(flows=flow({"type": "whitelist", "to": to}, GUARD, filtersOperator="OR"))
        assert recipients_limited(guarded.flows["in"]) is limited

    def test_a_blacklist_limits_no_recipients(self):
        guarded = flow(ANYBODY, {"type": "blacklist", "to": ["a@mine.test"]})
        assert not recipients_limited(read(flows=guarded).flows["in"])

    @pytest.mark.parametrize("kind", FILTERS.kinds)
    @pytest.mark.parametrize("operator", ["AND", "OR"])
    def test_each_filter_alone(self, look: Any, kind: str, operator: str):
        """A stranger's possibilities through a flow of this one filter, with its options as open as
        possible."""
        alone = {
            "whitelist": {"ips": "regexp:.*"},
            "blacklist": {"ips": "192.0.2.1"},
            "static-auth": {"username": "u", "password": "plain:p"},
            "http-auth": {"url": "http://x"},
            "http-filter": {"url": "http://x", "allowAnyUser": True},
            "respond": {"plusAddresses": True, "testOnly": True},
            "mail-auth": {},
            "sending-policy": {"rules": [{"ip": "0.0.0.0/0"}]},
        }[kind]
        keys = {
            "flows": flow({"type": kind, **alone}, outputs=[SES], filtersOperator=operator),
            "options": OPEN,
        }
        assert says(look(public=True, **keys), "open relay") is (kind in {"whitelist", "mail-auth"})

    @pytest.mark.parametrize("kind", OUTPUTS.kinds)
    def test_each_output_alone(self, look: Any, kind: str):
        alone = {
            "file": {"path": "x"},
            "aws": {"storage": {"bucket": "b"}, "ses": {}},
            "gcp": {"path": "gs://b/"},
            "webhook": {"url": "https://h.example.com/"},
        }.get(kind, {})
        keys = {"flows": flow(ANYBODY, outputs=[{"type": kind, **alone}]), "options": OPEN}
        assert says(look(public=True, **keys), "open relay") is (kind in {"mailer", "nodemailer", "aws"})


def test_a_url_is_not_shown_whole():
    """It may hold a token."""
    asked = {"type": "http-filter", "url": "https://judge.test/hooks/T0KEN?key=s3cret"}
    assert sentence("in", read(flows=flow(asked)).flows["in"]).startswith(
        "Flow in takes mail that judge.test accepts;"
    )


class TestPublic:
    @pytest.mark.parametrize("output", [SES, {"type": "mailer"}, {"type": "nodemailer"}])
    def test_a_stranger_that_reaches_a_sending_output_is_refused(self, look: Any, output: dict[str, Any]):
        keys = {"flows": flow(ANYBODY, outputs=[output]), "options": OPEN}
        assert says(look(public=True, **keys), "flows.in.outputs[0]", "a stranger", "an open relay")
        assert not says(look(**keys), "a stranger")
        assert says(look("warning", bind="0.0.0.0", **keys), "a stranger")

    def test_named_recipients_are_refused_too(self, look: Any):
        keys = {"flows": flow({"type": "whitelist", "to": ["a@mine.test"]}, outputs=[SES]), "options": OPEN}
        assert says(look(public=True, **keys), "a stranger", "to the recipients it lists")

    @pytest.mark.parametrize("output", [LOG, FILE, {"type": "gcp", "path": "gs://b/"}])
    def test_storing_for_strangers_is_what_an_mx_does(self, look: Any, output: dict[str, Any]):
        keys = {"flows": flow(ANYBODY, outputs=[output]), "options": OPEN}
        assert not says(look(public=True, **keys), "a stranger")

    def test_users_may_send(self, look: Any):
        assert not says(look(public=True, flows=flow(USERS, outputs=[SES])), "a stranger")

    @pytest.mark.parametrize(
        ("options", "word"),
        [
            ({"allowInsecureAuth": True}, "allowInsecureAuth"),
            ({"hideSTARTTLS": True}, "hideSTARTTLS"),
            ({"disabledCommands": ["starttls"]}, "STARTTLS among disabledCommands"),
        ],
    )
    def test_passwords_in_clear_text(self, look: Any, options: dict[str, Any], word: str):
        keys = {"flows": flow(USERS, outputs=[SES]), "options": options}
        assert says(look(public=True, **keys), word, "clear text")
        assert says(look("warning", **keys), word, "clear text")
        keeps = {**keys, "flows": flow(USERS, outputs=[FILE, LOG])}
        assert says(look(public=True, **keeps), word, "clear text")
        assert not says(look("warning", **keeps), "clear text")
        implicit = {**keys, "options": {**options, "secure": True}}
        assert not says(look(public=True, **implicit), "clear text")
        without = {**keys, "options": {**options, "disabledCommands": ["AUTH"]}}
        assert not says(look(public=True, **without), "clear text")

    @pytest.mark.parametrize("key", ["useProxy", "useXClient", "useXForward"])
    def test_no_unnamed_peer_is_trusted(self, look: Any, key: str):
        keys = {"flows": flow(USERS)}
        assert says(look(public=True, **keys, options={key: True}), f"options.{key}", "any address")
        assert says(look("warning", bind="0.0.0.0", **keys, options={key: True}), f"options.{key}")
        assert not says(look(public=True, **keys, options={key: ["10.0.0.0/8"]}), "any address")

    def test_metrics(self, look: Any):
        keys = {"flows": flow(USERS), "prometheus": {"portNumber": 9100}}
        assert says(look("warning", public=True, **keys), "prometheus", "strangers")
        assert not says(look("warning", **keys), "strangers")


class TestFlows:
    @pytest.mark.parametrize(
        ("flows", "options", "reason"),
        [
            (flow(), {}, "it has no filter"),
            (flow({"type": "whitelist"}), {}, "whitelist_0 lists nothing"),
            (flow({"type": "static-auth"}), {}, "static-auth_0 has no user"),
            (flow(USERS), {"disabledCommands": ["AUTH"]}, "needs AUTH, which no listener offers"),
            (flow(USERS), {"authMethods": []}, "needs AUTH, which no listener offers"),
            (
                flow({"type": "whitelist", "domains": ["a.test"]}),
                {"disableReverseLookup": True},
                "disableReverseLookup",
            ),
            (
                flow({"type": "whitelist"}, {"type": "static-auth"}, filtersOperator="OR"),
                {},
                "each filter fails",
            ),
            (flow(LOCAL, listeners=[]), {}, "it serves no listener"),
            (flow(GUARD), {}, "its filters only object: at least one must accept"),
            (flow(GUARD, filtersOperator="OR"), {}, "its filters only object: at least one must accept"),
            (flow(GUARD, {"type": "whitelist"}), {}, "whitelist_1 lists nothing"),
            (flow(GUARD, {"type": "whitelist"}, filtersOperator="OR"), {}, "each filter fails"),
        ],
    )
    def test_that_never_take(self, look: Any, flows: Any, options: dict[str, Any], reason: str):
        assert reason in never_accepts(read(flows=flows, options=options), "in", {})
        assert says(look("warning", flows=flows, options=options), "flows.in: takes nothing", reason)

    @pytest.mark.parametrize(
        ("flows", "options", "environ"),
        [
            (flow(LOCAL), {}, {}),
            (flow(USERS), {}, {}),
            (flow({"type": "static-auth"}), {}, {"SMTP_USERNAME": "u", "SMTP_PASSWORD": "plain:p"}),
            (flow({"type": "static-auth", "users": {"u": "plain:p"}}), {}, {}),
            (flow({"type": "whitelist"}, LOCAL, filtersOperator="OR"), {}, {}),
            (flow({"type": "blacklist"}, LOCAL), {}, {}),
            (
                flow({"type": "whitelist", "domains": ["a.test"], "ips": ["192.0.2.1"]}),
                {"disableReverseLookup": True},
                {},
            ),
        ],
    )
    def test_that_can_take(self, flows: Any, options: dict[str, Any], environ: dict[str, str]):
        assert never_accepts(read(flows=flows, options=options), "in", environ) == ""

    @pytest.mark.parametrize(
        ("fields", "options", "words"),
        [
            ({}, {}, "never objects: it lists nothing"),
            (
                {"domains": "a.test"},
                {"disableReverseLookup": True},
                "never objects: it asks for the client's",
            ),
        ],
    )
    def test_a_blacklist_that_cannot_object(self, look: Any, fields: Any, options: Any, words: str):
        keys = {"flows": flow(LOCAL, {"type": "blacklist", **fields}), "options": options}
        assert says(look("warning", **keys), "flows.in.filters[1]", words)
        assert not says(look("warning", flows=flow(LOCAL, GUARD)), "never objects")

    @pytest.mark.parametrize("kind", ["whitelist", "blacklist"])
    @pytest.mark.parametrize(
        ("field", "value", "cure"),
        [
            ("to", "*@example.com", "write glob:*@example.com"),
            ("from", "b?b@example.com", "write glob:b?b@example.com"),
            ("domains", "*.example.com", "write glob:*.example.com"),
            ("to", "glob:*", "write glob:*@*"),
            ("from", "glob:*.example.com", "because * does not match @"),
        ],
    )
    def test_a_pattern_that_is_none(self, look: Any, kind: str, field: str, value: str, cure: str):
        keys = flow(
            LOCAL, {"type": kind, field: ["glob:*@good.test" if field != "domains" else "a.test", value]}
        )
        assert says(look("warning", flows=keys), f"flows.in.filters[1].{field}[1]: ", cure)
        assert not says(look("warning", flows=keys), f"{field}[0]")

    def test_without_outputs_or_flows(self, look: Any):
        assert says(look("warning", flows=flow(LOCAL, outputs=[])), "flows.in.outputs", "go nowhere")
        assert says(look("warning", flows={}), "there is no flow")

    @pytest.mark.parametrize(
        ("flows", "words"),
        [
            (
                flow(LOCAL, USERS),
                "Flow in takes mail from clients at 127.0.0.1 and of clients that log in as u; it logs it.",
            ),
            (
                flow({"type": "whitelist", "to": ["a@b.test"]}, USERS, filtersOperator="OR"),
                "Flow in takes mail to a@b.test or of clients that log in as u; it logs it.",
            ),
            (
                flow(
                    {"type": "whitelist", "from": [""], "subnets": ["10.0.0.0/8", "::/0"]},
                    outputs=[FILE, SES],
                ),
                "Flow in takes mail from clients at 10.0.0.0/8 or ::/0 and with the reverse-path <>; "
                "it stores it in ./emails and sends it on through SES.",
            ),
            (
                flow(LOCAL, GUARD, listeners=["10025"]),
                "Flow in takes mail from clients at 127.0.0.1, but none from clients at 192.0.2.1, "
                "on listener 10025; it logs it.",
            ),
            (flow(outputs=[]), "Flow in takes no mail; it keeps none."),
            (
                flow(LOCAL, listeners=[]),
                "Flow in takes mail from clients at 127.0.0.1, on no listener; it logs it.",
            ),
        ],
    )
    def test_are_explained_in_plain_sentences(self, flows: Any, words: str):
        assert sentence("in", read(flows=flows).flows["in"]) == words

    def test_the_flow_of_released_mails_takes_them_from_users_of_the_inbox(self):
        release = {"output": "log_0", "recipients": ["*@example.com"]}
        config = read(flows=flow(LOCAL), inbox={"release": release})
        assert list(explained(config))[1:] == [
            "Flow release takes mail that users of the inbox release; it logs it."
        ]

    def test_ports_are_explained(self):
        (line,) = sentences(read(flows=flow(LOCAL)))
        assert line.startswith(
            "Listener 10025 speaks SMTP on 127.0.0.1:10025 (this machine only), with STARTTLS"
        )


class TestListeners:
    def test_any_credentials(self, look: Any):
        sends = flow(LOCAL, outputs=[LOG, SES])
        assert says(look("warning", flows=sends), "no filter checks credentials")
        assert not says(look("warning", flows=flow(USERS, outputs=[SES])), "no filter checks credentials")
        off = {"disabledCommands": ["AUTH"]}
        assert not says(look("warning", flows=sends, options=off), "no filter checks")
        assert not says(look("warning", flows=sends, options=OPEN), "no filter checks")

    def test_any_credentials_where_all_mail_stays_here(self, look: Any):
        """A debug server accepts any credentials; `check` warns only if strangers reach it."""
        keeps = flow(LOCAL, outputs=[FILE, LOG])
        assert not says(look("warning", flows=keeps), "no filter checks credentials")
        assert says(look("warning", public=True, flows=keeps), "no filter checks credentials")
        listeners = [{"port": 10025}, {"port": 10026}]
        sends = flow(LOCAL, outputs=[SES], listeners=["10026"])
        two = {"a": {**keeps["in"], "listeners": ["10025"]}, **sends}
        assert says(look("warning", flows=two, listeners=listeners), "no filter checks credentials")

    def test_certificates(self, look: Any):
        keys = {"flows": flow(USERS), "bind": "0.0.0.0"}
        assert says(look("warning", **keys), "self-signed")
        assert not says(look("warning", flows=flow(USERS)), "self-signed")
        given = {"key": "file://k.pem", "cert": "file://c.pem"}
        assert not says(look("warning", **keys, options=given), "self-signed")
        assert not says(look("warning", **keys, options={"hideSTARTTLS": True}), "self-signed")
        secure = {"hideSTARTTLS": True, "secure": True}
        assert says(look("warning", **keys, options=secure), "self-signed")

    @pytest.mark.parametrize(
        ("options", "port", "words"),
        [
            ({"lmtp": True}, 25, "RFC 2033"),
            ({"authMethods": ["PLAIN", "XOAUTH2"]}, 26, "XOAUTH2 needs an http-auth"),
            ({"authMethods": ["CRAM-MD5"]}, 26, "CRAM-MD5 needs a static-auth"),
        ],
    )
    def test_odd_options(self, look: Any, options: dict[str, Any], port: int, words: str):
        assert says(look("warning", flows=flow(LOCAL), options=options, port=port), words)

    def test_an_authentication_that_cannot_be_had_here(self, look: Any):
        flows = {
            "a": {"filters": [USERS], "listeners": ["1"], "outputs": [LOG]},
            "b": {"filters": [LOCAL], "listeners": ["2"], "outputs": [LOG]},
        }
        lines = look("warning", flows=flows, listeners=[{"port": 1}, {"port": 2}])
        assert says(lines, "listeners[1]", "no flow of this listener checks credentials")

    def test_ignored_keys(self, look: Any):
        assert says(look("warning", flows=flow(USERS), options={"logger": True}), "options.logger: ignored")


class TestDeployment:
    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"delivery": {"mode": "events"}}, "no events"),
            ({"spool": "s3://b", "delivery": {"mode": "in-process"}}, "without a volume"),
        ],
    )
    def test_pairings_for_tests(self, look: Any, keys: dict[str, Any], words: str):
        """Configured by `mode` they are done, with a warning; a deployment refuses them."""
        assert says(look("warning", flows=flow(USERS), **keys), "delivery.mode", words)
        assert not says(look(flows=flow(USERS), **keys), "delivery.mode")
        assert says(look(flows=flow(USERS), platform="fargate", **keys), "delivery.mode", words)

    def test_a_process_runs_what_a_function_cannot(self, look: Any):
        outputs = [FILE, {"type": "gcp", "path": "gs://x/"}]
        keys = {"flows": flow(USERS, outputs=outputs), "spool": "s3://b"}
        assert not look(**keys, delivery={"mode": "in-process"})

    @pytest.mark.parametrize(
        ("spool", "output", "words"),
        [
            ("s3://b", FILE, "no folder to keep mail in"),
            ("gs://b", FILE, "no folder to keep mail in"),
            ("s3://b", {"type": "gcp", "path": "gs://x/"}, "runs no gcp outputs"),
            ("gs://b", SES, "runs no aws outputs"),
            ("s3://b", {"type": "mailer", "nodemailer": "smtp://u:p@h"}, "reads its secrets from the cloud"),
            (
                "gs://b",
                {"type": "mailer", "dkims": {"a.test": {"keySelector": "a", "privateKey": "env:K"}}},
                "env:K: the function reads",
            ),
        ],
    )
    def test_what_a_function_cannot_run(self, look: Any, spool: str, output: dict[str, Any], words: str):
        assert says(look(flows=flow(USERS, outputs=[output]), spool=spool), "flows.in.outputs[0]", words)

    @pytest.mark.parametrize(
        ("spool", "output"),
        [
            ("s3://b", SES),
            ("s3://b", LOG),
            ("gs://b", {"type": "gcp", "path": "gs://x/"}),
            ("s3://b", {"type": "mailer", "nodemailer": {"auth": {"user": "u", "pass": "ssm:/smtp"}}}),
        ],
    )
    def test_what_a_function_can_run(self, look: Any, spool: str, output: dict[str, Any]):
        assert not [
            line for line in look(flows=flow(USERS, outputs=[output]), spool=spool) if "outputs" in line
        ]

    def test_port_25_out_of_a_cloud(self, look: Any):
        output = {"type": "mailer", "nodemailer": {"port": 25}}
        assert says(look("warning", flows=flow(USERS, outputs=[output]), spool="gs://b"), "block port 25")
        assert not says(look("warning", flows=flow(USERS, outputs=[output])), "block port 25")

    def test_identities_of_ses(self, look: Any):
        keys = {"flows": flow(USERS, outputs=[SES]), "spool": "s3://b"}
        assert says(look("warning", **keys), "ses.identities")
        named = {"type": "aws", "ses": {"identities": ["mine.test"]}}
        assert not says(look("warning", flows=flow(USERS, outputs=[named]), spool="s3://b"), "ses.identities")

    @pytest.mark.parametrize(
        ("platform", "environ"),
        [
            ("fargate", {}),
            ("cloud-run", {}),
            (None, {"K_SERVICE": "relay"}),
            (
                None,
                {"ECS_CONTAINER_METADATA_URI_V4": "http://x", "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE"},
            ),
        ],
    )
    def test_disks_that_vanish(self, look: Any, platform: Any, environ: dict[str, str]):
        lines = look(flows=flow(USERS), platform=platform, environ=environ)
        assert says(lines, "spool", "vanishes")
        bucket = look(flows=flow(USERS), platform=platform, environ=environ, spool="s3://b")
        assert not says(bucket, "vanishes")

    def test_a_containers_own_disk(self, look: Any, monkeypatch: pytest.MonkeyPatch):
        environ = {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        monkeypatch.setattr("listener.checks.deployment.on_container_disk", lambda folder: True)
        leaving = look("note", flows=flow(USERS, outputs=[SES]), environ=environ)
        assert says(leaving, "container's own disk", "aws")
        assert not says(look("note", flows=flow(USERS), environ=environ), "own disk")
        monkeypatch.setattr("listener.checks.deployment.on_container_disk", lambda folder: False)
        assert not says(look("note", flows=flow(USERS, outputs=[SES]), environ=environ), "own disk")

    def test_a_starting_server_warns_about_a_containers_own_disk(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr("listener.checks.deployment.on_container_disk", lambda folder: True)
        setting = Setting.of(tmp_path, {"KUBERNETES_SERVICE_HOST": "10.0.0.1"})
        found = check.start_warnings(read(flows=flow(USERS, outputs=[SES])), setting)
        assert says([str(one) for one in found if one.severity == "warning"], "container's own disk")

    def test_where_this_runs(self, tmp_path: Path):
        assert platform_of({}) is None
        assert platform_of({"CLOUD_RUN_JOB": "x"}) == "cloud-run"
        assert in_container({"KUBERNETES_SERVICE_HOST": "x"})
        assert on_container_disk(Path("/"))
        assert on_container_disk(tmp_path / "not" / "there") == on_container_disk(tmp_path)

    def test_the_start_says_it_too(self, tmp_path: Path):
        config = read(flows=flow(USERS, outputs=[SES]), options={"hideSTARTTLS": True, "logger": True})
        lines = [str(one) for one in check.start_warnings(config, Setting.of(tmp_path, {"K_SERVICE": "x"}))]
        assert says(lines, "hideSTARTTLS")
        assert says(lines, "ignored")
        assert says(lines, "vanishes")
        assert not any(line.startswith("note") for line in lines)


class TestWebhooks:
    HOOK: Final[dict[str, Any]] = {"type": "webhook", "url": "https://h.example.com/", "secret": "ssm:/key"}

    def in_cloud(self, look: Callable[..., list[str]], severity: str, cloud: str, **given: Any) -> list[str]:
        hook = self.HOOK | ({"secret": "gcp-secret:projects/p/secrets/s"} if cloud == "gs" else {}) | given
        return look(severity, flows=flow(LOCAL, outputs=[hook]), spool=f"{cloud}://mails/relay", options=OPEN)

    @pytest.mark.parametrize("cloud", ["s3", "gs"])
    def test_a_function_of_either_cloud_runs_it(self, look: Callable[..., list[str]], cloud: str):
        assert self.in_cloud(look, "error", cloud) == []
        assert self.in_cloud(look, "warning", cloud) == []

    def test_what_a_function_cannot_do(self, look: Callable[..., list[str]]):
        found = self.in_cloud(look, "error", "s3", headers={"X-Key": "env:KEY"}, url="env:HOOK")
        assert says(found, "outputs[0].url", "env:HOOK", "cloud's store")
        assert says(found, "outputs[0].headers.X-Key", "env:KEY")
        assert says(self.in_cloud(look, "warning", "s3", timeout="200s"), "outputs[0].timeout", "300 s")
        assert says(self.in_cloud(look, "warning", "gs", retry={"first": 1}), "outputs[0].retry", "Pub/Sub")
        assert not self.in_cloud(look, "warning", "s3", retry={"first": 1})

    def test_a_receiver_in_clear_text_and_requests_without_a_signature(self, look: Callable[..., list[str]]):
        hook = {"type": "webhook", "url": "http://h.example.com/"}
        found = look("warning", flows=flow(LOCAL, outputs=[hook]), options=OPEN)
        assert says(found, "outputs[0].url", "clear text")
        assert says(found, "outputs[0].secret", "cannot tell")


class TestFromLoopingz:
    def lines(self, **keys: Any) -> list[str]:
        return list(differences(read(**keys)))

    def test_what_touches_every_file(self):
        lines = self.lines(flows=flow(LOCAL))
        assert says(lines, "bind", "127.0.0.1", "every address")
        assert says(lines, "options.size", "the default", "552")
        assert says(lines, "mailHeaders", "x-smtp-relay")
        assert says(lines, "Received:")
        assert says(lines, "250")

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"flows": flow(USERS)}, "a client that never authenticates is refused"),
            ({"flows": flow(LOCAL, filtersOperator="OR")}, "decided for each recipient"),
            ({"flows": flow({"type": "whitelist", "to": ["a@b.test"]})}, "concerns only that recipient"),
            ({"flows": {**flow(USERS), "b": {"filters": [LOCAL]}}}, "a wrong password is refused"),
            ({"flows": flow(USERS, LOCAL, filtersOperator="OR")}, "a wrong password is refused"),
            ({"flows": flow({"type": "http-auth", "url": "http://x"})}, "defers"),
            ({"flows": flow({"type": "mail-auth"})}, "after DATA is 550"),
            ({"flows": flow(LOCAL), "bind": "0.0.0.0"}, "bind: 0.0.0.0 is honoured"),
            ({"flows": flow(LOCAL), "options": {"size": 5}}, "5 bytes is enforced"),
            ({"flows": flow(ANYBODY)}, "anchored at both ends"),
            ({"flows": flow(LOCAL)}, "without regard to case"),
            ({"flows": flow({"type": "whitelist", "domains": ["a.test"]})}, "resolves back to its address"),
            ({"flows": flow(LOCAL, outputs=[{"type": "mailer"}])}, "forwards the mail unchanged"),
            ({"flows": flow(LOCAL, outputs=[FILE])}, "file names are unique"),
            ({"flows": flow(LOCAL, outputs=[FILE])}, "554"),
            ({"flows": flow(LOCAL, outputs=[SES]), "delivery": {"waitFor": "all"}}, "554"),
        ],
    )
    def test_what_touches_this_one(self, keys: dict[str, Any], words: str):
        assert says(self.lines(**keys), words)

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"flows": flow(ANYBODY)}, "never authenticates"),
            ({"flows": flow(USERS)}, "anchored"),
            ({"flows": flow(USERS)}, "wrong password"),
            ({"flows": flow(USERS, filtersOperator="OR")}, "wrong password"),
            ({"flows": {**flow(LOCAL), "b": {"filters": [ANYBODY]}}}, "wrong password"),
            ({"flows": flow(LOCAL, outputs=[SES])}, "554"),
            ({"flows": flow(LOCAL), "options": {"received": False}}, "Received:"),
            ({"flows": flow(LOCAL), "mailHeaders": {}}, "mailHeaders"),
            ({"flows": flow(LOCAL), "listeners": [{"port": 1}]}, "bind"),
        ],
    )
    def test_what_does_not(self, keys: dict[str, Any], words: str):
        assert not says(self.lines(**keys), words)


def test_rotated_logs_that_are_removed_are_a_difference():
    kinds = [
        {"type": "CONSOLE"},
        {"type": "FILE", "filepath": "a.log"},
        {"type": "FILE", "filepath": "b.log", "keep": None},
        {"type": "FILE", "filepath": "c.log", "sizeLimit": 0},
        {"type": "FILE", "filepath": "d.log", "keep": 3},
    ]
    lines = [line for line in differences(read(flows=flow(LOCAL), loggers=kinds)) if "loggers" in line]
    assert [line.partition(":")[0] for line in lines] == ["loggers[1].keep", "loggers[4].keep"]
    assert "newest 10 rotated files" in lines[0]
    assert "newest 3 rotated files" in lines[1]


class TestLimits:
    def test_public_listeners_bound_the_connections_of_an_address(self, look: Any):
        keys = {"flows": flow(LOCAL), "options": OPEN}
        assert says(look(public=True, **keys), "options", "maxClientsPerIp is not set")
        assert not says(look(**keys), "maxClientsPerIp")
        bounded = {**keys, "options": {**OPEN, "maxClientsPerIp": 20}}
        assert not says(look(public=True, **bounded), "maxClientsPerIp")

    def test_each_listener_for_itself(self, look: Any):
        two = [{"port": 2525, "maxClientsPerIp": 5}, {"port": 2526}]
        found = look(public=True, flows=flow(LOCAL), options=OPEN, listeners=two)
        assert says(found, "listeners[1]", "maxClientsPerIp")
        assert not says(found, "listeners[0]", "maxClientsPerIp")

    @pytest.mark.parametrize("name", ["mail2s3", "mail2sqs", "mail2gcp", "mail2gcppubsub", "mailauth-filter"])
    def test_the_public_examples_set_it(self, name: str):
        config = load(ROOT / "configs" / f"{name}.jsonc", {})
        assert all(one.options.max_clients_per_ip for one in config.resolved_listeners())


class TestRetention:
    """Limits of the folders that `file` outputs fill."""

    def both(self, *outputs: dict[str, Any]) -> dict[str, Any]:
        return {str(n): {"filters": [LOCAL], "outputs": [one]} for n, one in enumerate(outputs)}

    @pytest.mark.parametrize(
        "other",
        [
            {**FILE, "retention": {"count": 6}},
            {**FILE, "path": "emails/", "retention": {"count": 5, "age": "60s"}},
            {**FILE, "path": "./x/../emails"},
            {**FILE, "path": "{here}/emails", "retention": {"bytes": 5}},
            {**FILE, "path": "link", "retention": {"count": 6}},
        ],
    )
    def test_two_outputs_on_one_folder_need_the_same(
        self, look: Any, tmp_path: Path, other: dict[str, Any]
    ) -> None:
        (tmp_path / "emails").mkdir()
        (tmp_path / "x").mkdir()
        (tmp_path / "link").symlink_to("emails")
        other = {**other, "path": other["path"].replace("{here}", str(tmp_path)), "filename": "${id}.eml"}
        for flows in (self.both(FIVE, other), self.both(other, FIVE)):
            (found,) = look(flows=flows)
            assert found.startswith(
                "error: flows.1.outputs[0].retention: differs from that of flows.0.outputs[0]"
            )
            assert str(tmp_path / "emails") in found
            with pytest.raises(ConfigError, match="differs from that of"):
                build_delivery(read(flows=flows), Setting.of(tmp_path, {}), staging=None)

    @pytest.mark.parametrize(
        "other",
        [
            {**FILE, "retention": {"count": 5}},
            {**FILE, "path": "emails/below", "retention": {"count": 6}},
            LOG,
        ],
    )
    def test_the_same_or_another_folder_is_fine(
        self, look: Any, tmp_path: Path, other: dict[str, Any]
    ) -> None:
        flows = self.both(FIVE, other)
        assert look(flows=flows) == []
        build_delivery(read(flows=flows), Setting.of(tmp_path, {}), staging=None).close()

    def test_it_needs_a_folder_as_spool(self, look: Any, tmp_path: Path) -> None:
        keys: Any = {"flows": self.both(FIVE), "spool": "s3://b", "delivery": {"mode": "in-process"}}
        assert says(look(**keys), "flows.0.outputs[0].retention", "needs a folder as spool")
        with pytest.raises(ConfigError, match="needs a folder as spool"):
            build_from_bucket(read(**keys), Setting.of(tmp_path, {}))

    @pytest.mark.parametrize(
        "retention",
        [
            {},
            {"count": 0},
            {"age": -1},
            {"bytes": 0},
            {"age": "1 week"},
            {"bytes": "10 mails"},
            {"count": "many"},
            {"counts": 1},
        ],
    )
    def test_a_limit_that_limits_nothing_is_refused(self, retention: dict[str, Any]) -> None:
        with pytest.raises(ConfigError, match="retention"):
            read(flows=self.both({**FILE, "retention": retention}))


SCRIPT: Any = {"type": "respond", "rules": [{"reply": "450"}]}


@pytest.mark.parametrize("output", [SES, {"type": "mailer", "nodemailer": {"host": "mx.example"}}])
def test_a_script_beside_an_output_that_sends_mail_on_is_refused(output: dict[str, Any]) -> None:
    other = {"filters": [LOCAL], "outputs": [output]}
    flows = {**flow(LOCAL, SCRIPT, outputs=[FILE]), "other": other}
    with pytest.raises(ConfigError) as refused:
        read(flows=flows)
    assert "flows.in.filters[1]: scripted answers are for tests" in str(refused.value)
    assert '"testOnly": true' in str(refused.value)
    read(flows={**flow(LOCAL, {**SCRIPT, "testOnly": True}, outputs=[FILE]), "other": other})


def test_a_script_is_told_at_start_and_refused_for_strangers(look: Callable[..., list[str]]) -> None:
    keys: Any = {"flows": flow(LOCAL, SCRIPT, outputs=[FIVE])}
    told = "flows.in.filters[1]: answers clients by a script, for tests"
    assert [one for one in look("warning", **keys) if told in one]
    assert not look("error", **keys)
    assert [one for one in look("error", public=True, **keys) if told in one]
    started = check.start_warnings(read(**keys), Setting.of(Path("/"), {}))
    assert sum(told in str(one) for one in started) == 1
    assert not [one for one in look("error", public=True, flows=flow(LOCAL, outputs=[FIVE])) if told in one]


def test_a_script_is_no_filter_that_accepts(look: Callable[..., list[str]]) -> None:
    told = look("warning", flows=flow(SCRIPT, outputs=[FIVE]))
    assert any("its filters only object" in one for one in told)
    assert "but none that its script refuses" in sentence("in", read(flows=flow(LOCAL, SCRIPT)).flows["in"])
