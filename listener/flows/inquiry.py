"""Asks filters; a filter that fails defers (docs/concepts.md)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from listener.api.decision import ABSTAIN, DEFER, Decision, Phase, Verdict
from listener.api.session import Message, Session, Transaction
from listener.flows.tally import Hook, Plan, Tallies

log = logging.getLogger("smtp_relay.filters")

R = TypeVar("R")


OnAnswer = Callable[[str, Phase, Verdict, float], None]
"""Receives a filter's name, the phase, the verdict and its seconds; a fault counts as `defer`. Called
in the event loop, and must not raise."""

Answers = list[tuple[Hook, Decision]]
"""The filters that do more than abstain, with their answers, in the order of the questions."""


class _Waiting(NamedTuple):
    place: int
    hook: Hook
    answer: Awaitable[Decision]
    asked: float


class Asker:
    """Asks filters about one connection.

    `ask` calls the hooks; plain functions have then answered. Every error inside a filter counts as a
    deferral and is logged: a fault with its traceback, a time-out in one line. A plain function cannot be
    stopped, because it runs in the event loop; it must return at once.
    """

    __slots__ = ("on_answer", "session", "timeout")

    def __init__(self, session: str, timeout: float, on_answer: OnAnswer | None) -> None:
        """`session` is the connection's id, for the log; `timeout` is in seconds."""
        self.session = session
        self.timeout = timeout
        self.on_answer = on_answer

    def ask(
        self,
        phase: Phase,
        mail: str,
        hooks: tuple[Hook, ...],
        arguments: tuple[Any, ...],
        inquiry: Inquiry | None = None,
    ) -> Inquiry | None:
        """Ask these filters, and add their answers to the inquiry. None if there is none and all abstain at
        once, which changes no verdict. `mail` is its id, "" outside a transaction."""
        on_answer = self.on_answer
        asked = 0.0
        for hook in hooks:
            if on_answer is not None:
                asked = perf_counter()
            try:
                answer: object = hook.ask(*arguments)
            except Exception as fault:  # noqa: BLE001 - whatever a filter does wrong, it defers
                if inquiry is None:
                    inquiry = Inquiry(self, phase, mail)
                inquiry.fail(hook, fault, asked)
                continue
            if answer is not ABSTAIN:
                if inquiry is None:
                    inquiry = Inquiry(self, phase, mail)
                inquiry.put(hook, answer, asked)
            elif on_answer is not None:
                on_answer(hook.filter.name, phase, "abstain", perf_counter() - asked)
        return inquiry

    def begun(self, phase: Phase, mail: str, hook: Hook, answer: object) -> Inquiry:
        """The inquiry that has the value that one hook returned, or the exception that it raised."""
        inquiry = Inquiry(self, phase, mail)
        if isinstance(answer, Exception):
            inquiry.fail(hook, answer, 0.0)
        else:
            inquiry.put(hook, answer, 0.0)
        return inquiry


class Inquiry:
    """The answers to one round of questions, at one phase of one connection.

    The answers that are awaited come together, each within the asker's `timeout`.
    """

    __slots__ = ("_answers", "_asker", "_mail", "_phase", "_waiting")

    def __init__(self, asker: Asker, phase: Phase, mail: str) -> None:
        self._asker = asker
        self._phase = phase
        self._mail = mail
        self._answers: Answers = []
        self._waiting: list[_Waiting] = []

    def put(self, hook: Hook, answer: object, asked: float) -> None:
        """Add the value that a filter's hook returned."""
        if not isinstance(answer, Decision):
            if isinstance(answer, Awaitable):
                self._waiting.append(_Waiting(len(self._answers), hook, answer, asked))
                self._answers.append((hook, DEFER))
                return
            answer = self._not_a_decision(hook, answer)
        self._answers.append((hook, answer))
        self._tell(hook, answer, asked)

    def fail(self, hook: Hook, fault: Exception, asked: float) -> None:
        """Add the deferral of a filter whose hook raised."""
        answer = self._failed(hook, fault)
        self._answers.append((hook, answer))
        self._tell(hook, answer, asked)

    def then(self, finish: Callable[[Answers], R]) -> R | Awaitable[R]:
        """`finish(answers)`: at once if every hook was a plain function, else an awaitable."""
        return self._gather(finish) if self._waiting else finish(self._answers)

    async def _gather(self, finish: Callable[[Answers], R]) -> R:
        waiting, answers = self._waiting, self._answers
        if len(waiting) == 1:
            one = waiting[0]
            answers[one.place] = (one.hook, await self._wait(one))
        else:
            async with asyncio.TaskGroup() as group:
                tasks = [(one, group.create_task(self._wait(one))) for one in waiting]
            for one, task in tasks:
                answers[one.place] = (one.hook, task.result())
        return finish(answers)

    async def _wait(self, one: _Waiting) -> Decision:
        try:
            async with asyncio.timeout(max(self._asker.timeout, one.hook.filter.patience)):
                answer: object = await one.answer
        except asyncio.CancelledError as fault:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise  # the connection is going away
            answer = self._failed(one.hook, fault)  # code inside the filter was cancelled
        except Exception as fault:  # noqa: BLE001 - whatever a filter does wrong, it defers
            answer = self._failed(one.hook, fault)
        if not isinstance(answer, Decision):
            answer = self._not_a_decision(one.hook, answer)
        self._tell(one.hook, answer, one.asked)
        return answer

    def _tell(self, hook: Hook, answer: Decision, asked: float) -> None:
        if self._asker.on_answer is not None:
            seconds = perf_counter() - asked
            self._asker.on_answer(hook.filter.name, self._phase, answer.verdict, seconds)

    def _failed(self, hook: Hook, fault: BaseException) -> Decision:
        if isinstance(fault, TimeoutError):
            # The filter has no fault to fix, so the place where it waited is of no use.
            return self._defer(hook, "it took too long", None, logging.WARNING)
        return self._defer(hook, type(fault).__name__, fault)

    def _not_a_decision(self, hook: Hook, answer: object) -> Decision:
        return self._defer(hook, f"it answered {type(answer).__name__} instead of a Decision", None)

    def _defer(
        self, hook: Hook, what: str, fault: BaseException | None, level: int = logging.ERROR
    ) -> Decision:
        ids = {"session": self._asker.session}
        if self._mail:
            ids["id"] = self._mail
        where = self._phase.name.lower()
        text = "filter %s failed at %s and defers: %s"
        log.log(level, text, hook.filter.name, where, what, exc_info=fault, extra=ids)
        return DEFER


def ask_apart(
    asker: Asker,
    plans: Sequence[Plan],
    rows: Sequence[tuple[str, Tallies]],
    arguments: tuple[Session, Transaction, Message],
) -> tuple[Inquiry | None, dict[int, frozenset[str]]]:
    """Ask each flow's filters at DATA about the recipients that the flow may still take: the inquiry, as of
    `Asker.ask`, and these recipients by the flow's place."""
    inquiry: Inquiry | None = None
    offered: dict[int, frozenset[str]] = {}
    for plan in plans:
        if hooks := plan.hooks[Phase.DATA]:
            left = {to: None for to, row in rows if plan.may_take(row.verdicts[plan.place])}
            if left:
                offered[plan.place] = frozenset(left)
                asked = (*arguments, tuple(left))
                inquiry = asker.ask(Phase.DATA, arguments[1].id, hooks, asked, inquiry)
    return inquiry, offered
