"""`http-auth`: an HTTP endpoint checks the credentials (docs/filters/http-auth.md)."""

from __future__ import annotations

import base64
import json
from typing import Any, Final, Literal, Self
from urllib.parse import urlencode

from pydantic import ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from functions.http.signing import Hmac, Url, host_of
from functions.options.types import OptionsModel
from listener.api.decision import ABSTAIN, ACCEPT, REFUSE, Decision, Phase
from listener.api.filter import BuildContext, FilterOptions, Operator
from listener.api.session import Credentials, Session
from listener.filters.http.client import HttpAnswer, HttpBacked, HttpClient, Unanswered
from listener.filters.http.json_path import MISSING, JsonPath, PathText

MECHANISM_HEADER: Final = "X-SMTP-RELAY-MECHANISM"
"""Sent with tokens only: `XOAUTH2` tells the endpoint that the password is a bearer token."""


class JsonResult(OptionsModel):
    """The value that the answer's JSON must contain."""

    path: PathText
    """The path of the value, `$.user.active` or `$.answers[0].ok`."""

    value: str | int | float | bool | None = Field(union_mode="smart")
    """The value to find there, of the same JSON type."""


class HttpAuthOptions(FilterOptions):
    """Check credentials at an HTTP endpoint."""

    model_config = ConfigDict(alias_generator=to_camel)

    type: Literal["http-auth"]

    url: Url
    """The endpoint."""

    method: Literal["GET", "POST", "PUT"] | None = None
    """Default: GET with BASIC_AUTH, else POST."""

    credentials_method: Literal["BASIC_AUTH", "JSON", "FORM_URLENCODED"] = "BASIC_AUTH"
    """The form of the credentials."""

    user_field: str | None = Field(default=None, min_length=1)
    """Field of the form or path in the JSON body. Default: `username`, `$.username`."""

    password_field: str | None = Field(default=None, min_length=1)
    """Default: `password`, `$.password`."""

    json_result: JsonResult | None = Field(default=None, alias="json_result")
    """What an answer below 300 must hold."""

    hmac: Hmac | None = None
    """Sign the requests."""

    asks_others = True
    checks_credentials = True
    checked_mechanisms = frozenset({"XOAUTH2"})

    def described(self, operator: Operator) -> str:
        return f"of clients whose login {host_of(self.url)} accepts"

    @model_validator(mode="after")
    def _body_where_it_can_be(self) -> Self:
        if self.credentials_method != "BASIC_AUTH" and self.method == "GET":
            raise ValueError(f"credentialsMethod {self.credentials_method} needs a body: use POST or PUT")
        if self.credentials_method == "JSON":
            JsonBody(self.user, self.password).of("u", "p")
        return self

    @property
    def method_used(self) -> str:
        """The method: as configured, or its default."""
        return self.method or ("GET" if self.credentials_method == "BASIC_AUTH" else "POST")

    @property
    def user(self) -> str:
        """The field of the name."""
        return self.user_field or ("$.username" if self.credentials_method == "JSON" else "username")

    @property
    def password(self) -> str:
        """The field of the password."""
        return self.password_field or ("$.password" if self.credentials_method == "JSON" else "password")


class JsonBody:
    """A JSON object with name and password at two paths. Raises ValueError for paths that cannot both
    exist."""

    def __init__(self, user: str, password: str) -> None:
        self._user = JsonPath(user)
        self._password = JsonPath(password)

    def of(self, user: str, password: str) -> bytes:
        """The body for these credentials."""
        body: dict[str, Any] = {}
        self._user.put(body, user)
        self._password.put(body, password)
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


class HttpAuth(HttpBacked):
    """Accepts and refuses credentials as the endpoint says."""

    phases = frozenset({Phase.AUTH})
    checks_credentials = True
    mechanisms = frozenset({"PLAIN", "LOGIN", "XOAUTH2"})

    def __init__(self, name: str, options: HttpAuthOptions, client: HttpClient) -> None:
        super().__init__(name, client)
        self._options = options
        self._json = (
            JsonBody(options.user, options.password) if options.credentials_method == "JSON" else None
        )
        self._result = JsonPath(options.json_result.path) if options.json_result else None

    def on_auth(self, session: Session, credentials: Credentials) -> Any:
        if credentials.mechanism == "CRAM-MD5":
            return ABSTAIN  # a digest proves the password only to a service that has it
        if self._options.credentials_method == "BASIC_AUTH" and ":" in credentials.username:
            return REFUSE  # RFC 7617 section 2: the endpoint would see another name
        return self._ask(session, credentials)

    async def _ask(self, session: Session, credentials: Credentials) -> Decision:
        headers, body = self._request(credentials)
        try:
            answer = await self._client.call(headers, body, read=self._result is not None)
            return self._decide(answer)
        except Unanswered as reason:
            return self.unanswered(reason, session=session.id)

    def _request(self, credentials: Credentials) -> tuple[dict[str, str], bytes]:
        user, password = credentials.username, credentials.password
        headers: dict[str, str] = {}
        body = b""
        if self._json is not None:
            headers["Content-Type"] = "application/json"
            body = self._json.of(user, password)
        elif self._options.credentials_method == "FORM_URLENCODED":
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            body = urlencode({self._options.user: user, self._options.password: password}).encode()
        else:
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            headers["Authorization"] = f"Basic {token}"
        if credentials.mechanism == "XOAUTH2":
            headers[MECHANISM_HEADER] = "XOAUTH2"
        return headers, body

    def _decide(self, answer: HttpAnswer) -> Decision:
        verdict = answer.verdict
        if verdict == "defer":
            raise Unanswered(f"HTTP status {answer.status}")
        if verdict == "refuse":
            return REFUSE
        if self._result is None or self._options.json_result is None:
            return ACCEPT
        found = self._result.find(answer.json())
        return ACCEPT if found is not MISSING and same(found, self._options.json_result.value) else REFUSE


def same(found: object, wanted: object) -> bool:
    """True if two JSON scalars are equal: `true` is not `1`, and `"1"` is neither."""
    return isinstance(found, bool) is isinstance(wanted, bool) and found == wanted


def build(options: HttpAuthOptions, name: str, context: BuildContext) -> HttpAuth:
    """The filter. Raises ConfigError if its HMAC secret is not available."""
    return HttpAuth(name, options, HttpClient.of(options.url, options.method_used, options.hmac, context))
