"""Leads the mail of frameworks to a mailbox while one test runs."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Final

import pytest

from smtp_relay_testing.mailbox import Mailbox

_Setting = Callable[[Mailbox, pytest.FixtureRequest], AbstractContextManager[None]]


@contextmanager
def lead_to(mailbox: Mailbox, names: Sequence[str], request: pytest.FixtureRequest) -> Iterator[None]:
    """Set what these names stand for, and set it back. Raises pytest.UsageError for an unknown name, and for
    a framework that is not installed."""
    with ExitStack() as stack:
        for name in names:
            if name not in _SETTINGS:
                known = ", ".join(_SETTINGS)
                raise pytest.UsageError(f"smtp_relay_settings: {name!r} is unknown (give some of {known})")
            try:
                stack.enter_context(_SETTINGS[name](mailbox, request))
            except ModuleNotFoundError as error:
                raise pytest.UsageError(
                    f"smtp_relay_settings: {name} needs the package {error.name} (pip install it)"
                ) from error
        yield


@contextmanager
def _django(mailbox: Mailbox, _: pytest.FixtureRequest) -> Iterator[None]:
    from django.test.utils import override_settings

    # Django's own test runner keeps mails in memory.
    with override_settings(
        EMAIL_BACKEND="django.core.mail.backends.smtp.EmailBackend",
        EMAIL_HOST=mailbox.host,
        EMAIL_PORT=mailbox.port,
        EMAIL_HOST_USER=mailbox.username,
        EMAIL_HOST_PASSWORD=mailbox.password,
        EMAIL_USE_TLS=False,
        EMAIL_USE_SSL=False,
    ):
        yield


@contextmanager
def _flask(mailbox: Mailbox, request: pytest.FixtureRequest) -> Iterator[None]:
    import flask_mail

    config = {
        "MAIL_SERVER": mailbox.host,
        "MAIL_PORT": mailbox.port,
        "MAIL_USERNAME": mailbox.username,
        "MAIL_PASSWORD": mailbox.password,
        "MAIL_USE_TLS": False,
        "MAIL_USE_SSL": False,
        "MAIL_SUPPRESS_SEND": False,  # TESTING would set it
    }
    original = flask_mail.Connection.__init__

    def connect(self: Any, mail: Any) -> None:
        # Flask-Mail has read the configuration when the application was made, which may be long ago.
        here = copy.copy(mail)
        for name, value in config.items():
            setattr(here, _ATTRIBUTES.get(name, name.removeprefix("MAIL_").lower()), value)
        original(self, here)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flask_mail.Connection, "__init__", connect)
        if "app" in request.fixturenames:
            app = request.getfixturevalue("app")
            for name, value in config.items():
                patch.setitem(app.config, name, value)
        yield


@contextmanager
def _environment(mailbox: Mailbox, _: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMTP_URL", mailbox.url)
        yield


_ATTRIBUTES: Final = {"MAIL_SUPPRESS_SEND": "suppress"}
_SETTINGS: Final[dict[str, _Setting]] = {"django": _django, "flask": _flask, "env": _environment}
