"""The content of the functions of both clouds: this project's half of the code, its configuration, and the
locked versions of the packages that it imports."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from functions.config import DeliveryConfig
from functions.options.secrets import secrets_of
from functions.processors.base import OutputOptions
from infra.bundle.lock import Pinned, read_lock

ROOT: Final = Path(__file__).resolve().parents[2]

_DATE: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip can hold

_ON_DISK: Final = ("functions/local", "functions/processors/file")

LEFT_OUT: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("functions/gcp", *_ON_DISK),
    "gcp": ("functions/aws", *_ON_DISK),
}
"""Rooms that the function on a cloud does not need: the other cloud's, and those of a process that
delivers out of a folder. The rest of functions/ is in the bundle."""


def copy_functions(work: Path, cloud: str) -> None:
    """The delivering half, without what LEFT_OUT names for a cloud (`aws` or `gcp`)."""
    for source in sorted((ROOT / "functions").rglob("*.py")):
        place = source.relative_to(ROOT)
        if any(place.is_relative_to(each) for each in LEFT_OUT[cloud]):
            continue
        (work / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, work / place)


def delivery_part(value: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that the function reads: the listener's secrets stay behind."""
    part: dict[str, Any] = {
        name: value[name] for name in ("spool", "delivery", "cachePath", "keepCache") if name in value
    }
    flows = value.get("flows")
    part["flows"] = {
        name: {"outputs": flow.get("outputs", [])}
        for name, flow in (flows.items() if isinstance(flows, Mapping) else ())
    }
    return part


def signs(config: DeliveryConfig) -> bool:
    """True if an output signs mails, or the requests for its access tokens."""
    return any(path.endswith("privateKey") for each in _outputs(config) for path, _ in secrets_of(each))


def writes_addresses(config: DeliveryConfig) -> bool:
    """True if an output sends mails on, publishes or posts, because then domains are compared and written in
    ASCII."""
    return any(each.sends_on or each.publishes or each.repeatable for each in _outputs(config))


def _outputs(config: DeliveryConfig) -> list[OutputOptions]:
    return [output for flow in config.flows.values() for output in flow.outputs]


def locked(cloud: str) -> dict[str, Pinned]:
    """The packages that the function on a cloud (`aws` or `gcp`) may need, with their locked versions."""
    return read_lock(ROOT / "locks" / f"function-{cloud}.txt")


def read_config(config: Path) -> Mapping[str, Any]:
    """The file unchanged. Raises ConfigError."""
    from listener.config.load import read

    return read(config, {}).value


def zip_tree(work: Path, target: Path) -> Path:
    """The same files give the same bytes."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for file in _files(work):
            info = zipfile.ZipInfo(file.relative_to(work).as_posix(), _DATE)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, file.read_bytes())
    return target


def _files(work: Path) -> Iterator[Path]:
    yield from sorted(path for path in work.rglob("*") if path.is_file())
