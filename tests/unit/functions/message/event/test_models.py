"""The schema of events: real events keep it, and it finds every fault in an event."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any, Final

import pytest

from functions.message.envelope import from_json
from functions.message.event.cloudevent import MIN_BYTES, build
from functions.message.event.models import MailEvent
from functions.message.event.objects import Digest, StoredMail, StoredObject
from functions.message.mail import BytesContent, Mail
from functions.message.mime import read_parts
from listener.cli import schema
from scripts.event_examples import SAMPLES, event
from tests.support.mails.event_schema import SCHEMA, mistakes
from tests.support.mails.spooled import envelope_of
from tests.support.programs import corpus
from tests.support.servers.relay import ROOT

GOLDEN: Final = ROOT / "tests" / "unit" / "functions" / "golden" / "events-3.0.json"

Place = tuple[str | int, ...]


def events_of(content: bytes, **about: Any) -> Iterator[dict[str, Any]]:
    """The events of a mail: with much room and little, stored and not."""
    envelope = envelope_of(content, **about)
    read = read_parts(Mail(envelope, BytesContent(content)), "in")
    where = StoredObject("s3://b/k", "b", "k", Digest(1, "a" * 64))
    stored = StoredMail({"raw": where, "manifest": where}, dict.fromkeys(range(10), where))
    yield json.loads(build(envelope, read, flow="in", max_bytes=1_048_576))
    yield json.loads(
        build(envelope, read, flow="in", stored=stored, headers=False, text_limit=3, max_bytes=MIN_BYTES)
    )


def places(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """Every value in a value, with its place."""
    yield place, value
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in inner:
        yield from places(each, (*place, name))


def changed(whole: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    """A copy with another value at a place; without the value if it is `...`."""
    made = copy.deepcopy(whole)
    at: Any = made
    for name in place[:-1]:
        at = at[name]
    if value is ...:
        del at[place[-1]]
    else:
        at[place[-1]] = value
    return made


def parts() -> dict[str, Any]:
    """The objects that the schema describes."""
    whole = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return {"MailEvent": whole, **whole["$defs"]}


def required() -> set[str]:
    """The fields that no event may lack, by the name of their object."""
    return {f"{name}.{field}" for name, part in parts().items() for field in part.get("required", ())}


def optional() -> set[str]:
    """The names of fields that some object may lack."""
    return {
        field
        for part in parts().values()
        for field in part["properties"]
        if field not in part.get("required", ())
    }


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    """An event with a value for almost every field."""
    found = event("attachments")
    reply, mailing = event("reply")["data"]["email"], event("list")["data"]
    found["data"]["email"] |= {name: value for name, value in reply.items() if value not in ([], None)}
    found["data"]["email"]["listId"] = "x"
    found["data"]["email"]["bcc"] = found["data"]["email"]["to"]
    found["data"]["email"]["attachments"] = event("attachments")["data"]["email"]["attachments"]
    found["data"]["auth"] = mailing["auth"]
    found["data"]["truncated"] |= {"fields": event("bounce")["data"]["truncated"]["fields"]}
    found["data"]["envelope"]["parameters"] = ["SIZE=1"]
    return found


def test_the_committed_schema_is_that_of_the_models() -> None:
    made = schema.text(schema.event_schema())
    assert SCHEMA.read_text(encoding="utf-8") == made, (
        "run `smtp-relay schema --event > cloudevent.schema.json`"
    )


def test_every_field_has_a_description() -> None:
    whole = schema.event_schema()
    for part in (whole, *whole["$defs"].values()):
        assert part["description"]
        assert all(about.get("description") for about in part["properties"].values())


def test_the_data_schema_names_the_definition_of_data(full: dict[str, Any]) -> None:
    whole = json.loads(SCHEMA.read_text(encoding="utf-8"))
    place, _, definition = full["dataschema"].partition("#/$defs/")
    assert place == whole["$id"]
    assert whole["properties"]["data"]["$ref"] == f"#/$defs/{definition}"


def test_events_keep_the_schema(full: dict[str, Any]) -> None:
    found = [full, *map(event, SAMPLES)]
    for case in json.loads(GOLDEN.read_text(encoding="utf-8")):
        read = from_json(json.dumps(case["envelope"]))
        content = read_parts(Mail(read, BytesContent(base64.b64decode(case["mail"]))), "in")
        found.append(json.loads(build(read, content, flow="in", max_bytes=1_048_576)))
    for path in corpus():
        found += events_of(path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    hostile = b"".join(b"%s: \xff\x00\x01=?x?q?=ff?=\r\n" % name for name in FIELDS)
    found += events_of(hostile + b"\r\n\xff", reverse_path="", results={"spf": {"result": "none"}})
    assert [wrong for wrong in mistakes(found) if wrong] == []
    for each in found:
        MailEvent.model_validate(each, by_alias=True, by_name=False)


FIELDS: Final = (
    *(b"From", b"To", b"Cc", b"Bcc", b"Reply-To", b"Subject", b"Date", b"Message-ID", b"X-Priority"),
    *(b"In-Reply-To", b"References", b"List-Id", b"Auto-Submitted", b"Content-Type", b"Content-ID"),
)


def test_an_event_without_a_required_field_is_refused(full: dict[str, Any]) -> None:
    checked = [
        (name, changed(full, (*place, name), ...))
        for place, value in places(full)
        for name in (value if isinstance(value, dict) else ())
    ]
    wrong = mistakes([value for _, value in checked])
    missed = {name for (name, _), found in zip(checked, wrong, strict=True) if '"required"' in found}
    # Names that are required in one object and optional in another are counted by the first.
    assert missed == {name for _, _, name in (field.partition(".") for field in required())}
    assert {name for (name, _), found in zip(checked, wrong, strict=True) if not found} <= optional()


def test_an_event_with_another_type_anywhere_is_refused(full: dict[str, Any]) -> None:
    other: dict[type, Any] = {str: 1, int: "1", bool: "true", list: {}, dict: [], type(None): 1}
    checked = [changed(full, place, other[type(value)]) for place, value in places(full) if place]
    checked += [changed(full, place, None) for place, _ in places(full) if place]
    assert len(checked) > 300
    assert all(mistakes(checked))


def test_an_event_with_an_unknown_key_anywhere_is_refused(full: dict[str, Any]) -> None:
    at = [place for place, value in places(full) if isinstance(value, dict)]
    checked = [changed(full, (*place, "unknown"), 1) for place in at]
    wrong = mistakes(checked)
    assert len(wrong) > 30
    assert all("additionalProperties" in each for each in wrong)


def test_the_models_name_every_field_that_the_code_writes(full: dict[str, Any]) -> None:
    """The fields of the schema that no event of these tests has."""
    seen = {name for _, value in places(full) if isinstance(value, dict) for name in value}
    known = {name for part in parts().values() for name in part["properties"]}
    rare = {"priority", "comment", "explanation", "mechanism", "ignored", "identity", "signature", "testing"}
    rare |= {
        "link",
        "unsignedOctets",
        "enforced",
        "others",
        "instances",
        "oldestPass",
        "autoSubmitted",
        "replyTo",
    }
    assert known - seen == rare - seen
