"""Mails as applications send them, to look at the page with."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses
from pathlib import Path

from tests.support.inbox.mails import block, mail, store

RESULTS = (
    "mx.example.net; spf=pass smtp.mailfrom=shop.example; dkim=pass (2048-bit key) header.d=shop.example;"
    " dmarc=fail (p=reject) header.from=shop.example"
)

HTML = """\
<!doctype html><html><body style="margin:0;background:#eef1f5;font-family:Arial,sans-serif;color:#222">
<table width="100%" cellpadding="0" cellspacing="0"><tr><td align="center" style="padding:28px 12px">
<table width="600" style="max-width:600px;width:100%;background:#fff;border-radius:10px" cellpadding="0" \
cellspacing="0"><tr><td style="background:#0b6b4f;color:#fff;padding:22px 28px;font-size:22px;\
border-radius:10px 10px 0 0"><b>Shop</b></td></tr><tr><td style="padding:28px">
<h1 style="margin:0 0 12px;font-size:24px">Your order is on its way</h1>
<p style="line-height:1.6">Hello Bob, two parcels left our house this morning. They arrive on Friday.</p>
<p><a href="https://shop.example/track/20817" style="display:inline-block;background:#0b6b4f;color:#fff;\
padding:12px 22px;border-radius:6px;text-decoration:none">Follow the parcels</a></p>
<table width="100%" style="border-top:1px solid #ddd;margin-top:22px">
<tr><td style="padding:10px 0">Coffee, 1 kg</td><td align="right">21.00</td></tr>
<tr><td style="padding:10px 0">Filter papers</td><td align="right">3.50</td></tr>
<tr><td style="padding:10px 0"><b>Sum</b></td><td align="right"><b>24.50</b></td></tr></table></td></tr>
<tr><td style="padding:18px 28px;color:#777;font-size:12px">Shop Ltd, 1 High Street</td></tr></table>
</td></tr></table></body></html>
"""

MAILS = (
    ("Ann Miller <ann@h.example>", "Bob <bob@h.example>", "Your sign-in code is 493 021",
     "Hello Bob,\n\nyour code is 493 021. It is good for ten minutes.\n\nOr: https://app.example/login?token=9f2c\n"),
    ("Shop <news@shop.example>", "Bob <bob@h.example>, Cher <cher@h.example>", "Your order is on its way",
     "Your order is on its way: https://shop.example/track/20817\n"),
    ("Build <ci@h.example>", "team@h.example", "main: 2 tests failed",
     "test_login and test_logout failed: https://ci.example/run/812\n"),
    ("Grüße <post@h.example>", "Bob <bob@h.example>", "Bitte bestätigen Sie Ihre Adresse",
     "Öffnen Sie https://h.example/confirm/aGVsbG8, oder geben Sie 7719 ein.\n"),
    ("reset@app.example", "dora@h.example", "Choose a new password",
     "Open https://app.example/password/reset/abc123\n"),
    ("Calendar <cal@h.example>", "Bob <bob@h.example>", "Friday, 10:00: review", "Room 4, second floor.\n"),
    ("Billing <bill@h.example>", "office@h.example", "Invoice 2041 is due", "Please pay until June.\n"),
)  # fmt: skip
"""Author, recipients, subject and text; the newest first."""

ORDER = "Your order is on its way"
CODE = "Your sign-in code is 493 021"


def store_shown(folder: Path) -> int:
    """Store these mails, of the last hours, and how many they are."""
    now = int(time.time() * 1_000)
    for number, (author, to, subject, text) in enumerate(MAILS):
        ms = now - number * 1_500_000
        date = format_datetime(datetime.fromtimestamp(ms / 1_000, UTC))
        made = mail(subject, text, From=author, To=to, Date=date)
        if subject == ORDER:
            _dress(made)
        recipients = [address for _, address in getaddresses([to])]
        store(folder, f"{number}.eml", made, block(*recipients, sender="env@h.example", ms=ms))
    return len(MAILS)


def _dress(made: EmailMessage) -> None:
    made["Authentication-Results"] = RESULTS
    made["X-Tags"] = "orders"
    made.add_alternative(HTML, subtype="html")
    made.add_attachment(
        b"%PDF-1.4 x" * 900, maintype="application", subtype="pdf", filename="invoice-20817.pdf"
    )
