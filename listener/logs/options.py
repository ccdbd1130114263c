"""Destinations of logs: the entries of `loggers`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from functions.options.types import ByteCount, OptionsModel
from listener.logs.format import formatter

Level = Literal["ERROR", "WARN", "INFO", "DEBUG", "TRACE"]


def _level(value: Any) -> Any:
    folded = value.upper() if isinstance(value, str) else value
    return {"WARNING": "WARN", "CRITICAL": "ERROR"}.get(folded, folded) if isinstance(folded, str) else value


class LoggerOptions(OptionsModel):
    """One destination of logs."""

    type: Literal["CONSOLE", "FILE"]
    """Standard error, or a file that rotates."""

    level: Annotated[Level | None, BeforeValidator(_level, json_schema_input_type=Level | None)] = None
    """The lowest level. Default: `LOG_LEVEL`, else INFO."""

    format: str = "text"
    """`text`, `json`, or a template with `%(d)s` (time), `%(l)s` (level), `%(m)s` (message and facts) and
    `%(t)s` (Unix milliseconds)."""

    filepath: str | None = None
    """The file's path, for `FILE`."""

    size_limit: ByteCount = Field(default=50_000_000, ge=0)
    """Size at which the file rotates: its name gets a number. 0: no limit."""

    keep: int | None = Field(default=10, ge=1)
    """Rotated files to keep; null keeps all."""

    @model_validator(mode="after")
    def _complete(self) -> LoggerOptions:
        if self.type == "FILE" and not self.filepath:
            raise ValueError("filepath is missing: a FILE logger needs one")
        if self.type == "CONSOLE" and self.filepath is not None:
            raise ValueError('filepath belongs to "type": "FILE"')
        if self.format not in {"text", "json"} and "%(" not in self.format:
            raise ValueError(f"format: {self.format!r} is not text or json, and does not hold %(m)s")
        formatter(self.format)
        return self
