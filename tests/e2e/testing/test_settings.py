"""The settings of frameworks lead to the mailbox while a test uses it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.pytest_project import Project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "project")


def test_django_sends_to_the_mailbox(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nsmtp_relay_settings = django\n")
    project.write(
        "test_it.py",
        """
        from django.conf import settings
        from django.core import mail
        from django.test.utils import setup_test_environment, teardown_test_environment

        settings.configure(EMAIL_HOST="mail.example.com", EMAIL_USE_TLS=True, EMAIL_PORT=587, USE_TZ=True)


        def test_it(mailbox):
            mail.send_mail("Welcome", "Hello Ann", "shop@example.com", ["ann@example.com"])
            sent = mailbox.expect(to="ann@example.com", subject="Welcome")
            assert sent.text.strip() == "Hello Ann"
            assert (settings.EMAIL_HOST_USER, settings.EMAIL_PORT) == (mailbox.username, mailbox.port)


        def test_another(mailbox):
            assert mailbox.messages == []
            mail.send_mail("Again", "Hello Ann", "shop@example.com", ["ann@example.com"])
            assert mailbox.last.subject == "Again"


        def test_without():
            assert (settings.EMAIL_HOST, settings.EMAIL_PORT) == ("mail.example.com", 587)
            assert settings.EMAIL_USE_TLS is True
            assert settings.EMAIL_HOST_USER == ""
        """,
    )
    project.run(passed=3)


def test_django_sends_to_the_mailbox_where_its_runner_keeps_mails_in_memory(project: Project) -> None:
    project.write(
        "conftest.py",
        """
        import pytest
        from django.conf import settings
        from django.test.utils import setup_test_environment, teardown_test_environment


        @pytest.fixture(scope="session", autouse=True)
        def environment():
            settings.configure(USE_TZ=True)
            setup_test_environment()
            yield
            teardown_test_environment()
        """,
    )
    project.write(
        "test_it.py",
        """
        from django.core import mail


        def test_it(mailbox):
            mail.send_mail("Welcome", "Hello Ann", "shop@example.com", ["ann@example.com"])
            mailbox.expect(to="ann@example.com", subject="Welcome")
            assert mail.outbox == []


        def test_without():
            mail.send_mail("Welcome", "Hello Ann", "shop@example.com", ["ann@example.com"])
            assert len(mail.outbox) == 1
        """,
    )
    project.run("--smtp-relay-settings=django", passed=2)


_FLASK = """
    import flask, flask_mail, pytest


    def made():
        app = flask.Flask("shop")
        app.config.update(TESTING=True, MAIL_SERVER="mail.example.com", MAIL_PORT=587, MAIL_USE_TLS=True)
        mail.init_app(app)

        @app.post("/users")
        def users():
            to = ["ann@example.com"]
            mail.send_message("Welcome", recipients=to, body="Hello", sender="shop@example.com")
            return "", 201

        return app


    mail = flask_mail.Mail()
    early = made()
"""


def test_flask_mail_sends_to_the_mailbox(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nsmtp_relay_settings = flask env\n")
    project.write("shop.py", _FLASK)
    project.write(
        "test_it.py",
        """
        import os, pytest, shop


        @pytest.fixture
        def app():
            return shop.made()


        def test_the_fixture_app(mailbox, app):
            assert app.test_client().post("/users").status_code == 201
            mailbox.expect(to="ann@example.com", subject="Welcome")
            assert (app.config["MAIL_SERVER"], app.config["MAIL_PORT"]) == (mailbox.host, mailbox.port)
            assert app.config["MAIL_USERNAME"] == mailbox.username
            assert os.environ["SMTP_URL"] == mailbox.url


        def test_an_application_of_before(mailbox):
            shop.early.test_client().post("/users")
            mailbox.expect(to="ann@example.com", subject="Welcome")


        def test_an_application_that_is_made_later(mailbox):
            shop.made().test_client().post("/users")
            mailbox.expect(to="ann@example.com", subject="Welcome")


        def test_without(app):
            app.test_client().post("/users")  # TESTING keeps the mail
            assert app.config["MAIL_SERVER"] == "mail.example.com"
            assert "SMTP_URL" not in os.environ
        """,
    )
    project.run(passed=4)


def test_the_variable_of_the_environment_is_set_back(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMTP_URL", "smtp://before")
    project.write("pytest.ini", "[pytest]\nsmtp_relay_settings = env\n")
    project.write(
        "test_it.py",
        """
        import os, smtplib
        from urllib.parse import urlsplit


        def test_it(mailbox):
            url = urlsplit(os.environ["SMTP_URL"])
            with smtplib.SMTP(url.hostname, url.port) as client:
                client.login(url.username, url.password)
                client.sendmail("shop@example.com", "ann@example.com", "Subject: Welcome\\n\\nHello\\n")
            assert mailbox.last.recipients == ["ann@example.com"]


        def test_without():
            assert os.environ["SMTP_URL"] == "smtp://before"
        """,
    )
    project.run(passed=2)


def test_an_unknown_name_is_refused(project: Project) -> None:
    project.write("test_it.py", "def test_it(mailbox):\n    pass\n")
    process = project.start("--smtp-relay-settings", "env,rails")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "smtp_relay_settings: 'rails' is unknown (give some of django, flask, env)" in output


def test_a_framework_that_is_not_installed_is_named(project: Project) -> None:
    project.write("django.py", "raise ModuleNotFoundError('no Django', name='django')\n")
    project.write("test_it.py", "def test_it(mailbox):\n    pass\n")
    process = project.start("--smtp-relay-settings", "django")
    output, _ = process.communicate()
    assert process.returncode != 0
    assert "smtp_relay_settings: django needs the package django" in output
