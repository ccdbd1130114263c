"""The image's entry point: changes from root to the owner of the mounted folder, then runs
`smtp-relay`.

Containers start as root by default, with a folder of the host mounted below the working folder.
Files written there should belong to that folder's owner, and a server that strangers talk to should
not be root.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from functions.message.text import escaped

USER: Final = 10025
"""User and group to use if root owns everything; the image has them."""

_ROOT: Final = 0
_MOUNTS: Final = Path("/proc/self/mountinfo")
_USERS: Final = Path("/proc/self/uid_map")
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")  # how mountinfo writes space, tab, line feed and backslash


class Owner(NamedTuple):
    """A user and a group."""

    user: int
    group: int


def mounted_folders(mounts: Iterable[bytes], below: Path) -> list[Path]:
    """Mounted and writable folders at or below a folder; `mounts` are the lines of mountinfo
    (proc_pid_mountinfo(5))."""
    found: dict[Path, None] = {}
    for line in mounts:
        fields = line.split(b" ")
        if len(fields) < 6 or b"ro" in fields[5].split(b","):
            continue
        place = Path(os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), fields[4])))
        if place.is_relative_to(below) and place.is_dir():
            found[place] = None
    return list(found)


def new_owner(folders: Sequence[Path]) -> Owner:
    """The user to become: the first owner of a folder that is not root, else the image's user. Folders
    that root owns are given to that user; their content stays unchanged."""
    owners = [(folder, folder.stat()) for folder in folders]
    theirs = [Owner(one.st_uid, one.st_gid) for _, one in owners if one.st_uid != _ROOT]
    chosen = theirs[0] if theirs else Owner(USER, USER)
    for folder, one in owners:
        if one.st_uid == _ROOT:
            try:
                os.chown(folder, *chosen)
            except OSError as error:
                # A network file system may refuse even root; its folder may still be writable for
                # all.
                _say(f"cannot give {folder} to user {chosen.user}: {error.strerror}")
    return chosen


def drop(owner: Owner, home: Path) -> None:
    """Become that user for good. Raises SystemExit (2) if the container does not permit it."""
    try:
        os.setgroups([])
        os.setresgid(owner.group, owner.group, owner.group)
        os.setresuid(owner.user, owner.user, owner.user)
    except PermissionError:
        _say(
            f"this container may not change to user {owner.user}: start it with --user "
            "UID:GID, or with the capabilities SETUID and SETGID"
        )
        raise SystemExit(2) from None
    os.environ["HOME"] = str(home)


def is_root() -> bool:
    """True if this is the machine's root. Root of a user namespace (rootless containers) is, outside,
    the user that started it: after a change, files would belong to another user there."""
    if os.geteuid() != _ROOT:
        return False
    inside, outside, _ = _USERS.read_text().split(maxsplit=2)
    return (inside, outside) == ("0", "0")


def _say(text: str) -> None:
    print(f"smtp-relay: {escaped(text)}", file=sys.stderr, flush=True)


def main() -> int:
    """Run `smtp-relay` with this process's arguments. Returns its exit status."""
    if is_root():
        here = Path.cwd()
        drop(new_owner(mounted_folders(_MOUNTS.read_bytes().splitlines(), here)), here)
    from listener.cli.main import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
