"""The relay ignores variables that Kubernetes sets for a service."""

from __future__ import annotations

import ast
import logging
import re
from pathlib import Path

import pytest

from functions.config import load_delivery
from functions.options.environment import VARIABLES, ignored, variable
from tests.support.servers.relay import ROOT

INJECTED = [
    "tcp://10.96.0.7:8080",
    "udp://10.96.0.7:53",
    "sctp://10.96.0.7:25",
    "tcp://[fd00::7]:8080",
    "http://smtp-relay.default.svc:80",
    "TCP://10.96.0.7:8080",
]
OURS = [
    "8080",
    "s3://spool/prefix",
    "gs://spool",
    "file:///var/spool",
    "file://spool",
    "https://sqs.eu-west-1.amazonaws.com/123456789012/queue",
    "http://127.0.0.1:4566/000000000000/queue",
    "10.0.0.0/8",
    '[{"port": 25}]',
    "0.0.0.0",
    "",
]


USUAL = "SMTP_RELAY_PORT"
"""The variable of a service with the usual name."""


@pytest.mark.parametrize("name", [name for name in VARIABLES if name != USUAL])
@pytest.mark.parametrize("value", INJECTED)
def test_each_variable_is_ignored_with_one_line(name: str, value: str) -> None:
    assert variable({name: value}, name) is None
    (line,) = ignored({name: value})
    assert name in line
    assert value in line


@pytest.mark.parametrize("value", OURS)
def test_what_an_operator_writes_counts(value: str) -> None:
    assert variable({"SMTP_RELAY_SPOOL": value}, "SMTP_RELAY_SPOOL") == value
    assert ignored({"SMTP_RELAY_SPOOL": value}) == ()


def test_variables_that_nothing_reads_need_no_line() -> None:
    assert ignored({"SMTP_RELAY_SMTP_PORT": "tcp://10.96.0.7:25", "OTHER_PORT": "tcp://10.96.0.7:25"}) == ()


@pytest.mark.parametrize("value", INJECTED)
def test_the_variable_of_a_service_with_the_usual_name_is_ignored_without_a_line(value: str) -> None:
    assert variable({USUAL: value}, USUAL) is None
    assert ignored({USUAL: value}) == ()


def test_every_variable_that_the_product_reads_is_read_through_this_function() -> None:
    """The names stand in the code as whole strings, and no call of `environ.get` has one of them, as a
    string or as a constant."""
    named: set[str] = set()
    for half in ("listener", "functions"):
        for path in sorted((ROOT / half).rglob("*.py")):
            tree = ast.parse(path.read_text())
            constants = _constants(tree)
            if path.name != "environment.py" or half != "functions":
                named |= set(constants.values()) | _strings(tree)
            assert not _read_directly(tree, constants), path
    assert named == set(VARIABLES)


def _constants(tree: ast.AST) -> dict[str, str]:
    return {
        node.target.id: node.value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and isinstance(node.value, ast.Constant)
        and _is_ours(node.value.value)
    }


def _strings(tree: ast.AST) -> set[str]:
    return {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _is_ours(node.value)
    }


def _is_ours(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"SMTP_RELAY_[A-Z_]+", value) is not None


def _read_directly(tree: ast.AST, constants: dict[str, str]) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            container, key = node.value, node.slice
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            container, key = node.func.value, node.args[0]
        else:
            continue
        given = isinstance(key, ast.Name) and key.id in {*constants, "TABLE", "QUEUE", "TOPIC"}
        literal = isinstance(key, ast.Constant) and _is_ours(key.value)
        if "environ" in ast.unparse(container) and (given or literal):
            return True
    return False


def test_a_function_starts_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "relay.json").write_text('{"flows": {}, "spool": "s3://spool"}')
    with caplog.at_level(logging.WARNING):
        environ = {"SMTP_RELAY_SPOOL": "tcp://10.96.0.7:25", "SMTP_RELAY_CONFIG_JSON": "tcp://10.96.0.7:80"}
        config = load_delivery(tmp_path / "relay.json", environ)
    assert config.spool.url == "s3://spool"
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
