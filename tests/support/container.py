"""Containers without a container engine: an image's files in namespaces of their own.

Enough of `docker run` to try an image: its entry point, environment and working folder, `-v`, `-e`,
`--user` and `--read-only`, Docker's default capabilities, a network of its own with nothing but loopback.
An image for another processor runs under QEMU's emulation.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.support.net import wait_until

_TOOLS: Final = ("unshare", "nsenter", "setpriv", "ip")
NEEDED: Final = {"unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "ip": "iproute2"}

_CAPABILITIES: Final = (
    *("chown", "dac_override", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap"),
    *("net_bind_service", "net_raw", "sys_chroot", "mknod", "audit_write", "setfcap"),
)
"""The capabilities that Docker leaves to root in a container."""


class Container:
    """One run of an image. `config` is the image's own; `volumes` maps folders here to folders in
    it, `user` is `UID:GID`. `read_only`: only the volumes and /tmp take files, and the program has no
    capability. With `folder_inside` it works in another folder."""

    def __init__(
        self,
        folder: Path,
        files: Path,
        config: Mapping[str, Any],
        *command: str,
        volumes: Mapping[Path, str] | None = None,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        read_only: bool = False,
        folder_inside: str | None = None,
    ) -> None:
        self.folder = folder
        self.files = files
        self.config = config
        self.arguments = command
        self.volumes = dict(volumes or {})
        self.env = dict(one.split("=", 1) for one in config["Env"]) | dict(env or {})
        self.user = user
        self.read_only = read_only
        self.folder_inside = folder_inside or config["WorkingDir"]
        self.output = folder / "output.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start its first process."""
        root = self.folder / "root"
        for part in (root, self.folder / "upper", self.folder / "work"):
            part.mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={self.files},upperdir={self.folder / 'upper'},workdir={self.folder / 'work'}"
        lines = [
            "set -e",
            "ip link set lo up",
            f"mount -t overlay overlay -o {shlex.quote(layers)} {root}",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
        ]
        for here, there in self.volumes.items():
            place = shlex.quote(f"{root}{there}")
            lines += [f"mkdir -p {place}", f"mount --bind {shlex.quote(str(here))} {place}"]
        if self.read_only:
            if "/tmp" not in self.volumes.values():
                lines.append(f"mount -t tmpfs tmpfs {root}/tmp")
            lines.append(f"mount -o remount,ro {root}")
        lines.append("exec " + shlex.join(self._inside(root, [*self.config["Entrypoint"], *self.arguments])))
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [
                    "unshare",
                    "--mount",
                    "--net",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "sh",
                    "-c",
                    "\n".join(lines),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def wait_for(self, text: str, seconds: float = 30.0) -> None:
        """Wait until it has printed a text. Raises TimeoutError, RuntimeError if it ends first."""
        assert self.process is not None
        process = self.process
        wait_until(
            lambda: text in self.log() or process.poll() is not None, seconds=seconds, what=f"{text!r}"
        )
        if text not in self.log():
            raise RuntimeError(f"the container ended with {process.poll()}:\n{self.log()}")

    def run(self, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a program of the image beside it, as `docker exec`."""
        inner = self._inside(Path(f"/proc/{self.pid}/root"), command)
        return self._enter(inner, stdin)

    def beside(self, *command: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """Run a program of this machine in the container's network."""
        return self._enter(command, stdin)

    def _enter(self, command: Sequence[str], stdin: bytes) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", f"--pid=/proc/{self.pid}/ns/pid", *command],
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )

    @property
    def pid(self) -> int:
        """Its first process, as this machine counts."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0])

    def identity(self) -> tuple[set[int], set[int], set[int]]:
        """Users, groups and supplementary groups of the first process."""
        status = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        found = {
            line.split(":")[0]: {int(one) for one in line.split()[1:]} for line in status if line[0] in "UG"
        }
        return found["Uid"], found["Gid"], found["Groups"]

    def stop(self) -> int:
        """SIGTERM to its first process, as `docker stop`; its exit status."""
        assert self.process is not None
        os.kill(self.pid, signal.SIGTERM)
        return self.process.wait(30)

    def close(self) -> None:
        """SIGKILL to the remaining processes."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def log(self) -> str:
        """All it printed."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def _inside(self, root: Path, command: Sequence[str]) -> list[str]:
        """A command that runs another one in the image, with its user, environment and folder."""
        kept = () if self.read_only else _CAPABILITIES
        rights = ",".join(["-all", *(f"+{one}" for one in kept)])
        become = ["setpriv", f"--bounding-set={rights}"]
        if self.read_only:
            become.append("--no-new-privs")
        if self.user is not None:
            user, _, group = self.user.partition(":")
            become += [f"--reuid={user}", f"--regid={group or user}", "--clear-groups"]
        inner = ["sh", "-c", 'cd "$0" && exec "$@"', self.folder_inside, *command]
        environment = [f"{name}={value}" for name, value in self.env.items()]
        # The image has setpriv and env too, in its own root: only chroot needs this machine's
        # rights.
        return ["chroot", str(root), "env", "-i", *environment, *become, *inner]


_BINFMT: Final = Path("/proc/sys/fs/binfmt_misc")
EMULATORS: Final = {
    # Processor: QEMU's program, and the processor's number in the header of programs (elf(5), e_machine).
    "arm64": ("qemu-aarch64-static", 0xB7),
    "amd64": ("qemu-x86_64-static", 0x3E),
}


@contextlib.contextmanager
def emulated(processor: str) -> Iterator[None]:
    """While the block runs, programs for another processor run here: the kernel starts QEMU for them
    (binfmt_misc). Needs root."""
    program, number = EMULATORS[processor]
    path = shutil.which(program)
    assert path is not None
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", _BINFMT], check=True)
    entry = _BINFMT / f"smtp-relay-{os.getpid()}"
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00" + bytes([number, 0])
    mask = b"\xff" * 7 + b"\x00" + b"\xff" * 8 + b"\xfe\xff\xff\xff"  # any system; fixed address or not
    escaped = ["".join(f"\\x{byte:02x}" for byte in part) for part in (head, mask)]
    # F: the kernel opens QEMU now, because the image does not have it.
    (_BINFMT / "register").write_text(f":{entry.name}:M::{':'.join(escaped)}:{path}:F")
    try:
        yield
    finally:
        entry.write_text("-1")
