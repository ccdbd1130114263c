"""Mail services by the names that Nodemailer's `service` option knows them by."""

from __future__ import annotations

import re
from typing import Final, NamedTuple


class Service(NamedTuple):
    """Where a service takes submissions; `secure` is implicit TLS (RFC 8314)."""

    host: str
    port: int
    secure: bool


_SUBMISSION: Final = 587  # RFC 6409
_SUBMISSIONS: Final = 465  # RFC 8314 section 7.3

_SERVICES: Final = {
    "brevo": Service("smtp-relay.brevo.com", _SUBMISSION, False),
    "ethereal": Service("smtp.ethereal.email", _SUBMISSION, False),
    "fastmail": Service("smtp.fastmail.com", _SUBMISSIONS, True),
    "gmail": Service("smtp.gmail.com", _SUBMISSIONS, True),
    "hotmail": Service("smtp-mail.outlook.com", _SUBMISSION, False),
    "icloud": Service("smtp.mail.me.com", _SUBMISSION, False),
    "maildev": Service("127.0.0.1", 1025, False),
    "mailgun": Service("smtp.mailgun.org", _SUBMISSIONS, True),
    "mailjet": Service("in-v3.mailjet.com", _SUBMISSION, False),
    "mandrill": Service("smtp.mandrillapp.com", _SUBMISSION, False),
    "outlook365": Service("smtp.office365.com", _SUBMISSION, False),
    "postmark": Service("smtp.postmarkapp.com", 2525, False),
    "sendgrid": Service("smtp.sendgrid.net", _SUBMISSION, False),
    "sendinblue": Service("smtp-relay.brevo.com", _SUBMISSION, False),
    "sparkpost": Service("smtp.sparkpostmail.com", _SUBMISSION, False),
    "yahoo": Service("smtp.mail.yahoo.com", _SUBMISSIONS, True),
    "zoho": Service("smtp.zoho.com", _SUBMISSIONS, True),
}
_SES: Final = re.compile(r"ses-([a-z]{2}(?:-[a-z]+)+-\d)")

NAMES: Final = (*_SERVICES, "SES-REGION")


def service(name: str) -> Service | None:
    """The service of a name, in any case; `SES-eu-west-1` is SES's SMTP endpoint of that region."""
    folded = name.lower()
    if found := _SES.fullmatch(folded):
        return Service(f"email-smtp.{found[1]}.amazonaws.com", _SUBMISSIONS, True)
    return _SERVICES.get(folded.replace(" ", ""))
