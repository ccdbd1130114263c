"""The operator's work with dead letters, step by step: the same on a folder, on S3 and on Cloud
Storage.

Two flows, `in` with the output `archive` and `alt` with the output `notify`, refuse every mail for
good until they are repaired; finished mail is kept.
"""

from __future__ import annotations

import json
import subprocess
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.support.net import PATIENCE, wait_until

FIRST: Final = 12
"""Mails of the first batch; the second has two."""


class Drill(ABC):
    """One spool with dead letters."""

    words: Mapping[str, str]
    """A part of the reason of each output's refusal."""

    prefix: str
    """The prefix of kept mails' copies, for `--prefix`."""

    @abstractmethod
    def command(self, *arguments: str) -> tuple[Sequence[str], Mapping[str, str], Path]:
        """`smtp-relay deadletter` with these arguments: command, environment, working folder."""

    @abstractmethod
    def send(self, number: int) -> None:
        """One mail for both flows, its subject `mail NUMBER`."""

    @abstractmethod
    def dead(self) -> int:
        """How many records there are."""

    @abstractmethod
    def mend(self) -> None:
        """From now on both outputs work."""

    @abstractmethod
    def notified(self) -> Counter[str]:
        """How often each mail's id came out of `notify`, since the start."""

    @abstractmethod
    def unfinished(self) -> int:
        """Mails in the spool."""

    @abstractmethod
    def hold(self) -> None:
        """Stop delivering for a while."""

    @abstractmethod
    def resume(self) -> None:
        """Deliver again, also the mails that came meanwhile."""

    def say(self, *arguments: str) -> str:
        """The command's output."""
        command, environment, folder = self.command(*arguments)
        done = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """The records that fit."""
        return [json.loads(line) for line in self.say("list", "--json", *arguments).splitlines()]


def carry_out(drill: Drill) -> None:
    """Every step."""
    begun = _now()
    for number in range(FIRST):
        drill.send(number)
    wait_until(lambda: drill.dead() == 2 * FIRST, seconds=PATIENCE, what="the first dead letters")
    between = _now()
    for number in range(FIRST, FIRST + 2):
        drill.send(number)
    total = 2 * FIRST + 4
    wait_until(lambda: drill.dead() == total, seconds=PATIENCE, what="all dead letters")
    one = _filters(drill, begun, between, total)

    assert f"Subject: mail {FIRST}" in drill.say("show", drill.listed("--since", between)[0]["id"])
    for action in ("replay", "drop"):
        assert f"{total} would be" in drill.say(action, "--all", "--dry-run")
    assert drill.dead() == total, "a dry run changes nothing"

    assert "2 dropped" in drill.say("drop", one)
    assert drill.dead() == total - 2
    drill.mend()
    assert f"{total - 2} replayed" in drill.say("replay", "--all", "--now")
    wait_until(lambda: not drill.unfinished(), seconds=PATIENCE, what="all to be delivered")
    assert drill.dead() == 0
    alive = FIRST + 1
    _settle(drill, {1: alive})
    assert one not in drill.notified(), "what was dropped is not delivered"
    _kept(drill, begun, between, alive)


def _filters(drill: Drill, begun: str, between: str, total: int) -> str:
    """By flow, output, reason, time and id, alone and together. Gives an id of the first batch."""
    everything = drill.listed()
    assert len(everything) == total
    assert {each["flow"] for each in drill.listed("--flow", "in")} == {"in"}
    assert len(drill.listed("--flow", "in")) == total // 2
    assert {each["output"] for each in drill.listed("--output", "notify")} == {"notify"}
    for output, word in drill.words.items():
        assert {each["output"] for each in drill.listed("--reason", word)} == {output}
    assert len(drill.listed("--since", between)) == 4
    assert len(drill.listed("--since", begun, "--until", between)) == 2 * FIRST
    assert len(drill.listed("--since", between, "--flow", "alt")) == 2
    assert drill.listed("--until", begun) == []
    first: str = drill.listed("--until", between)[0]["id"]
    both = drill.listed(first)
    assert len(both) == 2
    assert len(drill.listed(f"{first}/{both[0]['key']}")) == 1
    return first


def _kept(drill: Drill, begun: str, between: str, alive: int) -> None:
    """One replay is idempotent, a second is a choice."""
    kept = drill.say("replay", "--kept", "--since", begun, "--until", between, "--dry-run")
    assert f"{FIRST - 1} would be replayed" in kept
    assert f"{alive} would be replayed" in drill.say(
        "replay", "--kept", "--prefix", drill.prefix, "--dry-run"
    )
    _settle(drill, {1: alive})
    mail_id = next(line.partition(" ")[0] for line in kept.splitlines())
    drill.hold()
    for _ in range(2):
        assert f"{mail_id} replayed (number 1)" in drill.say("replay", "--kept", mail_id)
    drill.resume()
    _settle(drill, {1: alive - 1, 2: 1})
    assert f"{mail_id} replayed (number 2)" in drill.say("replay", "--kept", mail_id, "--now")
    _settle(drill, {1: alive - 1, 3: 1})
    assert drill.notified()[mail_id] == 3
    many = drill.say("replay", "--kept", "--since", between, "--now")
    assert "2 replayed" in many
    _settle(drill, {1: alive - 3, 2: 2, 3: 1})


def _settle(drill: Drill, times: dict[int, int]) -> None:
    """Wait until all mails are finished; then so many mails came out so often."""
    wait_until(
        lambda: not drill.unfinished() and Counter(drill.notified().values()) == times,
        seconds=PATIENCE,
        what=f"{times}, not {drill.notified()}",
    )


def _now() -> str:
    time.sleep(0.02)
    text = datetime.now(UTC).isoformat()
    time.sleep(0.02)
    return text
