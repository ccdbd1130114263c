"""Reads the requirements of a shared object: its processor, the libraries that it needs and the
versions of their symbols (System V ABI; versions: LSB Core, "Symbol Versioning")."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROCESSORS: Final = {62: "x86_64", 183: "arm64"}  # e_machine: EM_X86_64, EM_AARCH64
_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_VERNEED, _DT_VERNEEDNUM = 1, 5, 0x6FFFFFFE, 0x6FFFFFFF


@dataclass(frozen=True)
class SharedObject:
    """`needed`: names of libraries. `versions`: such as `GLIBC_2.17`, of all libraries together."""

    processor: str
    needed: frozenset[str]
    versions: frozenset[str]

    def newest(self, family: str) -> tuple[int, ...]:
        """The newest required version of a family (`GLIBC`); empty for none."""
        found = [each.removeprefix(f"{family}_") for each in self.versions if each.startswith(f"{family}_")]
        return max((tuple(map(int, each.split("."))) for each in found), default=())


def shared_object(file: Path) -> SharedObject:
    """Read a 64-bit little-endian file. Raises ValueError for anything else."""
    data = file.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{file}: not a 64-bit little-endian ELF file")
    machine, start = struct.unpack_from("<H12xQ", data, 18)
    size, count = struct.unpack_from("<HH", data, 54)
    headers = [struct.unpack_from("<I4xQQ8xQ", data, start + size * index) for index in range(count)]
    loaded = [header[1:] for header in headers if header[0] == _PT_LOAD]

    def offset_of(address: int) -> int:
        for offset, begin, length in loaded:
            if begin <= address < begin + length:
                return address - begin + offset
        raise ValueError(f"{file}: nothing is loaded at {address:#x}")

    dynamic: list[tuple[int, int]] = []
    for kind, offset, _, length in headers:
        if kind == _PT_DYNAMIC:
            dynamic += struct.iter_unpack("<QQ", data[offset : offset + length])
    entries = dict(dynamic)
    strings = offset_of(entries[_DT_STRTAB])

    def text(index: int) -> str:
        begin = strings + index
        return data[begin : data.index(b"\0", begin)].decode("ascii")

    versions = set()
    place = offset_of(entries[_DT_VERNEED]) if _DT_VERNEED in entries else 0
    for _ in range(entries.get(_DT_VERNEEDNUM, 0)):
        of_library, first, following = struct.unpack_from("<2xH4xII", data, place)
        entry = place + first
        for _ in range(of_library):
            name, after = struct.unpack_from("<8xII", data, entry)
            versions.add(text(name))
            entry += after
        place += following
    return SharedObject(
        _PROCESSORS.get(machine, f"processor {machine}"),
        frozenset(text(value) for tag, value in dynamic if tag == _DT_NEEDED),
        frozenset(versions),
    )
