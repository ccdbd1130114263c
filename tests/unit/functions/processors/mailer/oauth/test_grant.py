"""The three grants at a token endpoint, from the configuration's keys on."""

from __future__ import annotations

import base64
import json
import multiprocessing
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from functions.errors import ConfigError
from functions.options.secrets import Runtime
from functions.processors.mailer.oauth import source as sources
from functions.processors.mailer.oauth.grant import LIFETIME, GrantRequest
from functions.processors.mailer.oauth.login import tokens_of
from functions.processors.mailer.oauth.options import TransportAuth
from functions.processors.mailer.oauth.refresh import KeptToken, TokenFile
from functions.processors.mailer.oauth.request import NoToken
from functions.processors.mailer.oauth.source import TokenSource
from tests.support.clients.relaying import endless
from tests.support.clients.tls import Authority
from tests.support.servers.endpoint import Says
from tests.support.servers.token_server import JSON, TokenServer, token_server

KEY = Authority.shared().issue(algorithm="rsa").key_pem()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TokenServer]:
    monkeypatch.setattr(sources, "_sources", {})
    monkeypatch.setattr(sources, "REST", 0.0)
    with token_server() as made:
        yield made


def tokens(server: TokenServer, folder: Path, **auth: Any) -> TokenSource:
    options = TransportAuth.model_validate({"user": "u@x", "accessUrl": server.url, **auth})
    context = Runtime.of(folder, {"SECRET": "geheim", "KEY": KEY, "REFRESH": "refresh-0"})
    return tokens_of(options, context.secrets, context.folder)


def test_client_credentials(server: TokenServer, tmp_path: Path) -> None:
    made = tokens(server, tmp_path, clientId="id", clientSecret="env:SECRET", scope="a b")
    assert made.token(endless) == "token-1"
    assert server.forms == [
        {"grant_type": "client_credentials", "client_id": "id", "client_secret": "geheim", "scope": "a b"}
    ]


@pytest.mark.parametrize("form", ["PEM", "PEM in one line", "JSON"])
def test_a_service_account_signs_its_request(server: TokenServer, tmp_path: Path, form: str) -> None:
    given = {
        "PEM": "env:KEY",
        "PEM in one line": KEY.replace("\n", "\\n"),
        "JSON": json.dumps({"private_key": KEY}),
    }
    made = tokens(server, tmp_path, serviceClient="s@x", privateKey=given[form])
    assert made.token(endless) == "token-1"
    (asked,) = server.forms
    assert asked["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    head, claims, signature = asked["assertion"].split(".")

    def decoded(text: str) -> bytes:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    assert json.loads(decoded(head)) == {"alg": "RS256", "typ": "JWT"}
    found = json.loads(decoded(claims))
    assert abs(found.pop("iat") - time.time()) < 60
    assert abs(found.pop("exp") - time.time() - 3_600) < 60
    scope = "https://mail.google.com/"
    assert found == {"iss": "s@x", "sub": "u@x", "scope": scope, "aud": server.url}
    public = serialization.load_pem_private_key(KEY.encode(), None).public_key()
    assert isinstance(public, RSAPublicKey)
    public.verify(decoded(signature), f"{head}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize("key", ["env:SECRET", "{", '{"private_key": 1}', "[" * 9_000])
def test_a_key_that_cannot_be_read_is_named_and_not_shown(
    server: TokenServer, tmp_path: Path, key: str
) -> None:
    with pytest.raises(
        ConfigError, match=r"auth\.privateKey: holds no private key that can be read"
    ) as caught:
        tokens(server, tmp_path, serviceClient="s@x", privateKey=key)
    assert "geheim" not in str(caught.value)


def test_a_key_of_another_kind_is_refused(server: TokenServer, tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with pytest.raises(ConfigError, match="is not an RSA key"):
        tokens(server, tmp_path, serviceClient="s@x", privateKey=pem.decode())


def test_a_refresh_token_that_stays(
    server: TokenServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = tokens(server, tmp_path, clientId="id", refreshToken="env:REFRESH", rotates=False)
    assert made.token(endless) == "token-1"
    assert server.forms == [{"grant_type": "refresh_token", "client_id": "id", "refresh_token": "refresh-0"}]
    assert caplog.text == ""
    server.answer = lambda form: Says(200, b'{"access_token": "x", "refresh_token": "other"}', JSON)
    made.refused("token-1")
    assert made.token(endless) == "x"
    assert "which rotates: false drops" in caplog.text
    assert "other\n" not in caplog.text


def test_a_replaced_refresh_token_is_in_its_file_before_its_access_token_is_used(
    server: TokenServer, tmp_path: Path
) -> None:
    server.rotates = True
    real = tmp_path / "real"
    real.write_text("refresh-0\n")
    real.chmod(0o640)
    file = tmp_path / "refresh"
    file.symlink_to(real)
    made = tokens(server, tmp_path, clientId="id", refreshToken="file://refresh")
    for number in range(1, 4):
        assert made.token(endless) == f"token-{number}"
        assert real.read_text() == f"refresh-{number}\n"
        made.refused(f"token-{number}")
    assert file.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert sorted(each.name for each in tmp_path.iterdir()) == [".real.lock", "real", "refresh"]


@pytest.mark.skipif(os.geteuid() == 0 and not hasattr(os, "fork"), reason="needs processes")
def test_processes_take_turns_with_a_token_that_is_taken_once(server: TokenServer, tmp_path: Path) -> None:
    server.rotates = True
    file = tmp_path / "refresh"
    file.write_text("refresh-0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_refresh, args=(server.url, file, 10)) for _ in range(4)]
    for each in processes:
        each.start()
    for each in processes:
        each.join(60)
    assert [each.exitcode for each in processes] == [0] * 4
    assert len(server.forms) == 40
    assert file.read_text() == "refresh-40\n"


def _refresh(url: str, file: Path, times: int) -> None:
    request = GrantRequest(url, "u@x", "id", store=TokenFile(file))
    for _ in range(times):
        request.ask(endless)


def test_a_token_that_could_not_be_written_is_written_first_the_next_time(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.rotates = True
    (tmp_path / "refresh").write_text("refresh-0")
    made = tokens(server, tmp_path, clientId="id", refreshToken="file://refresh")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        for _ in range(2):
            with pytest.raises(NoToken, match=r"refresh token cannot be written: .*No space left"):
                made.token(endless)
    assert len(server.forms) == 1, "the endpoint is asked once more only when the token is safe"
    assert made.token(endless) == "token-2"
    assert server.forms[1]["refresh_token"] == "refresh-1"
    assert (tmp_path / "refresh").read_text() == "refresh-2\n"


def test_a_folder_that_takes_no_file_is_found_at_start(
    server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "refresh").write_text("refresh-0")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"auth\.refreshToken: a replaced token cannot be written"):
        tokens(server, tmp_path, clientId="id", refreshToken="file://refresh")


def test_a_missing_file_is_found_at_start(server: TokenServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="file://gone: cannot be read"):
        tokens(server, tmp_path, clientId="id", refreshToken="file://gone")


@pytest.mark.parametrize(
    ("life", "lives"),
    [
        (3_599, 3_599), ("3599", 3_599), (None, LIFETIME), ("soon", LIFETIME), ([], LIFETIME),
        (1e400, LIFETIME), (-5, 30), (0, 30), (10**12, 86_400),
    ],
)  # fmt: skip
def test_a_lie_about_the_life_of_a_token_is_bounded(server: TokenServer, life: Any, lives: float) -> None:
    server.life = life
    made = GrantRequest(server.url, "u@x", "id", "geheim").ask(endless)
    assert made.ends - time.time() == pytest.approx(lives, abs=10)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ({}, "holds none that can be used"),
        ({"access_token": ""}, "holds none that can be used"),
        ({"access_token": 5}, "holds none that can be used"),
        ({"access_token": "a\x01auth=Bearer b"}, "holds none that can be used"),
        ({"access_token": "a\r\nMAIL FROM:<>"}, "holds none that can be used"),
        ({"access_token": "a" * 20_000}, "holds none that can be used"),
        ({"access_token": "good", "token_type": "mac"}, "another kind than bearer"),
        ({"access_token": "good", "refresh_token": "a b"}, "holds odd characters"),
    ],
)
def test_an_answer_that_cannot_be_used(server: TokenServer, answer: dict[str, Any], says: str) -> None:
    server.answer = lambda form: Says(200, json.dumps(answer).encode(), JSON)
    with pytest.raises(NoToken, match=says) as caught:
        GrantRequest(server.url, "u@x", "id", store=KeptToken("r")).ask(endless)
    assert "good" not in caught.value.reason


def test_equal_logins_share_one_token(server: TokenServer, tmp_path: Path) -> None:
    one = tokens(server, tmp_path, clientId="id", clientSecret="env:SECRET")
    assert tokens(server, tmp_path, clientId="id", clientSecret="geheim") is one
    assert tokens(server, tmp_path, clientId="id", clientSecret="geheim", user="other") is not one
    assert "geheim" not in repr(GrantRequest(server.url, "u", "id", "geheim", store=KeptToken("geheim")))
