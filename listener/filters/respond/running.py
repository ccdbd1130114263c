"""The rules that are set while the server runs: `respond` and `chaos` of the inbox's API."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from pydantic import ValidationError

from listener.filters.respond.chaos import OFF, Chaos
from listener.filters.respond.memory import ScriptMemory
from listener.filters.respond.rules import MAX_RULES, RespondRule, RuntimeRule


@dataclass(frozen=True, slots=True)
class Scope:
    """The part of the script that a request sees and changes: that of a flow, of a user, or all."""

    flow: str | None = None
    user: str | None = None

    def holds(self, rule: RuntimeRule) -> bool:
        """True if the rule is in this part."""
        return (self.flow is None or rule.flow == self.flow) and (
            self.user is None or rule.user == (self.user,)
        )

    def limits(self, value: object) -> object:
        """The JSON of a rule with the condition of this part. Raises ValueError if it has another one."""
        if not isinstance(value, Mapping):
            return value
        own = {"flow": self.flow, "user": self.user}
        for key, name in own.items():
            if name is not None and value.get(key) not in (None, name, [name]):
                raise ValueError(f"{key} is {value[key]!r}, and this inbox has only {name!r}")
        return {**value, **{key: name for key, name in own.items() if name is not None}}


ALL: Final = Scope()


@dataclass(frozen=True, slots=True)
class ScriptState:
    """The text of the shared memory, read: `rules` instead of the file's, None while those count, and the
    triggers of each part that has some."""

    rules: tuple[RuntimeRule, ...] | None = None
    chaos: Mapping[Scope, Chaos] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> ScriptState:
        """The state that `text` holds."""
        if not text:
            return cls()
        value = json.loads(text)
        rules = value["rules"]
        return cls(
            None if rules is None else tuple(map(_rule, rules)),
            {Scope(flow, user): Chaos.of(given) for flow, user, given in value["chaos"]},
        )

    def text(self) -> str:
        """The state as text."""
        rules = None if self.rules is None else [one.as_json() for one in self.rules]
        chaos = [[part.flow, part.user, one.as_json()] for part, one in self.chaos.items()]
        return json.dumps({"rules": rules, "chaos": chaos})

    def rules_of(self, flow: str, in_file: Sequence[RespondRule]) -> list[RespondRule]:
        """The rules of one flow: chaos first."""
        own = in_file if self.rules is None else [one for one in self.rules if one.flow in (None, flow)]
        parts = [(part, one) for part, one in self.chaos.items() if part.flow in (None, flow)]
        return [rule for part, one in parts for rule in one.rules(part.user)] + list(own)


class RunningScript:
    """The script of a server, as any of its processes sees and changes it."""

    def __init__(self, memory: ScriptMemory) -> None:
        self._memory = memory

    @property
    def exists(self) -> bool:
        """True if any flow has the filter."""
        return bool(self._flows())

    def chaos(self, scope: Scope) -> dict[str, Any]:
        """Mailpit's triggers."""
        return self._state().chaos.get(scope, OFF).as_json()

    def set_chaos(self, value: object, scope: Scope) -> dict[str, Any]:
        """Replace the triggers. Raises ValueError."""
        chaos = Chaos.of(value)

        def change(state: ScriptState) -> ScriptState:
            found = {**state.chaos, scope: chaos}
            # What concerns few comes first.
            kept = sorted((part for part in found if found[part].rules()), key=lambda part: part == ALL)
            if len(kept) > MAX_RULES:
                raise ValueError(f"more than {MAX_RULES} inboxes have triggers")
            return replace(state, chaos={part: found[part] for part in kept})

        self._change(change)
        return chaos.as_json()

    def rules(self, scope: Scope) -> dict[str, Any]:
        """The rules in force."""
        return self._shown(self._state(), scope)

    def set_rules(self, value: object, scope: Scope) -> dict[str, Any]:
        """Replace the rules by those of `{"rules": […]}`; null brings the file's back. Raises ValueError."""
        if not isinstance(value, Mapping) or set(value) != {"rules"}:
            raise ValueError('the body must be {"rules": [...]}, or {"rules": null} for those of the file')
        given = value["rules"]
        if given is None:
            put = None
        elif isinstance(given, list):
            put = tuple(self._read(index, one, scope) for index, one in enumerate(given[: MAX_RULES + 1]))
        else:
            raise ValueError("rules: is not a list")
        in_file = self._of_file()

        def change(state: ScriptState) -> ScriptState:
            return _changed(state, put, scope, in_file)

        return self._shown(self._change(change), scope)

    def _read(self, index: int, value: object, scope: Scope) -> RuntimeRule:
        try:
            rule = _rule(scope.limits(value))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = "".join(f".{one}" if isinstance(one, str) else f"[{one}]" for one in first["loc"])
            text = first["msg"].removeprefix("Value error, ")
            raise ValueError(f"rules[{index}]{place}: {text}") from error
        except ValueError as error:
            raise ValueError(f"rules[{index}].{error}") from error
        if rule.flow is not None and rule.flow not in (flows := self._flows()):
            there = ", ".join(flows)
            raise ValueError(
                f"rules[{index}].flow: no flow {rule.flow!r} has a filter respond (there are {there})"
            )
        return rule

    def _state(self) -> ScriptState:
        return ScriptState.of(self._memory.text())

    def _change(self, change: Callable[[ScriptState], ScriptState]) -> ScriptState:
        made: list[ScriptState] = []

        def write(text: str) -> str:
            made.append(change(ScriptState.of(text)))
            return made[0].text()

        self._memory.change(write)
        return made[0]

    def _of_file(self) -> tuple[RuntimeRule, ...]:
        return tuple(_rule({**rule, "flow": flow}) for flow, rules in self._flows().items() for rule in rules)

    def _flows(self) -> dict[str, list[dict[str, Any]]]:
        """The rules of the file, by the flows with the filter."""
        found: dict[str, list[dict[str, Any]]] = json.loads(self._memory.in_file() or "{}")
        return found

    def _shown(self, state: ScriptState, scope: Scope) -> dict[str, Any]:
        rules = self._of_file() if state.rules is None else state.rules
        return {"rules": [one.as_json() for one in rules if scope.holds(one)]}


def _changed(
    state: ScriptState,
    put: tuple[RuntimeRule, ...] | None,
    scope: Scope,
    in_file: tuple[RuntimeRule, ...],
) -> ScriptState:
    if scope == ALL:
        rules = put
    else:
        own = tuple(one for one in in_file if scope.holds(one)) if put is None else put
        before = in_file if state.rules is None else state.rules
        rules = (*own, *(one for one in before if not scope.holds(one)))
    if rules is not None and len(rules) > MAX_RULES:
        raise ValueError(f"rules: there are more than {MAX_RULES}")
    return replace(state, rules=rules)


def tell(memory: ScriptMemory, flows: Mapping[str, Sequence[RespondRule]]) -> None:
    """A process uses a file with these flows that have the filter, and these rules. Raises ValueError for
    more of them than fit."""
    memory.tell(json.dumps({flow: [one.as_json() for one in rules] for flow, rules in flows.items()}))


def _rule(value: object) -> RuntimeRule:
    return RuntimeRule.model_validate(value, by_alias=True, by_name=False)
