"""The keys of a login, and the mistakes in them."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from functions.processors.mailer.oauth.options import GOOGLE, TransportAuth
from functions.processors.mailer.transport_options import Transport

URL = "https://login.example/token"
CLIENT: dict[str, Any] = {"user": "u@x", "clientId": "id", "clientSecret": "geheim"}
REFRESH: dict[str, Any] = CLIENT | {"refreshToken": "geheim-r"}
SERVICE: dict[str, Any] = {"user": "u@x", "serviceClient": "s@x", "privateKey": "geheim-k"}


@pytest.mark.parametrize(
    ("given", "grant", "url"),
    [
        (CLIENT | {"accessUrl": URL}, "client_credentials", URL),
        (
            CLIENT | {"accessUrl": URL, "type": "oauth2", "grant": "client_credentials"},
            "client_credentials",
            URL,
        ),
        (REFRESH | {"type": "OAuth2"}, "refresh_token", GOOGLE),
        (REFRESH | {"accessToken": "t", "expires": 1_484_314_697_598}, "refresh_token", GOOGLE),
        ({"user": "u", "clientId": "public", "refreshToken": "file://r"}, "refresh_token", GOOGLE),
        (SERVICE | {"type": "OAuth2"}, "service_account", GOOGLE),
        (
            SERVICE | {"accessUrl": "http://127.0.0.1:8080/token"},
            "service_account",
            "http://127.0.0.1:8080/token",
        ),
        ({"user": "u", "accessToken": "t", "type": "OAuth2"}, None, GOOGLE),
        ({"user": "u", "pass": "p", "type": "login"}, None, GOOGLE),
    ],
)
def test_the_grant_follows_from_the_keys_that_nodemailer_knows(
    given: dict[str, Any], grant: str | None, url: str
) -> None:
    auth = TransportAuth.model_validate(given)
    assert (auth.effective_grant, auth.token_url) == (grant, url)
    assert auth.oauth is ("pass" not in given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"user": "u"}, "give pass, or for OAuth 2 accessToken or a grant"),
        (CLIENT, "grant client_credentials needs accessUrl"),
        ({"user": "u", "grant": "refresh_token", "clientId": "x"}, "needs refreshToken"),
        ({"user": "u", "serviceClient": "x"}, "grant service_account needs privateKey"),
        ({"user": "u", "clientSecret": "x", "accessToken": "t"}, "clientSecret needs a grant"),
        (SERVICE | {"clientSecret": "x"}, "clientSecret is no key of grant service_account"),
        (CLIENT | {"pass": "p", "accessUrl": URL}, "pass and OAuth 2 exclude each other"),
        ({"user": "u", "pass": "p", "accessToken": "t"}, "pass and OAuth 2 exclude each other"),
        ({"user": "u", "pass": "p", "type": "OAuth2"}, "type OAuth2 does not fit"),
        ({"user": "u", "accessToken": "t", "type": "login"}, "type login does not fit"),
        ({"user": "u", "pass": "p", "expires": 1}, "expires is the end of accessToken"),
        (CLIENT | {"accessUrl": "http://login.example/token"}, "would send secrets in clear text"),
        (CLIENT | {"accessUrl": "http://127.0.0.1.example/token"}, "would send secrets in clear text"),
        (CLIENT | {"accessUrl": "https://u:p@login.example/"}, "holds credentials"),
        (CLIENT | {"accessUrl": "ftp://login.example/"}, "is not a URL"),
        (CLIENT | {"accessUrl": "https://login.example/a b"}, "is not a URL"),
        (CLIENT | {"accessUrl": "https://[::1/"}, "is not a URL"),
        (REFRESH | {"accessUrl": URL}, "a replaced one cannot be written back to \\*+ .*rotates"),
        (REFRESH | {"accessUrl": URL, "refreshToken": "env:R"}, "cannot be written back to env:R"),
        (
            REFRESH | {"accessUrl": URL, "refreshToken": "secretsmanager:R"},
            "written back to secretsmanager:R",
        ),
        (REFRESH | {"rotates": True}, "cannot be written back"),
    ],
)
def test_mistakes_are_named_without_secrets(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says) as caught:
        TransportAuth.model_validate(given)
    assert "geheim" not in "".join(each["msg"] for each in caught.value.errors())


@pytest.mark.parametrize(
    "given",
    [
        REFRESH | {"accessUrl": URL, "rotates": False},
        REFRESH | {"accessUrl": URL, "refreshToken": "file://r"},
        REFRESH | {"accessUrl": "https://accounts.google.com/o/oauth2/token"},
        REFRESH | {"refreshToken": "env:R"},
    ],
)
def test_a_refresh_token_stands_where_its_replacement_can_be_written(given: dict[str, Any]) -> None:
    assert TransportAuth.model_validate(given).effective_grant == "refresh_token"


@pytest.mark.parametrize(
    ("auth", "method"),
    [
        ({"user": "u", "pass": "p"}, "plain"),
        ({"user": "u", "pass": "p"}, "CRAM-MD5"),
        ({"user": "u", "accessToken": "t"}, "xoauth2"),
        ({"user": "u", "accessToken": "t"}, "OAUTHBEARER"),
    ],
)
def test_a_method_fits_the_login(auth: dict[str, Any], method: str) -> None:
    made = Transport.model_validate({"auth": auth, "authMethod": method})
    assert made.auth_method == method.upper()
    other = "XOAUTH2" if "pass" in auth else "LOGIN"
    with pytest.raises(ValidationError, match=f"authMethod {other} is for"):
        Transport.model_validate({"auth": auth, "authMethod": other})


@pytest.mark.parametrize(
    ("transport", "advised"),
    [
        ({"auth": {"user": "u", "accessToken": "t"}}, {"auth.accessToken": "is not renewed"}),
        ({"auth": {"user": "u", "accessToken": "t", "expires": 1}}, {"auth.accessToken": "has ended"}),
        ({"service": "outlook365", "auth": SERVICE}, {"requireTLS": "clear text"}),
        ({"service": "outlook365", "auth": {"user": "u", "pass": "p"}}, {}),
        ({"service": "gmail", "auth": SERVICE}, {}),
        (
            {
                "service": "outlook365",
                "requireTLS": True,
                "auth": CLIENT | {"accessUrl": "https://login.microsoftonline.com/T/oauth2/v2.0/token"},
            },
            {"auth.scope": "https://outlook.office365.com/.default"},
        ),
    ],
)
def test_check_advises(transport: dict[str, Any], advised: dict[str, str]) -> None:
    found = dict(Transport.model_validate(transport).advice())
    assert found.keys() == advised.keys()
    assert all(text in found[key] for key, text in advised.items())
