"""One finding of `check` about a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple

from functions.options.secrets import Runtime

Severity = Literal["error", "warning", "note"]
Platform = Literal["fargate", "cloud-run"]


class Finding(NamedTuple):
    """`error`: it must not run; `warning`: it runs with a risk; `note`: a fact about this machine, which no
    change of the file removes. `where` is a path in the file, "" for the whole file."""

    severity: Severity
    where: str
    text: str

    def __str__(self) -> str:
        return (
            f"{self.severity}: {self.where}: {self.text}" if self.where else f"{self.severity}: {self.text}"
        )


@dataclass(frozen=True, slots=True)
class Setting(Runtime):
    """The context of a check: the surroundings of the process, the platform, if known, and `public`,
    which says that strangers reach the listeners at any address; `offline` says that another machine will
    run the configuration."""

    public: bool = False
    platform: Platform | None = None
    offline: bool = False

    @property
    def elsewhere(self) -> bool:
        """True if the configuration runs elsewhere, so this machine has neither its secrets nor its
        packages."""
        return self.offline or self.platform is not None


error: Final = partial(Finding, "error")
"""A reason to refuse the configuration."""

warning: Final = partial(Finding, "warning")
"""A risk to know."""

note: Final = partial(Finding, "note")
"""A fact about this machine; it does not count with `--strict`."""
