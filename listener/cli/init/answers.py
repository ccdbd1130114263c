"""What `init` asks: each question with its flag, its default and its check."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from functions.errors import ConfigError
from functions.processors.mailer.options import check_domain
from listener.cli.mails.place import address
from listener.config.listeners import is_loopback

_SUBMISSION: Final = 587  # RFC 6409
_SUBMISSIONS: Final = 465  # RFC 8314 section 7.3


@dataclass(frozen=True, slots=True)
class InitQuestion:
    """One setting. `check` returns the answer in its final form, or raises ValueError."""

    name: str
    text: str
    default: str
    check: Callable[[str], str]
    example: bool = True
    """The default only shows the form, so the user must change it."""

    def answered(self, text: str) -> str:
        """The answer in its final form. Raises ConfigError."""
        try:
            return self.check(text.strip())
        except ValueError as error:
            raise ConfigError(f"--{self.name}", str(error), f"such as {self.default}") from error


def _matching(pattern: str, what: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    return check


_check_bucket = _matching(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", "the name of a bucket")


def _bucket(text: str) -> str:
    return _check_bucket(re.sub("^(s3|gs)://", "", text).rstrip("/"))


def _host(text: str) -> str:
    try:
        host, port = address(text)
    except ConfigError as error:
        raise ValueError(error.what) from error
    return f"[{host}]:{port or _SUBMISSION}" if ":" in host else f"{host}:{port or _SUBMISSION}"


def _user(text: str) -> str:
    if not text.isprintable():
        raise ValueError(f"{text!r} holds a control character")
    return text


def _region() -> str:
    named = [os.environ.get(name, "") for name in ("AWS_REGION", "AWS_DEFAULT_REGION")]
    return next((name for name in named if re.fullmatch(_REGION, name)), "eu-west-1")


_REGION: Final = r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}"

BUCKET: Final = InitQuestion("bucket", "The bucket to store in", "my-inbound-mail", _bucket)
DOMAIN: Final = InitQuestion("domain", "The domain to receive mail for", "example.com", check_domain)
HOST: Final = InitQuestion("host", "The smarthost, HOST[:PORT]", "smtp.example.com:587", _host)
USER: Final = InitQuestion(
    "user", "Its user name (the password goes into .env; - for no login)", "relay@example.com", _user
)
REGION: Final = InitQuestion(
    "region", "The region of AWS", _region(), _matching(_REGION, "a region of AWS"), example=False
)
QUEUE: Final = InitQuestion(
    "queue",
    "The URL of the SQS queue",
    "https://sqs.eu-west-1.amazonaws.com/123456789012/inbound-mail",
    _matching(r"https?://[^\s/]+/[0-9]{12}/[A-Za-z0-9_-]{1,80}(\.fifo)?", "the URL of a queue"),
)
TOPIC: Final = InitQuestion(
    "topic",
    "The topic of Pub/Sub",
    "projects/my-project/topics/inbound-mail",
    _matching(r"projects/[a-z0-9:.-]+/topics/[A-Za-z][A-Za-z0-9._~%+-]{2,254}", "a topic"),
)

QUESTIONS: Final = (BUCKET, REGION, HOST, USER, DOMAIN, QUEUE, TOPIC)


def values(answers: Mapping[str, str]) -> dict[str, object]:
    """The values that a configuration's text holds, made of the answers."""
    made: dict[str, object] = dict(answers)
    if "domain" in answers:
        made["recipients"] = f"regexp:.*@{re.escape(answers['domain'])}"
    if "queue" in answers and (found := re.search(r"\bsqs\.([a-z0-9-]+)\.", answers["queue"])):
        made.setdefault("region", found[1])
    made.setdefault("region", REGION.default)
    if "host" in answers:
        made["server"] = _server(*address(answers["host"]), answers["user"])
    return made


def _server(host: str, port: int | None, user: str) -> dict[str, object]:
    """A smarthost. Mails and passwords pass the network under TLS only; to this machine there is none."""
    local = host == "localhost" or is_loopback(host)
    tls = "ignoreTLS" if local else "secure" if port == _SUBMISSIONS else "requireTLS"
    login = {"auth": {"user": user, "pass": "env:SMARTHOST_PASSWORD"}} if user not in {"", "-"} else {}
    return {"host": host, "port": port, tls: True, **login}
