"""Tries the README's two commands on a fresh machine: `make run` with a mail, and `make test`.

The machine is a folder: Debian's minimal system of this machine's release, made by debootstrap,
with the packages that the README asks for, entered with namespaces of its own. It gets a fresh
clone of HEAD and this machine's ways to the registries (apt's, pip's and npm's configuration,
certificates, proxies), and none of its packages or caches. The last line says if all was green; the
logs are in .state/fresh.

Needs root on Debian, debootstrap and git; Python's standard library only.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Final

HERE: Final = Path(__file__).resolve().parent.parent
STATE: Final = HERE / ".state" / "fresh"
ROOT: Final = STATE / "root"
CLONE: Final = "/root/smtp-relay"

PACKAGES: Final = ("ca-certificates", "git", "make", "python3")
"""The packages that the README asks for."""

MAY_SKIP: Final = ("terraform provider", "pubsub emulator jar")
"""Starts of the permitted reasons to skip a test: no package registry carries these."""

# The ways to the registries. Missing folders and files are left out.
CONFIGURATION: Final = (
    "/etc/apt/apt.conf.d",
    "/etc/apt/auth.conf.d",
    "/etc/apt/keyrings",
    "/etc/apt/preferences.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
    "/etc/apt/trusted.gpg.d",
    "/usr/share/keyrings",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/ssl/certs",
    "/etc/pip.conf",
    "/etc/xdg/pip",
    "/root/.config/pip",
    "/root/.pip",
    "/root/.npmrc",
    "/etc/npmrc",
)
VARIABLES: Final = re.compile(
    r"pip_|npm_config_|(https?|all|no)_proxy$|ssl_cert_(file|dir)$|(requests|curl)_ca_bundle$|node_extra_ca_certs$",
    re.IGNORECASE,
)


class Fault(Exception):
    """A difference from the README."""


def say(text: str) -> None:
    print(f"» {text}", flush=True)


def main() -> None:
    if os.geteuid() != 0:
        raise Fault("needs root")
    if lacking := [name for name in ("debootstrap", "git") if shutil.which(name) is None]:
        raise Fault(f"needs {' and '.join(lacking)} (Debian packages)")
    STATE.mkdir(parents=True, exist_ok=True)
    with (STATE / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Fault("another one runs in this folder") from None
        make_root()
        clone()
        run_the_server()
        print(f"fresh: green: {run_the_tests()}", flush=True)


# --- the machine -------------------------------------------------------------------------------


def make_root() -> None:
    """Lay a fresh root; the system that debootstrap makes is kept for the next one."""
    suite, mirror = release()
    base = STATE / f"base-{suite}"
    if not base.exists():
        say(f"making a minimal Debian {suite} with debootstrap")
        raw = STATE / "base-unfinished"
        shutil.rmtree(raw, ignore_errors=True)
        include = f"--include={','.join(PACKAGES)}"
        with (STATE / "debootstrap.log").open("w") as log:
            command = ["debootstrap", "--variant=minbase", include, suite, str(raw), *mirror]
            subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=True)
        raw.rename(base)
    say("laying a fresh root")
    # Mounts are made in namespaces of their own and end with them, so nothing of this machine is
    # inside.
    if ROOT.exists():
        shutil.rmtree(ROOT)
    subprocess.run(["cp", "--archive", base, ROOT], check=True)
    for name in CONFIGURATION:
        carry(Path(name))
    # dpkg is several times as fast without waiting for the disk, which a throw-away root does not
    # need.
    (ROOT / "etc/dpkg/dpkg.cfg.d/fresh").write_text("force-unsafe-io\n")


def release() -> tuple[str, list[str]]:
    """This machine's release of Debian, and the mirror in its apt settings."""
    facts = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line
    )
    if facts.get("ID") != "debian" or "VERSION_CODENAME" not in facts:
        raise Fault("needs Debian")
    suite = facts["VERSION_CODENAME"]
    sources = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    mirrors = [line.split()[2] for line in sources.stdout.splitlines() if line.startswith(f"{suite} main ")]
    return suite, mirrors[:1]


def carry(path: Path) -> None:
    """Copy a file or folder of this machine's configuration to its place in the root."""
    there = ROOT / path.relative_to("/")
    if path.is_dir():
        shutil.rmtree(there, ignore_errors=True)
        shutil.copytree(path, there, ignore_dangling_symlinks=True)
    elif path.is_file():
        there.parent.mkdir(parents=True, exist_ok=True)
        there.unlink(missing_ok=True)
        shutil.copy2(path, there)


def clone() -> None:
    """A fresh clone of HEAD, without uncommitted files."""
    there = ROOT / CLONE.lstrip("/")
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", HERE, there], check=True)
    head, cloned = (_git(folder, "rev-parse", "HEAD") for folder in (HERE, there))
    if head != cloned:
        _git(there, "checkout", "--quiet", "--detach", head)
    say(f"cloned {head[:12]}")
    if _git(HERE, "status", "--porcelain"):
        say("uncommitted changes are not tried")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", folder, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def inside(*command: str) -> list[str]:
    """The command that runs another one in the clone on the fresh machine, with mounts and processes of
    its own. They end with it."""
    root = shlex.quote(str(ROOT))
    lines = [
        "set -e",
        f"mount --bind {root} {root}",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /sys {root}/sys",
        f"mount --rbind /dev {root}/dev",
        f"cd {root}",
        # The root is a mount, unlike chroot's, because programs that make namespaces themselves
        # need one.
        "pivot_root . .",
        "umount -l .",
        f"cd {CLONE}",
        # The shell stays as the first process, because programs may rely on the signals that a
        # first process ignores.
        shlex.join(["env", "-i", *(f"{name}={value}" for name, value in environment().items()), *command])
        + " || exit $?",
        "exit 0",
    ]
    apart = ("--mount", "--pid", "--fork", "--kill-child")
    return ["unshare", *apart, "sh", "-c", "\n".join(lines)]


@contextlib.contextmanager
def started(*command: str, stdout: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A command on the fresh machine in a session of its own, which this process's signals do not
    reach. At the end, all processes that it started are ended."""
    process = subprocess.Popen(
        inside(*command),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def environment() -> Mapping[str, str]:
    """A fresh shell's, and the ways to the registries."""
    carried = {
        name: value
        for name, value in os.environ.items()
        if VARIABLES.match(name) and "cache" not in name.lower()
    }
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "TERM": "dumb", **carried}


# --- the README's commands ---------------------------------------------------------------------


def run_the_server() -> None:
    """`make run`, and a mail from another terminal; the mail is in received_emails, Ctrl-C ends it."""
    say("make run")
    log = STATE / "run.log"
    emails = ROOT / CLONE.lstrip("/") / "received_emails"
    with log.open("wb") as output, started("make", "run", stdout=output) as server:
        _wait(lambda: "listening on" in log.read_text(), server, log, "make run to listen", 1200)
        sent = inside(".venv/bin/smtp-relay", "send", "--to", "you@example.com")
        subprocess.run(sent, stdin=subprocess.DEVNULL, check=True)
        _wait(lambda: bool(list(emails.glob("*.eml"))), server, log, "the mail in received_emails", 60)
        os.killpg(server.pid, signal.SIGINT)
        server.wait(60)
    (mail,) = emails.glob("*.eml")
    if "To: you@example.com" not in mail.read_text():
        raise Fault(f"the mail is another: {mail}")
    if "Traceback" in log.read_text():
        raise Fault(f"make run logged a traceback: {log}")
    say(f"the mail is there: {mail.name}")


def _wait(
    done: Callable[[], bool], server: subprocess.Popen[bytes], log: Path, what: str, seconds: float
) -> None:
    until = time.monotonic() + seconds
    while not done():
        if server.poll() is not None:
            raise Fault(f"make run ended with {server.returncode}: {log}\n{log.read_text()[-2000:]}")
        if time.monotonic() > until:
            raise Fault(f"waited {seconds:.0f} s for {what}: {log}\n{log.read_text()[-2000:]}")
        time.sleep(0.2)


def run_the_tests() -> str:
    """`make test`; returns the counts if no test failed and only permitted ones were skipped."""
    say("make test")
    began = time.monotonic()
    log = STATE / "test.log"
    with log.open("w", buffering=1) as output, started("make", "test", stdout=subprocess.PIPE) as tests:
        assert tests.stdout is not None
        for line in io.TextIOWrapper(tests.stdout, errors="replace"):
            output.write(line)
            print(line, end="", flush=True)
        status = tests.wait()
    return verdict(log.read_text(), status) + f", {time.monotonic() - began:.0f} s: {log}"


def verdict(printed: str, status: int) -> str:
    """pytest's counts. Raises Fault if tests failed, or other than the permitted ones were skipped."""
    summaries = re.findall(r"^=+ (\d.*) in [\d.]+s.*=+$", printed, re.MULTILINE)
    if status or not summaries:
        raise Fault(f"make test ended with {status}: {summaries[-1:] or 'no tests ran'}")
    counts = Counter({word: int(number) for number, word in re.findall(r"(\d+) (\w+)", summaries[-1])})
    if set(counts) - {"passed", "skipped"} or not counts["passed"]:
        raise Fault(f"not only passed: {summaries[-1]}")
    skips = re.findall(r"^SKIPPED \[(\d+)\] \S+ (.*)$", printed, re.MULTILINE)
    told = sum(int(number) for number, _ in skips)
    if told != counts["skipped"]:
        raise Fault(f"{counts['skipped']} skipped, of which {counts['skipped'] - told} give no reason")
    if strange := [why for _, why in skips if not why.removeprefix("Skipped: ").startswith(MAY_SKIP)]:
        raise Fault(f"these may not skip: {strange}")
    return f"{counts['passed']} passed, 0 failed, {told} skipped ({' and '.join(MAY_SKIP)})"


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("fresh: failed: ended by SIGTERM"))
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except (Fault, subprocess.SubprocessError) as error:
        print(f"fresh: failed: {error}", flush=True)
        sys.exit(1)
