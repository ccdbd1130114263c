"""Texts that are taken as they stand, although they look like something that would be replaced."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from listener.checks.finding import Finding, Setting, warning
from listener.config.relay import RelayConfig

_REFERENCE: Final = re.compile(r"(?:env|ssm|secretsmanager|gcp-secret):\S+|\$[A-Z_][A-Z0-9_]*")
_BRACES: Final = re.compile(r"(?<![${])\{\{?\s*(\w+)\s*\}")


def findings(config: RelayConfig, setting: Setting) -> Iterator[Finding]:
    """References outside of secrets, `~` in front of paths, and braces without `$`; outputs that store into
    the spool."""
    from functions.message.template import VARIABLES

    for path, text in _texts(config):
        if _REFERENCE.fullmatch(text):
            what = f"{text!r} is taken as it stands: only secrets are references"
            yield warning(path, f"{what} (write the value)")
        elif (found := _BRACES.search(text)) and found[1] in VARIABLES:
            yield warning(path, f"{found[0]}… is no variable (write ${{{found[1]}}})")
    if config.spool.in_bucket:
        spool = None
    else:
        spool = config.spool.folder(setting.folder)
        if config.spool.url.startswith("file://~"):
            yield _home("spool.url")
    for name, flow in config.flows.items():
        for index, output in enumerate(flow.outputs):
            path = f"flows.{name}.outputs[{index}].path"
            if (folder := output.file_folder) is None:
                continue
            if folder.startswith("~"):
                yield _home(path)
            elif "://" in folder:
                yield warning(
                    path, f"{folder!r} is a path, not a URL (write {folder.rpartition('://')[2] or '.'!r})"
                )
            elif spool is not None and _inside(setting.folder / folder, spool):
                yield warning(path, f"{folder!r} is in the spool's folder {spool} (name another folder)")


def _home(path: str) -> Finding:
    return warning(path, "~ is a folder of that name here, not your home (write the home's path out)")


def _inside(folder: Path, spool: Path) -> bool:
    return folder.resolve().is_relative_to(spool.resolve())


def _texts(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text but secrets, with its path in the file's own key names."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            if name in value.model_fields_set:
                key = field.alias or name
                yield from _texts(getattr(value, name), f"{path}.{key}" if path else key)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(item, f"{path}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _texts(item, f"{path}[{index}]")
