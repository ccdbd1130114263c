"""Answers that a test gives to its application."""

from __future__ import annotations

from pathlib import Path

from tests.support.pytest_project import Project


def test_a_test_answers_its_application_until_it_ends(tmp_path: Path) -> None:
    project = Project(tmp_path / "project")
    project.write(
        "test_it.py",
        """
        import smtplib, time

        import pytest


        def test_a_refusal(mailbox, send):
            mailbox.respond("452 4.2.2 Mailbox full", to="bob@example.com")
            mailbox.respond("451 4.3.0 Later", phase="data", nth=1)
            with pytest.raises(smtplib.SMTPRecipientsRefused) as refused:
                send("One", to="bob@example.com")
            assert refused.value.recipients == {"bob@example.com": (452, b"4.2.2 Mailbox full")}
            with pytest.raises(smtplib.SMTPDataError, match="Later"):
                send("Two", login=False)
            send("Two", login=False)
            assert mailbox.last.subject == "Two"


        def test_a_delay_and_a_lost_connection(mailbox, send):
            mailbox.respond(phase="mail", delay=0.3, nth=1)
            mailbox.respond(phase="mail", drop=True)
            begin = time.monotonic()
            send("One")
            assert time.monotonic() - begin > 0.3
            with pytest.raises(smtplib.SMTPServerDisconnected):
                send("Two")


        def test_others_are_not_concerned(mailbox, send):
            for number in range(2):
                send(f"{number}", to="bob@example.com")
            assert len(mailbox.messages) == 2


        def test_a_mistake(mailbox):
            with pytest.raises(ValueError, match="code"):
                mailbox.respond("200 fine")
        """,
    )
    project.run(passed=4)
