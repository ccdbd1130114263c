"""Templates: the values of variables, and that no value leaves its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.envelope import Client, Envelope, Recipient
from functions.message.mail import BytesContent, Mail
from functions.message.template import (
    MAX_NAME,
    VARIABLES,
    Place,
    Template,
    TemplateValues,
    iso8601,
    safe_value,
)

ID = "019b7d2a-0000-7000-8000-000000000000"


def values(
    *,
    content: bytes = b"Subject: Hello\r\nMessage-ID: <1@x.example>\r\n\r\n",
    reverse_path: str = "bob@example.org",
    recipients: tuple[str, ...] = ("carol@Example.NET", "dave@example.com"),
    user: str | None = "alice",
    flow: str = "inbox",
    attachment: str | None = None,
) -> TemplateValues:
    envelope = Envelope(
        id=ID,
        session="019b7d2a-1111-7000-8000-000000000000",
        received=1_767_323_045_678,
        reverse_path=reverse_path,
        recipients=(
            *(Recipient(address=address, flows=(flow,)) for address in recipients),
            Recipient(address="other@example.org", flows=("other",)),
        ),
        client=Client(ip="192.0.2.1"),
        user=user,
        size=len(content),
        sha256="",
    )
    return TemplateValues(Mail(envelope, BytesContent(content)), flow, attachment)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("${iso8601}.eml", "20260102T030405678Z.eml"),
        ("${timestamp}", "1767323045678"),
        ("${id}", ID),
        ("${session}", "019b7d2a-1111-7000-8000-000000000000"),
        ("${from}", "bob@example.org"),
        ("${to}", "carol@Example.NET,dave@example.com"),
        ("${messageId}", "1@x.example"),
        ("${subject}", "Hello"),
        ("${user}", "alice"),
        ("${flow}", "inbox"),
        ("${date:%Y/%m/%d}/${id}", f"2026/01/02/{ID}"),
        ("${date}", "2026-01-02"),
        ("${domain}/x", "example.net/x"),
        ("$x $ {id}", "$x $ {id}"),
        ("", ""),
    ],
)
@pytest.mark.parametrize("place", ["path", "key"])
def test_variables(text: str, rendered: str, place: Place) -> None:
    assert Template.parse(text).render(values(), place) == rendered


def test_a_template_tells_what_it_uses() -> None:
    template = Template.parse("${flow}/${date:%Y}/${id}.eml")
    assert template.variables == {"flow", "date", "id"}


def test_the_header_is_read_only_where_it_is_used() -> None:
    facts = values()
    Template.parse("${flow}/${iso8601}_${id}.eml").render(facts)
    assert "head" not in vars(facts.mail)
    Template.parse("${subject}").render(facts)
    assert "head" in vars(facts.mail)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${isoo8601}.eml", "unknown variable ${isoo8601}, did you mean ${iso8601}?"),
        ("${messageid}", "did you mean ${messageId}?"),
        ("${}", "unknown variable ${}, known are attachment, "),
        ("${zzzzz}", "known are"),
        ("${id:x}", "${id} takes no format"),
        ("a${id", "'${id' in the template does not end"),
        ("${date:%Q}", "'%Q' in ${date:%Q} is not a directive"),
        ("${date:%}", "'%' in ${date:%}"),
    ],
)
def test_a_mistake_is_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"variable|template|directive") as error:
        Template.parse(text)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("value", "safe"),
    [
        ("plain name-1_2.txt", "plain name-1_2.txt"),
        ("../../etc/passwd", "_.._etc_passwd".replace("..", ".")),
        ("..", "_"),
        ("...", "_"),
        (".hidden", "hidden"),
        ("a/b\\c", "a_b_c"),
        ("a\x00\r\n\x1b\u202eb", "a_____b"),
        ("Grüße €", "Grüße €"),
        ("e\u0301", "é"),
        ("\udcff", "_"),
        (" padded. ", "padded"),
        ("", "_"),
        ("x" * 400, "x" * 150),
        ("é" * 400, "é" * 75),
    ],
)
def test_values_are_made_safe(value: str, safe: str) -> None:
    assert safe_value(value) == safe


def test_an_attachment_keeps_its_extension() -> None:
    rendered = Template.parse("${id}/${attachment}").render(values(attachment="é" * 300 + ".tar.gz"))
    folder, _, name = rendered.partition("/")
    assert folder == ID
    assert name.endswith("é.gz")
    assert len(name.encode()) <= 150 - len(ID)


def test_many_values_share_the_room_so_that_the_rest_survives() -> None:
    rendered = Template.parse("${subject}_${from}_${to}_${id}.eml").render(
        values(
            content=b"Subject: " + b"s" * 900 + b"\r\n\r\n", reverse_path="f" * 200, recipients=("t" * 200,)
        )
    )
    assert rendered.endswith(f"_{ID}.eml")
    assert len(rendered) <= MAX_NAME


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("../${id}", f"_/{ID}"),
        ("/abs/${id}", f"abs/{ID}"),
        (".${user}.", "._."),
        ("${user}/../x", "_/_/x"),
        ("a//b", "a/b"),
        ("${date:..}/x", "_/x"),
        ("${date:%Y}/../x", "2026/_/x"),
        (".", "_"),
    ],
)
def test_the_template_itself_cannot_leave_either(text: str, rendered: str) -> None:
    assert Template.parse(text).render(values(user=None)) == rendered


hostile = st.text(alphabet="./\\\x00\r\n ab\u202eé~\udcff", max_size=60) | st.text(max_size=300)
templates = st.lists(
    st.sampled_from(["/", ".", "..", "a", *(f"${{{name}}}" for name in sorted(VARIABLES)), "${date:%Y/%m}"]),
    max_size=8,
).map("".join)


@given(templates, hostile, hostile, hostile)
def test_no_value_leaves_the_folder(text: str, subject: str, sender: str, name: str) -> None:
    content = b"Subject: " + subject.encode("utf-8", "replace").replace(b"\r\n", b"") + b"\r\n\r\n"
    facts = values(
        content=content, reverse_path=sender, recipients=(name,), user=name, flow=sender, attachment=name
    )
    path = Template.parse(text).render(facts)
    for component in path.split("/") if path else []:
        assert component not in ("", ".", "..")
        assert len(component.encode()) <= MAX_NAME
        assert not any(ord(c) < 32 or c in "\\\x7f" for c in component)
    key = Template.parse(text).render(facts, "key")
    assert ".." not in key.split("/")
    assert key.count("/") == text.count("/")


@given(st.integers(0, 4_102_444_800_000))
def test_iso8601_sorts_as_time(ms: int) -> None:
    assert iso8601(ms) < iso8601(ms + 1)
    assert len(iso8601(ms)) == 19
