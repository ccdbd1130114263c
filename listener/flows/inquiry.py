"""Asks filters; a filter that fails defers (docs/concepts.md)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, NamedTuple, TypeVar

from listener.api.decision import DEFER, Decision, Phase, Verdict
from listener.flows.tally import Hook

log = logging.getLogger("smtp_relay.filters")

R = TypeVar("R")


OnAnswer = Callable[[str, Phase, Verdict, float], None]
"""Receives a filter's name, the phase, the verdict and its seconds; a fault counts as `defer`. Called
in the event loop, and must not raise."""

Answers = list[tuple[Hook, Decision]]
"""The filters with their answers, in the order of the questions."""


class _Waiting(NamedTuple):
    place: int
    hook: Hook
    answer: Awaitable[Decision]
    asked: float


class Inquiry:
    """One round of questions, at one phase of one connection.

    `put` calls the hooks; plain functions have then answered. The answers of the others are awaited
    together, each for at most `timeout` seconds. Every error inside a filter counts as a deferral
    and is logged: a fault with its traceback, a time-out in one line. A plain function cannot be
    stopped, because it runs in the event loop; it must return at once.
    """

    __slots__ = ("_answers", "_mail", "_on_answer", "_phase", "_session", "_timeout", "_waiting")

    def __init__(
        self, phase: Phase, session: str, mail: str, timeout: float, on_answer: OnAnswer | None
    ) -> None:
        """`session` and `mail` are ids for the log; `mail` is "" outside a transaction."""
        self._phase = phase
        self._session = session
        self._mail = mail
        self._timeout = timeout
        self._on_answer = on_answer
        self._answers: Answers = []
        self._waiting: list[_Waiting] = []

    def put(self, hooks: tuple[Hook, ...], arguments: tuple[Any, ...]) -> None:
        """Ask these filters."""
        on_answer, answers = self._on_answer, self._answers
        asked = 0.0
        for hook in hooks:
            if on_answer is not None:
                asked = perf_counter()
            try:
                answer = hook.ask(*arguments)
            except Exception as fault:  # noqa: BLE001 - whatever a filter does wrong, it defers
                answer = self._failed(hook, fault)
            if not isinstance(answer, Decision):
                if hasattr(answer, "__await__"):
                    self._waiting.append(_Waiting(len(answers), hook, answer, asked))
                    answers.append((hook, DEFER))
                    continue
                answer = self._not_a_decision(hook, answer)
            answers.append((hook, answer))
            if on_answer is not None:
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
            async with asyncio.timeout(max(self._timeout, one.hook.filter.patience)):
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
        if self._on_answer is not None:
            self._tell(one.hook, answer, one.asked)
        return answer

    def _tell(self, hook: Hook, answer: Decision, asked: float) -> None:
        assert self._on_answer is not None
        seconds = perf_counter() - asked
        self._on_answer(hook.filter.name, self._phase, answer.verdict, seconds)

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
        ids = {"session": self._session, "id": self._mail} if self._mail else {"session": self._session}
        where = self._phase.name.lower()
        text = "filter %s failed at %s and defers: %s"
        log.log(level, text, hook.filter.name, where, what, exc_info=fault, extra=ids)
        return DEFER
