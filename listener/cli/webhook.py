"""`webhook test`: posts a sample mail by one `webhook` output, and shows the answer."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from functions.errors import ConfigError, DeliveryFault
from functions.message.text import escaped
from functions.options.secrets import Runtime, secrets_of
from listener.cli.arguments import CONFIG
from listener.cli.parser import give_examples
from listener.config.load import load

if TYPE_CHECKING:
    from functions.processors.base import Job
    from functions.processors.webhook.options import WebhookOptions
    from listener.config.relay import RelayConfig

HIDDEN: Final = "**********"

_LEAST_SECRET: Final = 4  # characters: a shorter one is part of ordinary words
_SAMPLE: Final = (
    b"From: Sample <sample@example.com>\r\nTo: you@example.com\r\n"
    b"Subject: A sample of smtp-relay\r\nMessage-ID: <%s@smtp-relay.example>\r\nDate: %s\r\n\r\n"
    b"smtp-relay webhook test sent this.\r\n"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("test",))
    parser.add_argument(
        "name", nargs="?", help="the output's name or label; may be omitted if it is the only one"
    )
    parser.add_argument("--config", "-c", **CONFIG)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    give_examples(parser, "smtp-relay webhook test", "smtp-relay webhook test crm --config relay.jsonc")


def run(arguments: argparse.Namespace) -> int:
    """Post the sample once. Returns 0 for a status 2xx, else 1."""
    config = load(arguments.config, os.environ)
    flow, label, options = chosen(config, arguments.name)
    found = posted(options, label, flow)
    if arguments.json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print("\n".join(lines(found)))
    return 0 if found["delivered"] else 1


def chosen(config: RelayConfig, name: str | None) -> tuple[str, str, WebhookOptions]:
    """Flow, label and options of the output that is meant. Raises ConfigError."""
    known = [(flow, label, options) for _, flow, label, options in webhooks(config)]
    found = [one for one in known if name in (None, one[1], f"{one[0]}/{one[1]}")]
    if len(found) == 1:
        return found[0]
    if not known:
        raise ConfigError(config.source, "has no output of type webhook", "add one to a flow's outputs")
    names = ", ".join(f"{flow}/{label}" for flow, label, _ in known)
    if name is None or found:
        raise ConfigError("webhook test", "several outputs are possible", f"name one: {names}")
    raise ConfigError(name, "is not an output of type webhook", f"there are {names}")


def webhooks(config: RelayConfig) -> Iterator[tuple[str, str, str, WebhookOptions]]:
    """The place in the file, flow, label and options of each output that posts."""
    from functions.processors.webhook.options import WebhookOptions

    for flow, each in config.flows.items():
        for index, (label, options) in enumerate(each.labelled()):
            if isinstance(options, WebhookOptions):
                yield f"flows.{flow}.outputs[{index}]", flow, label, options


def posted(options: WebhookOptions, label: str, flow: str) -> dict[str, Any]:
    """What came of one request: `status` and `body`, or `reason`; the body is bounded. Raises ConfigError."""
    from functions.http.client import Unanswered
    from functions.processors.context import BuildContext
    from functions.processors.webhook.output import build

    around = Runtime.here()
    # What another output stored cannot be had for a sample.
    sent = options.model_copy(update={"stored": None, "presign": None})
    webhook = build(sent, label, BuildContext(around.folder, around.environ, around.secrets))
    found: dict[str, Any] = {"output": label, "flow": flow, "to": webhook.shown}
    start = time.monotonic()
    try:
        answer = webhook.send(sample(flow))
        found |= {"status": answer.status, "body": answer.body.decode("utf-8", "replace")}
    except (Unanswered, DeliveryFault) as fault:
        found["reason"] = str(fault)
    finally:
        webhook.close()
    found["seconds"] = round(time.monotonic() - start, 3)
    found["delivered"] = 200 <= found.get("status", 0) < 300
    hide = _hider(options, around.secrets)
    return {key: hide(value) if isinstance(value, str) else value for key, value in found.items()}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The same for a reader, without control characters."""
    result = f"status {found['status']}" if "status" in found else f"no answer: {found['reason']}"
    yield escaped(f"{found['flow']}/{found['output']} to {found['to']}: {result} after {found['seconds']} s")
    yield from map(escaped, found.get("body", "").splitlines())


def sample(flow: str) -> Job:
    """The work on a sample mail. Its id is new, so each test is a delivery of its own."""
    from email.utils import formatdate

    from functions.ids import uuid7
    from functions.message.envelope import Client, Envelope, Recipient
    from functions.message.mail import BytesContent, Mail
    from functions.processors.base import Job

    mail_id = uuid7()
    content = _SAMPLE % (mail_id.encode(), formatdate().encode())
    recipient = "you@example.com"
    envelope = Envelope(
        id=mail_id,
        session=uuid7(),
        received=time.time_ns() // 1_000_000,
        reverse_path="sample@example.com",
        recipients=(Recipient(address=recipient, flows=(flow,)),),
        helo="localhost",
        client=Client(ip="127.0.0.1", name="localhost"),
        server="127.0.0.1:25",
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    mail = Mail(envelope, BytesContent(content))
    key = hashlib.sha256(mail_id.encode()).hexdigest()[:32]
    return Job(mail, flow, (recipient,), lambda part, effect: effect(), lambda: 600.0, key=key)


def _hider(options: WebhookOptions, resolve: Callable[[str], str]) -> Callable[[str], str]:
    """Takes the output's secrets out of a text, because a receiver may repeat what it was sent."""
    known = [secret.resolve(resolve) for _, secret in secrets_of(options)]
    known += [value.resolve(resolve) for value in options.headers.values()]
    secrets = sorted({one for one in known if len(one) >= _LEAST_SECRET}, key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, HIDDEN)
        return text

    return hide
