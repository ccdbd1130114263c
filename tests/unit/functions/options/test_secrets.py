import json
import sys
import types
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from functions.errors import ConfigError
from functions.options import secrets
from functions.options.secrets import Secret, SecretResolver, secrets_of


class Inner(BaseModel):
    token: Secret
    url: str = "env:NOT_A_SECRET"


class Model(BaseModel):
    password: Secret
    keys: dict[str, Inner] = {}
    more: tuple[Secret, ...] = ()


@pytest.fixture
def resolver(tmp_path: Path) -> SecretResolver:
    return SecretResolver(tmp_path, {"PW": "s3cret", "EMPTY": ""})


@pytest.mark.parametrize(
    ("text", "scheme"),
    [
        ("plain:test", "plain"),
        ("sha256:00", "plain"),
        ("hunter2", "plain"),
        ("env:PW", "env"),
        ("environment", "plain"),
        ("file://./key.pem", "file"),
        ("file:key", "plain"),
        ("ssm:/relay/pw", "ssm"),
        ("secretsmanager:relay", "secretsmanager"),
        ("gcp-secret:projects/p/secrets/s/versions/latest", "gcp-secret"),
    ],
)
def test_scheme(text: str, scheme: str):
    assert Secret(text).scheme == scheme


def test_env(resolver: SecretResolver):
    assert Secret("env:PW").resolve(resolver) == "s3cret"
    assert Secret("env:EMPTY").resolve(resolver) == ""
    with pytest.raises(ConfigError, match="env:NOPE: the environment variable is not set"):
        Secret("env:NOPE").resolve(resolver)


@pytest.mark.parametrize(
    ("set_to", "read"), [("key\n", "key"), ("key\r\n", "key"), ("key\n\n", "key\n"), (" key ", " key ")]
)
def test_a_variable_drops_one_newline(tmp_path: Path, set_to: str, read: str):
    assert Secret("env:PW").resolve(SecretResolver(tmp_path, {"PW": set_to})) == read


@pytest.mark.parametrize(
    ("written", "read"),
    [(b"key\n", "key"), (b"key\r\n", "key"), (b"key\n\n", "key\n"), (b"key", "key"), (b"\n", "")],
)
def test_file_drops_one_newline(resolver: SecretResolver, tmp_path: Path, written: bytes, read: str):
    (tmp_path / "key.txt").write_bytes(written)
    assert Secret("file://./key.txt").resolve(resolver) == read
    assert Secret(f"file://{tmp_path}/key.txt").resolve(resolver) == read


def test_file_faults(resolver: SecretResolver, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"file://gone.*No such file"):
        Secret("file://gone").resolve(resolver)
    (tmp_path / "big").write_bytes(b"x" * 1_048_577)
    with pytest.raises(ConfigError, match="larger"):
        Secret("file://big").resolve(resolver)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        Secret("file://binary").resolve(resolver)
    assert Secret("file://binary").resolve_bytes(resolver) == b"\xff\xfe"


def test_bytes_from_text_are_base64():
    resolver = SecretResolver(Path(), {"PFX": "AAEC\n", "BAD": "A"})
    assert Secret("env:PFX").resolve_bytes(resolver) == b"\x00\x01\x02"
    with pytest.raises(ConfigError, match="base64"):
        Secret("env:BAD").resolve_bytes(resolver)


def test_cloud_references_go_to_their_module(resolver: SecretResolver, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("functions.fake_secrets")
    module.fetch = lambda scheme, name: f"{scheme}={name}"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "functions.fake_secrets", module)
    monkeypatch.setattr(secrets, "CLOUD_SCHEMES", {"ssm": "functions.fake_secrets", "x": "functions.gone"})
    assert Secret("ssm:/a:b").resolve(resolver) == "ssm=/a:b"
    with pytest.raises(ConfigError, match="a secret of x: needs functions"):
        Secret("x:y").resolve(resolver)


def test_nothing_shows_a_secret():
    model = Model.model_validate(
        {"password": "hunter2", "keys": {"a.b": {"token": "env:T"}}, "more": ["hunter3"]}
    )
    for text in (repr(model), str(model), model.model_dump_json(), json.dumps(model.model_dump())):
        assert "hunter" not in text
        assert "env:T" in text


def test_validation_errors_do_not_quote_other_types():
    with pytest.raises(ValidationError):
        Model.model_validate({"password": ""})


def test_secrets_of_names_every_place():
    model = Model.model_validate(
        {"password": "a", "keys": {"k": {"token": "env:T"}}, "more": ["b", "ssm:/c"]}
    )
    found = {path: secret.shown for path, secret in secrets_of(model)}
    assert found == {
        "password": "**********",
        "keys.k.token": "env:T",
        "more[0]": "**********",
        "more[1]": "ssm:/c",
    }
