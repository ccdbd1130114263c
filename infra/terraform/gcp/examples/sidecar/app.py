"""An application for the sidecar: it sends each POSTed mail through localhost.

    curl -d '{"to": "bob@example.com", "subject": "hello", "text": "hi"}' https://…

Python's standard library only. It answers 202 when the mail is safe in the spool, 503 when the relay
asks for a retry, and 400 for a request that is not a mail.
"""

from __future__ import annotations

import json
import os
import smtplib
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SENDER = os.environ.get("SENDER", "app@example.com")
MOST = 1_048_576  # bytes of a request


def mail_of(asked: Any) -> EmailMessage:
    """The mail that a request's JSON asks for. Raises ValueError, KeyError or TypeError."""
    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = SENDER, asked["to"], asked["subject"]
    mail.set_content(asked["text"])
    return mail


def send(mail: EmailMessage) -> None:
    """Send a mail to the relay. Raises OSError, the base of smtplib's exceptions."""
    place = os.environ.get("SMTP_HOST", "localhost"), int(os.environ.get("SMTP_PORT", "10025"))
    with smtplib.SMTP(*place, timeout=30) as relay:
        relay.send_message(mail)


class Handler(BaseHTTPRequestHandler):
    """One request, one mail."""

    def do_POST(self) -> None:
        try:
            size = min(int(self.headers.get("Content-Length", "0")), MOST)
            mail = mail_of(json.loads(self.rfile.read(size)))
        except (ValueError, KeyError, TypeError):
            self.answer(400, "give to, subject and text as JSON\n")
            return
        try:
            send(mail)
        except OSError as error:
            print(json.dumps({"severity": "WARNING", "message": f"not sent: {error}"}), flush=True)
            self.answer(503, "try again later\n")
            return
        self.answer(202, "accepted\n")

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: Any) -> None:
        """Cloud Run logs requests itself."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(os.environ.get("PORT", "8080"))), Handler).serve_forever()
