"""The envelope and the spool object: the formats that must never change by accident."""

from __future__ import annotations

import base64
import email
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from functions.ids import uuid7, uuid7_ms
from functions.message.envelope import (
    Client,
    Envelope,
    FlowNotes,
    Recipient,
    Tls,
    UnknownEnvelope,
    decode_value,
    encode_field,
    from_json,
)
from functions.spool.object import (
    dead_key,
    encode_object,
    kept_key,
    read_head,
    receipt_prefix,
    split_object,
    spool_key,
)
from tests.support.mails.damage import HOSTILE
from tests.support.servers.relay import ROOT

GOLDEN = ROOT / "tests" / "unit" / "functions" / "golden"

MAIL = b"Subject: x\r\n\r\nbody\xff\r\n"
MAIL_SHA256 = "983e298a1ac82dac5480a1e56e3301eddcefbc426efc3dcb7eb42a1195718a07"
FULL = Envelope(
    id="01890a5d-ac96-774b-bcce-b302099a8057",
    session="01890a5d-ac96-7b5c-8111-0123456789ab",
    received=1_767_323_045_678,
    reverse_path="sender@example.com",
    parameters=("SIZE=1000", "BODY=8BITMIME", "SMTPUTF8"),
    recipients=(
        Recipient(address="one@example.org", flows=("in", "archive")),
        Recipient(address="zwei@exämple.org", flows=("in",), parameters=("NOTIFY=NEVER",)),
    ),
    helo="client.example.com",
    client=Client(ip="192.0.2.7", port=4711, name="mail.example.com"),
    server="198.51.100.1:25",
    listener="25",
    tls=Tls(version="TLSv1.3", cipher="TLS_AES_256_GCM_SHA384", client_subject="CN=client"),
    user="alice",
    transmission="UTF8SMTPSA",
    notes={"in": FlowNotes(headers=(("X-Scanned", "yes"),), results={"spf": {"result": "pass"}})},
    size=len(MAIL),
    sha256=MAIL_SHA256,
    config="c" * 64,
    replay=1,
)
SMALL = Envelope(
    id="01890a5d-ac96-774b-bcce-b302099a8058",
    session="01890a5d-ac96-7b5c-8111-0123456789ac",
    received=1_767_323_045_678,
    reverse_path="",
    recipients=(Recipient(address="postmaster", flows=("in",)),),
    client=Client(ip="2001:db8::7"),
    size=len(MAIL),
    sha256=MAIL_SHA256,
)


@pytest.mark.parametrize(("name", "envelope"), [("full", FULL), ("small", SMALL)])
def test_objects_are_written_as_they_always_were(name: str, envelope: Envelope) -> None:
    assert encode_object(envelope, MAIL) == (GOLDEN / f"schema-1-{name}.eml").read_bytes()


@pytest.mark.parametrize(("name", "envelope"), [("full", FULL), ("small", SMALL)])
def test_objects_of_schema_1_are_read(name: str, envelope: Envelope) -> None:
    assert split_object((GOLDEN / f"schema-1-{name}.eml").read_bytes()) == (envelope, MAIL)


def test_the_object_is_a_mail() -> None:
    parsed = email.message_from_bytes(encode_object(FULL, MAIL))
    assert parsed["Subject"] == "x"
    assert all(len(line) <= 78 for line in encode_field(FULL).split(b"\r\n"))


@given(st.binary(max_size=200), st.integers(0, 700))
def test_the_envelope_is_found_at_every_cut(content: bytes, cut: int) -> None:
    # No stored mail starts with a blank: it would join the field above it.
    content = content.lstrip(b" \t")
    whole = encode_object(SMALL, content)
    assert split_object(whole) == (SMALL, content)
    head = read_head(whole[:cut])
    if head is not None:
        assert head == (SMALL, len(whole) - len(content))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"!!!", "not base64"),
        (base64.b64encode(b"nope"), "not JSON"),
        (base64.b64encode(b"[]"), "schema None"),
        (base64.b64encode(b'{"schema": 99}'), "schema 99"),
        (base64.b64encode(b'{"schema": true, "id": "x"}'), "envelope"),
        (base64.b64encode(b'{"schema": 1, "id": "x"}'), "envelope field"),
    ],
)
def test_what_is_no_envelope_is_named(value: bytes, reason: str) -> None:
    with pytest.raises(UnknownEnvelope, match=reason):
        decode_value(value)


@pytest.mark.parametrize("data", [b"", b"Subject: x\r\n\r\n", b"X-SMTP-Relay-Envelope: e30=", b"\0" * 100])
def test_foreign_objects_are_refused(data: bytes) -> None:
    with pytest.raises(UnknownEnvelope):
        split_object(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def read(text: bytes) -> None:
    """Any text is either an envelope that can be written again, or the error says why not."""
    try:
        found = from_json(text)
    except UnknownEnvelope:
        return
    assert from_json(found.to_json()) == found
    assert found.received_at
    assert found.flows()


@given(st.integers(0, 700), st.integers(0, 20), st.binary(max_size=20))
def test_whatever_is_spoiled_in_an_envelope_it_is_read_or_refused(at: int, gone: int, put: bytes) -> None:
    text = FULL.to_json()
    read(text[:at] + put + text[at + gone :])


@given(st.sampled_from(sorted(json.loads(FULL.to_json()))), JSON)
def test_whatever_stands_in_a_field_it_is_read_or_refused(name: str, value: object) -> None:
    read(json.dumps(json.loads(FULL.to_json()) | {name: value}).encode())


@pytest.mark.parametrize("name", HOSTILE)
def test_what_nobody_should_trust_is_refused(name: str) -> None:
    with pytest.raises(UnknownEnvelope) as caught:
        from_json(HOSTILE[name](FULL))
    assert len(str(caught.value)) < 1_000


def test_unknown_fields_of_a_later_minor_writer_are_passed_over() -> None:
    raw = json.loads(SMALL.to_json()) | {"something_new": 1}
    assert from_json(json.dumps(raw)) == SMALL


def test_an_envelope_never_changes() -> None:
    with pytest.raises(ValidationError):
        SMALL.id = "other"  # type: ignore[misc]


def test_recipients_of_a_flow() -> None:
    assert FULL.flows() == ("in", "archive")
    assert FULL.recipients_of("archive") == ("one@example.org",)
    assert FULL.smtputf8


def test_keys() -> None:
    at = FULL.received_at
    assert spool_key(FULL.id, at) == f"spool/7/2026/01/02/03/{FULL.id}.eml"
    assert kept_key(FULL.id, at) == f"kept/2026/01/02/03/{FULL.id}.eml"
    assert dead_key(FULL.id, "k") == f"dead/7/{FULL.id}/k.json"
    assert receipt_prefix(FULL.id) == f"receipts/7/{FULL.id}/"


def test_ids_sort_by_time_and_tell_it() -> None:
    earlier, later = uuid7(1_767_323_045_678), uuid7(1_767_323_045_679)
    assert earlier < later
    assert uuid7_ms(earlier) == 1_767_323_045_678
    assert earlier[14] == "7"
    assert earlier[19] in "89ab"
    assert len({uuid7() for _ in range(1000)}) == 1000
