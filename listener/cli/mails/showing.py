"""`mails show` and `mails open`: one stored mail as text, or as a page of this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing, suppress
from typing import Any, Final

from functions.errors import ConfigError
from functions.local.view.stored import StoredFile, open_regular
from functions.message.addresses import Address
from functions.message.text import escaped, one_line
from listener.cli.mails.mails import size
from listener.cli.mails.selecting import clock

_CHUNK: Final = 1_048_576
_DESKTOPS: Final = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")


def show(mail: StoredFile, arguments: argparse.Namespace) -> int:
    """Print one mail. Returns 0, or 1 if its file cannot be read."""
    if arguments.raw:
        return _raw(mail)
    if arguments.json:
        print(json.dumps({**mail.summary(), **_content(mail)}))
        return 0 if mail.parts is not None else 1
    if mail.parts is None:
        print(f"smtp-relay: {escaped(os.fspath(mail.path))}: {escaped(mail.error)}", file=sys.stderr)
        return 1
    if arguments.headers:
        for name, value in mail.parts.fields:
            print(escaped(f"{name}: {one_line(value)}"))
    elif arguments.html:
        if mail.parts.html is None:
            print("smtp-relay: this mail has no HTML", file=sys.stderr)
            return 1
        print(mail.parts.html)
    else:
        print(as_text(mail))
    return 0


def as_text(mail: StoredFile) -> str:
    """Header and text of a mail, for people. Line feeds of header fields are escaped."""
    lines = [escaped(f"{name}: {value}") for name, value in facts(mail)]
    text = mail.parts.text if mail.parts is not None else None
    return "\n".join([*lines, "", "(no text)" if text is None else text.rstrip("\n")])


def facts(mail: StoredFile) -> list[tuple[str, str]]:
    """What stands above the text, as names and values."""
    found = [("File", os.fspath(mail.path)), ("Time", clock(mail.time * 1000)), ("Size", size(mail.size))]
    if mail.envelope is not None:
        found += [("Id", mail.id), ("Envelope from", f"<{mail.sender}>")]
        found += [("Envelope to", ", ".join(mail.recipients))]
    if mail.parts is not None:
        parts = mail.parts
        lists = (("From", parts.from_), ("To", parts.to), ("Cc", parts.cc), ("Bcc", parts.bcc))
        found += [(name, ", ".join(map(_address, values))) for name, values in lists if values]
        found.append(("Subject", parts.subject or ""))
        for each in parts.attachments:
            found.append(("Attachment", f"{each.filename} ({each.content_type}, {size(each.size)})"))
    if mail.error:
        found.append(("Error", mail.error))
    return found


def open_page(mail: StoredFile, arguments: argparse.Namespace) -> int:
    """Show one mail in the browser. Without a browser, or with `--print`, print it. Raises ConfigError."""
    if arguments.as_text or mail.parts is None or not (arguments.no_browser or _has_browser()):
        return show(mail, arguments)
    from listener.cli.mails.page import MailPage

    try:
        page = MailPage(mail)
    except OSError as error:
        raise ConfigError("mails open", f"no port on 127.0.0.1 is free: {error.strerror}") from error
    with closing(page):
        print(json.dumps({**mail.summary(), "url": page.url}) if arguments.json else page.url, flush=True)
        for name, url in page.downloads:
            print(f"attachment: {name}  {url}", file=sys.stderr)
        if page.downloads:
            print("Ctrl-C ends", file=sys.stderr)
        if not arguments.no_browser:
            import webbrowser

            webbrowser.open(page.url)
        with suppress(KeyboardInterrupt):
            page.wait()
    return 0


def _has_browser() -> bool:
    """True if a person looks, and a browser of a desktop can be started."""
    return sys.stdout.isatty() and (
        sys.platform == "darwin" or any(os.environ.get(name) for name in _DESKTOPS)
    )


def _raw(mail: StoredFile) -> int:
    try:
        fd = open_regular(mail.path)
    except OSError as error:
        reason = mail.error or error.strerror or str(error)
        print(f"smtp-relay: {escaped(os.fspath(mail.path))}: {escaped(reason)}", file=sys.stderr)
        return 1
    with closing(os.fdopen(fd, "rb")) as file:
        if sys.stdout.isatty():
            while piece := file.read(_CHUNK):
                sys.stdout.write(piece.decode("utf-8", "replace").replace("\r\n", "\n"))
            return 0
        sys.stdout.flush()
        with open(sys.stdout.fileno(), "wb", closefd=False) as target:
            while piece := file.read(_CHUNK):
                target.write(piece)
    return 0


def _content(mail: StoredFile) -> dict[str, Any]:
    parts = mail.parts
    if parts is None:
        return {"headers": [], "text": None, "html": None, "attachments": []}
    attachments = [
        {"name": each.filename, "type": each.content_type, "size": each.size} for each in parts.attachments
    ]
    headers = [list(each) for each in parts.fields]
    return {"headers": headers, "text": parts.text, "html": parts.html, "attachments": attachments}


def _address(one: Address) -> str:
    return f"{one.name} <{one.address}>" if one.name else one.address
