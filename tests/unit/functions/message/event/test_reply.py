"""The text above a quoted mail, as many mail programs quote it."""

from __future__ import annotations

import time
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.message.event.reply import MAX_LINES, MAX_TEXT, reply_text

QUOTED: Final = "> the first line\n>\n> > an older one\n> the last line\n"
OPEN: Final = "the first line\n\nthe last line\n"

MARKED: Final = {
    "Gmail": "On Mon, Jan 5, 2026 at 10:00 AM Ann Example <ann@example.org> wrote:\n\n",
    "Gmail, wrapped": "On Mon, 5 Jan 2026 at 10:00, Ann Example-Lastname <ann@example.org>\nwrote:\n\n",
    "Gmail, wrapped twice": "On Mon, Jan 5, 2026 at 10:00 AM\nAnn Example <\nann@example.org> wrote:\n",
    "Apple Mail": "On Jan 5, 2026, at 10:00 AM, Ann Example <ann@example.org> wrote:\n\n",
    "Thunderbird": "On 1/5/26 10:00, Ann Example wrote:\n",
    "mutt": "On Mon, Jan 05, 2026 at 10:00:00AM +0100, Ann Example wrote:\n",
    "Gnus": "Ann Example <ann@example.org> writes:\n\n",
    "Horde": "Quoting Ann Example <ann@example.org>:\n\n",
    "German": "Am 05.01.2026 um 10:00 schrieb Ann Example:\n",
    "German Gmail": "Am Mo., 5. Jan. 2026 um 10:00 Uhr schrieb Ann <ann@example.org>:\n\n",
    "French": "Le lun. 5 janv. 2026 à 10:00, Ann <ann@example.org> a écrit :\n\n",
    "French, unbreakable blank": "Le 05/01/2026 à 10:00, Ann a écrit\xa0:\n",
    "Spanish": "El lun, 5 ene 2026 a las 10:00, Ann (<ann@example.org>) escribió:\n\n",
    "Italian": "Il giorno lun 5 gen 2026 alle ore 10:00 Ann <ann@example.org> ha scritto:\n\n",
    "Portuguese": "Em seg., 5 de jan. de 2026 às 10:00, Ann <ann@example.org> escreveu:\n\n",
    "Dutch": "Op ma 5 jan 2026 om 10:00 schreef Ann <ann@example.org>:\n\n",
    "Swedish": "Den mån 5 jan. 2026 kl 10:00 skrev Ann <ann@example.org>:\n\n",
    "Danish": "Den man. 5. jan. 2026 kl. 10.00 skrev Ann <ann@example.org>:\n\n",
    "Finnish": "ma 5. tammik. 2026 klo 10.00 Ann (ann@example.org) kirjoitti:\n\n",
    "Polish": "W dniu 5.01.2026 o 10:00, Ann Example pisze:\n".replace("pisze", "napisał(a)"),
    "Polish Gmail": "pon., 5 sty 2026 o 10:00 Ann <ann@example.org> napisał(a):\n\n",
    "Czech": "po 5. 1. 2026 v 10:00 odesílatel Ann <ann@example.org> napsal:\n\n",
    "Russian": "пн, 5 янв. 2026 г. в 10:00, Ann <ann@example.org>:\n\n",
    "Ukrainian": "пн, 5 січ. 2026 р. о 10:00 Ann <ann@example.org> пише:\n\n",
    "Turkish": "Ann <ann@example.org>, 5 Oca 2026 Pzt, 10:00 tarihinde şunu yazdı:\n\n",
    "Greek": "Στις Δευ 5 Ιαν 2026 στις 10:00 π.μ., ο χρήστης Ann <ann@example.org> έγραψε:\n\n",
    "Japanese": "2026年1月5日(月) 10:00 Ann <ann@example.org>:\n\n",
    "Chinese": "Ann <ann@example.org> 于2026年1月5日周一 10:00写道：\n\n",
    "Korean": "2026년 1월 5일 (월) 오전 10:00, Ann <ann@example.org>님이 작성:\n\n",
    "a language that it does not know": "Zzz 2026-01-05 10:00 Ann <ann@example.org> qqq:\n\n",
    "no introduction": "",
}

UNMARKED: Final = {
    "Gmail's HTML": "On Mon, Jan 5, 2026 at 10:00 AM Ann Example <ann@example.org> wrote:\n\n",
    "Thunderbird's HTML": "Am 05.01.26 um 10:00 schrieb Ann Example:\n",
    "Zoho": "---- On Mon, 05 Jan 2026 10:00:00 +0100 Ann <ann@example.org> wrote ----\n",
    "Proton": "------- Original Message -------\nOn Monday, January 5th, 2026 at 10:00, Ann wrote:\n",
    "old Outlook": "-----Original Message-----\nFrom: Ann\nSent: Monday\nTo: Bob\nSubject: x\n\n",
    "old Outlook, German": "-----Ursprüngliche Nachricht-----\nVon: Ann\nGesendet: Montag\nAn: Bob\n\n",
    "old Outlook, French": "-----Message d'origine-----\nDe : Ann\nEnvoyé : lundi\nÀ : Bob\n\n",
    "QQ": "------------------ 原始邮件 ------------------\n发件人: Ann\n\n",
    "Outlook": "From: Ann <ann@example.org>\nSent: Monday, January 5, 2026 10:00 AM\nTo: Bob\nSubject: x\n\n",
    "Outlook's rule": "____________________\nFrom: Ann <a@b.example>\nSent: Monday\nTo: Bob\nSubject: x\n\n",
    "Outlook in bold": "*From:* Ann <ann@example.org>\n*Sent:* Monday\n*To:* Bob\n*Subject:* x\n\n",
    "Outlook, German": "Von: Ann\nGesendet: Montag, 5. Januar 2026 10:00\nAn: Bob\nBetreff: AW: x\n\n",
    "GMX": "Gesendet: Montag, 05. Januar 2026 um 10:00 Uhr\nVon: Ann\nAn: Bob\nBetreff: x\n\n",
    "Open-Xchange": "Ann Example <ann@example.org> hat am 05.01.2026 10:00 geschrieben:\n\n",
    "Outlook, French": "De\xa0: Ann\nEnvoyé\xa0: lundi\nÀ\xa0: Bob\nObjet\xa0: x\n\n",
    "Outlook, Spanish": "De: Ann\nEnviado el: lunes, 5 de enero\nPara: Bob\nAsunto: x\n\n",
    "Outlook, Italian": "Da: Ann\nInviato: lunedì\nA: Bob\nOggetto: x\n\n",
    "Outlook, Dutch": "Van: Ann\nVerzonden: maandag\nAan: Bob\nOnderwerp: x\n\n",
    "Outlook, Japanese": "差出人: Ann\n送信日時: 2026年1月5日\n宛先: Bob\n件名: x\n\n",
    "Outlook with empty lines": "From: Ann\n\nSent: Monday\n\nTo: Bob\n\nSubject: x\n\n",
}


@pytest.mark.parametrize("introduction", MARKED.values(), ids=MARKED)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_the_text_above_marked_lines_is_the_reply(introduction: str, line_end: str) -> None:
    text = f"Thanks, Ann!\n\nSee you.\n\n{introduction}{QUOTED}".replace("\n", line_end)
    found = reply_text(text, "Re: x", True)
    assert found is not None
    assert found.replace("\r\n", "\n") == "Thanks, Ann!\n\nSee you."


@pytest.mark.parametrize("introduction", UNMARKED.values(), ids=UNMARKED)
def test_the_text_above_a_separator_is_the_reply(introduction: str) -> None:
    assert reply_text(f"Thanks, Ann!\n\n{introduction}{OPEN}", "Re: x", True) == "Thanks, Ann!"


@pytest.mark.parametrize(
    "signature",
    [
        "-- \nBob Example\n+1 555\n",
        "Sent from my iPhone\n",
        "Sent with Proton Mail secure email.\n",
        "\nGet Outlook for iOS<https://aka.ms/o0ukef>\n",
        "Von meinem iPhone gesendet\n",
    ],
)
def test_the_signature_is_no_part_of_the_reply(signature: str) -> None:
    text = f"Thanks!\n\n{signature}\n{MARKED['Gmail']}{QUOTED}"
    assert reply_text(text, "Re: x", True) == "Thanks!"


@pytest.mark.parametrize(
    "below", ["-- \nBob\nBerlin\n", "____________________\nlist mailing list\nlist@example.org\n", "\n\n"]
)
def test_a_signature_or_footer_may_follow_the_quoted_mail(below: str) -> None:
    assert reply_text(f"Yes.\n\n{MARKED['mutt']}{QUOTED}\n{below}", "Re: x", True) == "Yes."


UNSURE: Final = {
    "no quoted mail": "Just a text.\nOn Monday, we wrote:\nnothing\n",
    "an answer between the lines": f"{MARKED['mutt']}> a question?\nAn answer.\n> another?\nYes.\n",
    "an answer below": f"{MARKED['mutt']}{QUOTED}\nThe answer.\n",
    "text above and below": f"Hello,\n\n{MARKED['mutt']}{QUOTED}\nThe answer.\n",
    "the author's own words before a quotation": f"Look at this:\n{QUOTED}",
    "nothing above": MARKED["Gmail"] + QUOTED,
    "a forwarded mail": f"See below.\n\n---------- Forwarded message ---------\n{UNMARKED['Outlook']}{OPEN}",
    "Apple's forwarded mail": f"See below.\n\nBegin forwarded message:\n\n> From: Ann\n{QUOTED}",
    "a citation with a year": "In the text:\nOn page 12 of 1984 he wrote:\nIt was a bright day\n\nBye\n",
    "a list of labels": "From: Berlin\nBye\n",
    "empty": "",
}


@pytest.mark.parametrize("text", UNSURE.values(), ids=UNSURE)
def test_there_is_no_reply_where_it_is_not_sure(text: str) -> None:
    assert reply_text(text, "Re: x", True) is None


def test_a_forwarded_mail_has_no_reply_whatever_it_quotes() -> None:
    text = f"See below.\n\n{UNMARKED['Outlook']}{OPEN}"
    assert reply_text(text, "Re: x", True) == "See below."
    for subject in ("FW: x", "Fwd: Re: x", "WG: x", "TR : x"):
        assert reply_text(text, subject, True) is None


def test_a_mail_without_a_text_or_that_answers_none_has_no_reply() -> None:
    assert reply_text(None, "Re: x", True) is None
    assert reply_text(f"Hello\n\n{UNMARKED['Outlook']}{OPEN}", "x", False) is None


def test_quotation_marks_make_a_reply_of_a_mail_that_names_no_other() -> None:
    assert reply_text(f"Yes.\n\n{MARKED['Gmail']}{QUOTED}", "x", False) == "Yes."


@given(st.text(alphabet=st.sampled_from("a1@<>:-_ \n\r*\xa0："), max_size=300), st.booleans())
def test_a_reply_is_always_a_part_of_the_text(text: str, answers: bool) -> None:
    for whole in (text, f"{text}\n{MARKED['Gmail']}{QUOTED}", f"x\n{text}\n{QUOTED}"):
        found = reply_text(whole, "Re: x", answers)
        assert found is None or (found and found in whole)


@pytest.mark.parametrize(
    "piece", [">", "a:\n", "wrote: ", "1 wrote:\n", "From: x\n", "-", "\n", "On 1 @ ", "* "]
)
def test_no_text_takes_long(piece: str) -> None:
    text = "x\n" + piece * (MAX_TEXT // len(piece) - 2)
    start = time.process_time()
    reply_text(text, "Re: x", True)
    assert time.process_time() - start < 1


def test_a_text_that_is_too_long_to_search_has_no_reply() -> None:
    text = f"Yes.\n\n{MARKED['Gmail']}{QUOTED}"
    assert reply_text(text, "Re: x", True) == "Yes."
    assert reply_text(text + "> \n" * (MAX_TEXT // 3), "Re: x", True) is None
    assert reply_text(text + ">\n" * MAX_LINES, "Re: x", True) is None
