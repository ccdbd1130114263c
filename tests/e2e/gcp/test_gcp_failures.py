"""Outputs that fail for good, notifications that never come, and the commands that repair both."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from functions.spool.object import spool_key
from tests.support.clouds.gcp import call
from tests.support.clouds.gcp_stack import PREFIX, Stack
from tests.support.mails.spooled import MAIL, envelope_of
from tests.support.programs import run
from tests.support.servers.relay import ROOT

Stacks = Callable[..., Stack]

TELL = {"type": "gcp", "pubsub": {"topic": "{topic:out}"}}


def smtp_relay(stack: Stack, *arguments: str) -> str:
    """The output of the command line."""
    environment = {**stack.environment, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "listener.cli.main", *arguments]
    return run(command, env=environment).stdout.decode()


def test_one_output_fails_for_good_and_is_replayed(stack_for: Stacks) -> None:
    missing = {"type": "gcp", "name": "archive", "storage": {"bucket": "not-there-yet"}}
    stack = stack_for({"in": [missing, TELL]})
    stack.put()
    stack.until(lambda: any("parked" in key for key in stack.keys("dead/")), "the mail to be parked")
    (record,) = stack.dead_records()
    assert record["output"] == "archive"
    assert record["code"] == "5.1.2"
    assert "not-there-yet" in record["reason"]
    assert len(stack.messages("out")) == 1
    assert len(stack.spooled()) == 1

    config = str(stack.config)
    listed = smtp_relay(stack, "deadletter", "list", "--config", config, "--json")
    assert json.loads(listed)["id"] == record["id"]
    shown = smtp_relay(stack, "deadletter", "show", record["id"], "--config", config)
    assert "Subject: hello" in shown
    assert "0 notified again" in smtp_relay(stack, "sweep", config)  # parked mail waits for the operator
    call("POST", f"{stack.gcs.url}/storage/v1/b?project=p", {"name": "not-there-yet"})
    replayed = smtp_relay(stack, "deadletter", "replay", record["id"], "--now", "--config", config)
    assert "1 replayed" in replayed
    stack.settled()
    assert len(stack.gcs.keys("not-there-yet")) == 1
    assert stack.messages("out", seconds=0.3) == []
    assert stack.keys("dead/") == []
    assert stack.pubsub.pull(f"{stack.name}-dead") == []


def test_without_notifications_the_sweep_delivers(stack_for: Stacks) -> None:
    stack = stack_for({"in": [TELL]}, notify=False)
    keys = [stack.put(age=16 * 60), stack.put(age=3 * 3600 + 5), stack.put(age=60)]
    due = stack.put(age=15 * 60 + 30)
    found = stack.sweep()
    assert found["unfinished"] == 4
    assert found["dead"] == 0
    assert 3 * 3600 <= found["oldest"] < 4 * 3600
    assert found["notified"] == 2  # whose age passed a step in the last ten minutes
    stack.until(lambda: sorted(stack.spooled()) == sorted(keys[1:]), "those to be delivered")
    assert due not in stack.spooled()
    assert "2 unfinished" in (said := smtp_relay(stack, "sweep", str(stack.config)))
    assert "1 notified again" in said
    stack.until(lambda: stack.spooled() == [keys[2]], "the third to be delivered")
    assert len(stack.messages("out", least=3)) == 3
    (entry, *_) = [each for each in stack.function.entries() if each["message"] == "swept"]
    assert entry["severity"] == "INFO"
    assert entry["unfinished"] == 4


def test_kept_mail_is_replayed_under_a_new_number(stack_for: Stacks) -> None:
    stack = stack_for({"in": [TELL]}, settings={"keepCache": True})
    stack.put()
    stack.settled()
    (kept,) = stack.keys("kept/")
    mail_id = kept.rpartition("/")[2].removesuffix(".eml")
    config = str(stack.config)
    for told in (2, 1):  # with the mail's own first message
        smtp_relay(stack, "deadletter", "replay", mail_id, "--kept", "--now", "--config", config)
        stack.settled()
        assert len(stack.messages("out", least=told)) == told
        assert stack.messages("out", seconds=0.3) == []


def test_an_outage_of_the_bucket_loses_nothing(stack_for: Stacks) -> None:
    """The spool does not answer: the push comes back until it does."""
    stack = stack_for({"in": [TELL]}, notify=False)
    envelope = envelope_of(age=1)
    key = f"{PREFIX}/{spool_key(envelope.id, envelope.received_at)}"
    stack.gcs.stop()
    started = time.monotonic()
    assert stack.push(key) == 503
    assert time.monotonic() - started < 35
    stack.gcs.start()
    assert stack.push(key) == 204  # the bucket is empty now: no mail is unfinished
    put = stack.put(MAIL)
    assert stack.push(put) == 204
    assert len(stack.messages("out")) == 1
