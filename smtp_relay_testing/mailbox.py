"""The mails of one test, and waiting for one."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Literal

from smtp_relay_testing.mail import Mail, Part, Search
from smtp_relay_testing.server import API, HOST, READY, Server, now, sleep

_LOOK: Final = 1.0
"""Seconds after which a wait looks itself: a mail that took long to send has an early time."""

_NEAREST: Final = 3
_MOST_MAILS: Final = 10


class Mailbox:
    """An SMTP server, and the mails of one test. Code that logs in does so with `username` and `password`;
    mails of code that does not are here too, but those of other tests' names are not."""

    def __init__(self, server: Server, name: str) -> None:
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-")
        self._server = server
        self.host: str = HOST
        self.port: int = server.port
        self.username: str = f"{slug}-{next(server.numbers)}"
        self.password: str = secrets.token_hex(8)
        self._rules: list[dict[str, object]] = []
        server.users.add(self.username)

    def __repr__(self) -> str:
        return f"<mailbox {self.url}>"

    @property
    def url(self) -> str:
        """`smtp://USER:PASSWORD@HOST:PORT`"""
        return f"smtp://{self.username}:{self.password}@{self.host}:{self.port}"

    @property
    def messages(self) -> list[Mail]:
        """All mails, the oldest first: every one that the server has taken by now."""
        return [Mail(self._server, one) for one in reversed(self._summaries()) if self._has(one)]

    @property
    def last(self) -> Mail:
        """The newest mail. Raises AssertionError if there is none."""
        found = self.messages
        if not found:
            raise AssertionError(f"no mail came to {self.host}:{self.port} (`expect` waits for one)")
        return found[-1]

    @property
    def links(self) -> list[str]:
        """The links of the newest mail."""
        return self.last.links

    @property
    def code(self) -> str:
        """The code of the newest mail."""
        return self.last.code

    def expect(
        self,
        to: str | Sequence[str] = (),
        subject: Part | None = None,
        *,
        sender: str | None = None,
        text: Part | None = None,
        after: Mail | None = None,
        within: float = 5,
    ) -> Mail:
        """The newest mail that meets all conditions, now or within some seconds. `to` and `sender` are whole
        addresses, `subject` and `text` parts or patterns; `after` leaves out a mail and all before it. Raises
        AssertionError with the nearest mails and what each of them misses."""
        __tracebackhide__ = True
        search = Search(_addresses(to), sender, subject, text)
        found, others = self._search(search, after, within)
        if found is None:
            others.sort(key=lambda each: len(each[1]))
            lines = [f"\n  {mail!r}\n    {'; '.join(missed)}" for mail, missed in others[:_NEAREST]]
            near = f"the nearest:{''.join(lines)}" if lines else "no other mail came"
            raise AssertionError(f"no {search} came within {within:g} s; {near}")
        return found

    def expect_none(
        self,
        to: str | Sequence[str] = (),
        subject: Part | None = None,
        *,
        sender: str | None = None,
        text: Part | None = None,
        after: Mail | None = None,
        within: float = 0.5,
    ) -> None:
        """The opposite of `expect`. Raises AssertionError if such a mail is there, or comes in time."""
        __tracebackhide__ = True
        search = Search(_addresses(to), sender, subject, text)
        found, _ = self._search(search, after, within)
        if found is not None:
            raise AssertionError(f"no {search} should have come, but this did: {found!r}")

    def respond(
        self,
        reply: str | None = None,
        *,
        phase: Literal["connect", "auth", "mail", "rcpt", "data"] = "rcpt",
        to: str | None = None,
        nth: int | Sequence[int] | None = None,
        rate: int | None = None,
        probability: float | None = None,
        seed: int | None = None,
        delay: float | None = None,
        drop: bool | None = None,
    ) -> None:
        """Answer clients so until the test ends; the first rule that fits counts. `reply` is a line
        such as `450 4.2.1 Busy`, `delay` seconds. Raises ValueError for a rule that the server refuses."""
        wait = None if delay is None else round(delay * 1_000)
        words = {"phase": phase, "to": to, "nth": nth, "rate": rate, "probability": probability, "seed": seed}
        rule: dict[str, object] = {**words, "delay": wait, "drop": drop, "reply": reply}
        rules = [*self._rules, {name: value for name, value in rule.items() if value is not None}]
        status, body = self._server.ask("PUT", f"{API}/respond", body={"rules": rules})
        if status != 200:
            raise ValueError(body.decode(errors="replace").strip())
        self._rules = rules

    def clear(self) -> None:
        """Delete all mails that are here."""
        self._delete([one["ID"] for one in self._summaries() if self._has(one)])

    def close(self) -> None:
        """Delete all mails and answers of the server, for the next test."""
        if self._rules:
            self._server.ask("PUT", f"{API}/respond", body={"rules": None})
        if ids := [one["ID"] for one in self._summaries()]:
            self._delete(ids)

    def report(self) -> str:
        """The mails, for the report of a failed test."""
        try:
            mails = self.messages
            pieces = [f"{mail!r}\n{mail.shown()}" for mail in mails[-_MOST_MAILS:]]
        except RuntimeError as error:
            return str(error)
        left = len(mails) - len(pieces)
        return "\n".join([*([f"{left} earlier mails"] if left else []), *pieces]) or "no mail came"

    def _search(
        self, search: Search, after: Mail | None, within: float
    ) -> tuple[Mail | None, list[tuple[Mail, list[str]]]]:
        """The mail, or the others with what each misses, the newest first."""
        known: dict[str, tuple[Mail, list[str]]] = {}
        summaries = self._summaries()
        end = now() + within  # the inbox may have begun to answer only then
        while True:
            others = []
            for one in summaries:
                if after is not None and one["ID"] == after.id:
                    break
                if self._has(one):
                    if one["ID"] not in known:
                        mail = Mail(self._server, one)
                        known[mail.id] = mail, search.missed(mail)
                    others.append(known[one["ID"]])
                    if not others[-1][1]:
                        return others[-1][0], []
            rest = end - now()
            if rest <= 0:
                return None, others
            self._wait(summaries, min(rest, _LOOK))
            summaries = self._summaries()

    def _wait(self, summaries: list[dict[str, Any]], seconds: float) -> None:
        """Wait for a mail that is newer than these."""
        created = [datetime.fromisoformat(one["Created"]).timestamp() for one in summaries]
        since = round(max(created, default=0.0) * 1_000) + 1
        query = {"timeout": f"{seconds:.3f}", "since": f"{since:013}"}
        status, body = self._server.ask("GET", f"{API}/wait", query, wait=seconds + READY)
        if status not in (200, 408):
            raise RuntimeError(f"the inbox answers {status}: {body[:200]!r}")

    def _summaries(self) -> list[dict[str, Any]]:
        """The mails of the server, the newest first: at least those that it has answered 250."""
        stored, end = self._server.stored(), now() + READY
        while True:
            page = self._server.get(f"{API}/messages", limit=0)
            if page["total"] >= min(stored, self._server.stored()) or now() > end:
                found: list[dict[str, Any]] = page["messages"]
                return found
            sleep()

    def _has(self, summary: dict[str, Any]) -> bool:
        return summary["Username"] == self.username or summary["Username"] not in self._server.users

    def _delete(self, ids: list[str]) -> None:
        if not ids:
            return
        end = now() + READY
        while True:
            status, body = self._server.ask("DELETE", f"{API}/messages", body={"IDs": ids})
            if status == 200:
                return
            if status != 409 or now() > end:  # 409: the server still works on one of them
                raise RuntimeError(f"the mails cannot be deleted: {body[:200]!r}")
            sleep()


def _addresses(to: str | Sequence[str]) -> tuple[str, ...]:
    return (to,) if isinstance(to, str) else tuple(to)
