"""Check the documentation: links resolve, configurations load, commands run.

    python scripts/docs_check.py [PAGE…]     all pages, or these; exit 1 with a line for each fault

A code block is judged by its language. `json`, `jsonc` and `yaml`: must parse, and a whole
configuration (it has `flows`) must pass `smtp-relay check --offline`. `python`: must compile. `sh`: bash
runs it, line by line as a reader would paste it, in a folder of its own that holds `configs/`; all blocks
of a page share it, and what they export. Blocks without a language are neither, so they must not begin
like a command.

An HTML comment on the line before a block changes its treatment (without blanks around it, too):

    <!-- docs-check: skip: REASON -->    not run (or not checked): what is missing here
    <!-- docs-check: server [PAGE] -->   runs until the page's next server, or its end; with the files of PAGE
    <!-- docs-check: fails -->           ends with another status than 0, as the text says
    <!-- docs-check: file NAME -->       also written to NAME, for the commands that follow
    <!-- docs-check: until TEXT -->      runs until it prints TEXT, and is ended then
    <!-- docs-check: stand-in NAME -->   with a stand-in of the cloud `aws` or `gcp`, which is started here
    <!-- docs-check: needs NAME… -->     run if these programs (or nodemailer) are installed

Port 10025 of the page, and those of stand-ins, are free ports here. Where the programs of a stand-in
are not installed, the page's blocks from there on are not run.
"""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/**/*.md")

_BIN: Final = str(Path(sys.executable).parent)
"""The folder whose `python` has the project's packages."""

SECONDS: Final = 120
"""Time limit for the commands of one block."""

_FENCE: Final = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[\w+-]*)[^`]*$")
_MARK: Final = re.compile(
    r"<!-- ?docs-check: ?(?P<word>skip|server|fails|file|until|stand-in|needs)(?::? (?P<rest>.+?))? ?-->"
)
_LINK: Final = re.compile(r"(?<!\\)!?\[(?:[^\[\]]|\[[^\]]*\])*\]\((?P<target>[^()\s]+(?:\([^)]*\))?)\)")
_HEADING: Final = re.compile(r"^#{1,6} +(?P<text>.+?)(?: +#+)?$")
_CODE: Final = re.compile(r"(`+).+?\1")
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_COMMAND: Final = re.compile(
    r"(?:\$ )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?"
    r"(?:smtp-relay|make|pip|pipx|uvx|gh|docker|kubectl|curl|swaks|openssl|node|npx|python3?|cdk|terraform|git|aws"
    r"|gcloud)(?: |$)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """One code block: `line` is that of its first line; `mark` and `rest` come from its comment."""

    line: int
    language: str
    text: str
    mark: str = ""
    rest: str = ""


@dataclass(frozen=True)
class Page:
    """One page, cut into the pieces to check."""

    path: Path
    blocks: tuple[Block, ...]
    links: tuple[tuple[int, str], ...]
    anchors: frozenset[str]

    @property
    def name(self) -> str:
        """Its path from the repository's root."""
        return str(self.path.relative_to(ROOT))


def read(path: Path) -> Page:
    """Cut a page into pieces."""
    blocks: list[Block] = []
    links: list[tuple[int, str]] = []
    anchors: dict[str, int] = {}
    fence: re.Match[str] | None = None
    began, inside, comment = 0, [""], None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        found = _FENCE.match(line)
        if fence is not None:
            if line.strip() == fence["fence"]:
                mark, rest = (comment["word"], comment["rest"] or "") if comment else ("", "")
                text = "\n".join(one.removeprefix(fence["indent"]) for one in inside)
                blocks.append(Block(began, fence["language"], text + "\n", mark, rest))
                fence = comment = None
            else:
                inside.append(line)
            continue
        if found:
            fence, began, inside = found, number + 1, []
            continue
        comment = _MARK.search(line) or (comment if not line.strip() else None)
        if heading := _HEADING.match(line):
            slug = _slug(heading["text"])
            seen = anchors.setdefault(slug, 0)
            anchors[slug] += 1
            if seen:
                anchors[f"{slug}-{seen}"] = 1
        links += [(number, one["target"]) for one in _LINK.finditer(_CODE.sub("", line))]
    return Page(path, tuple(blocks), tuple(links), frozenset(anchors))


def _slug(heading: str) -> str:
    """A heading's anchor, as GitHub makes it."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", text.lower().strip()).replace(" ", "-")


def link_faults(page: Page) -> Iterator[str]:
    """Links to missing files and anchors. Addresses on other hosts are not checked."""
    for number, target in page.links:
        if _ELSEWHERE.match(target):
            continue
        file, _, anchor = unquote(target).partition("#")
        path = (page.path.parent / file).resolve() if file else page.path
        if not path.exists():
            yield f"{page.name}:{number}: {target}: there is no such file"
        elif anchor and path.suffix == ".md" and anchor not in read(path).anchors:
            yield f"{page.name}:{number}: {target}: there is no such heading"


def block_faults(page: Page) -> Iterator[str]:
    """The faults in the code blocks of a page; runs its commands."""
    with tempfile.TemporaryDirectory(prefix="docs-") as folder, Sandbox(Path(folder)) as sandbox:
        for block in page.blocks:
            where = f"{page.name}:{block.line}"
            if block.mark == "skip":
                if not block.rest:
                    yield f"{where}: skipped without a reason"
                continue
            if sandbox.lacking or (block.mark == "needs" and not sandbox.has(block.rest.split())):
                continue
            if block.mark == "file":
                sandbox.write(block.rest, block.text)
            if block.mark == "server" and block.rest:
                sandbox.take(read(page.path.parent / block.rest))
            if block.mark == "stand-in" and not sandbox.stand_in(block.rest):
                continue
            for fault in _judged(block, sandbox):
                yield f"{where}: {fault}"


def _judged(block: Block, sandbox: Sandbox) -> Iterator[str]:
    if block.language in ("json", "jsonc", "yaml"):
        yield from sandbox.configuration(block)
    elif block.language == "python":
        try:
            compile(block.text, "block", "exec", flags=ast.PyCF_ONLY_AST)
        except SyntaxError as error:
            yield f"cannot be compiled: {error}"
    elif block.language == "sh":
        run = {"server": sandbox.server, "until": sandbox.until}.get(block.mark, sandbox.commands)
        yield from run(block)
    elif not block.language and _COMMAND.match(block.text):
        yield "looks like a command: give the block the language sh"


class Sandbox:
    """A folder in which the commands of one page run, with `smtp-relay` on its PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self.lacking = False
        """True once a stand-in could not be started."""
        self._ports = {"10025": str(self.port), "8080": str(_free_port()), "8025": str(_free_port())}
        self._server: subprocess.Popen[bytes] | None = None
        self._stand_ins: list[Any] = []
        self._environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SMTP_")},
            "PATH": os.pathsep.join([str(folder / ".bin"), _BIN, os.environ.get("PATH", ""), "/usr/sbin"]),
            "PYTHONPATH": str(ROOT),
            "DOCS_PORT": str(self.port),
            "NODE_PATH": str(ROOT / ".state" / "node" / "node_modules"),
        }

    def __enter__(self) -> Sandbox:
        shutil.copytree(ROOT / "configs", self.folder / "configs")
        for config in (self.folder / "configs").glob("*.jsonc"):
            text = config.read_text()
            if '"port": 8025' in text:
                config.write_text(text.replace('"port": 8025', f'"port": {self._ports["8025"]}'))
        shutil.copy(ROOT / "config.schema.json", self.folder)
        program = self.folder / ".bin" / "smtp-relay"
        program.parent.mkdir()
        program.write_text(_PROGRAM.format(python=sys.executable))
        program.chmod(0o755)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        for each in reversed(self._stand_ins):
            each.stop()

    def write(self, name: str, text: str) -> None:
        """Put a file into the folder."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._with_ports(text), encoding="utf-8")

    def take(self, page: Page) -> None:
        """Write the files of another page."""
        for block in page.blocks:
            if block.mark == "file":
                self.write(block.rest, block.text)

    def has(self, names: Iterable[str]) -> bool:
        """True if all these programs and packages of Node are installed."""
        packages = Path(self._environ["NODE_PATH"])
        return all(shutil.which(name) or (packages / name).is_dir() for name in names)

    def stand_in(self, name: str) -> bool:
        """Start a stand-in of a cloud, and note its ports. False if its programs are not installed."""
        import pytest

        from tests.support.clouds import gcp, ministack

        try:
            if name == "aws":
                aws = ministack.Ministack(self.folder / ".aws")
                self._stand_ins.append(aws.start())
                self._ports["4566"] = str(aws.port)
            else:
                topics = gcp.Pubsub(self.folder)
                self._stand_ins.append(topics.start())
                store = gcp.FakeGcs(self.folder, [], None, "", "")
                self._stand_ins.append(store.start())
                self._ports |= {"8085": str(topics.port), "4443": str(store.port)}
        except pytest.skip.Exception as reason:
            print(f"not run: {reason}", file=sys.stderr)
            self.lacking = True
        return not self.lacking

    def configuration(self, block: Block) -> Iterator[str]:
        """Check that JSON or YAML can be read, and that a whole configuration passes `check`."""
        try:
            value = _parsed(block)
        except ValueError as error:
            yield f"cannot be read: {error}"
            return
        if not isinstance(value, dict) or "flows" not in value:
            return
        name = f"block.{'yaml' if block.language == 'yaml' else 'jsonc'}"
        self.write(name, block.text)
        done = self._bash(f"smtp-relay check --offline {name}")
        if (done.returncode != 0) is not (block.mark == "fails"):
            yield f"check: {done.returncode}: {done.stdout}{done.stderr}".strip()

    def commands(self, block: Block) -> Iterator[str]:
        """Run the lines in one shell, which stops at the first that fails."""
        done = self._bash(self._text(block))
        if (done.returncode != 0) is not (block.mark == "fails"):
            yield f"ended with {done.returncode}:\n{done.stdout}{done.stderr}".strip()

    def server(self, block: Block) -> Iterator[str]:
        """Start a server, and wait until it serves; the page's previous server ends."""
        self._stop()
        started = self._start(f"exec {self._text(block)}", self.folder / ".served")
        self._server = started
        deadline = time.monotonic() + 30
        while started.poll() is None and time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        yield f"does not serve:\n{(self.folder / '.served').read_text(errors='replace')}"

    def until(self, block: Block) -> Iterator[str]:
        """Run commands until they have printed the text of the mark, then end them."""
        output = self.folder / ".until"
        process = self._start(f"{self._text(block)}\nwait", output)
        try:
            deadline = time.monotonic() + SECONDS
            while time.monotonic() < deadline:
                ended = process.poll() is not None
                if block.rest in output.read_text(errors="replace"):
                    return
                if ended:
                    break
                time.sleep(0.05)
            yield f"does not print {block.rest!r}:\n{output.read_text(errors='replace')}"
        finally:
            _end(process)

    def _start(self, text: str, output: Path) -> subprocess.Popen[bytes]:
        with output.open("wb") as file:
            return subprocess.Popen(
                ["bash", "-ec", text],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _stop(self) -> None:
        if self._server is not None:
            _end(self._server)

    def _text(self, block: Block) -> str:
        lines = (line.removeprefix("$ ") for line in block.text.strip().splitlines())
        return self._with_ports("\n".join(lines))

    def _with_ports(self, text: str) -> str:
        for number, port in self._ports.items():
            text = re.sub(rf"\b{number}\b", port, text)
        return text

    def _bash(self, text: str) -> subprocess.CompletedProcess[str]:
        exported = self.folder / ".exported"
        try:
            done = subprocess.run(
                ["bash", "-ec", f"{text}\nenv -0 > .exported"],
                cwd=self.folder,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(text, 124, "", f"not done after {SECONDS} s")
        if exported.exists():
            lines = exported.read_text().rstrip("\0").split("\0")
            self._environ |= dict(
                line.split("=", 1) for line in lines if not line.startswith(("_=", "SHLVL="))
            )
            exported.unlink()
        return done


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with its children."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


_PROGRAM: Final = """\
#!{python}
import json, os, sys
from listener.cli.main import main

command, port = (sys.argv[1:] or ["serve"])[0], os.environ["DOCS_PORT"]
if command == "send" and "--server" not in sys.argv:
    sys.argv[2:2] = ["--server", "localhost:" + port]
flags = command.startswith("-") and "--port" not in sys.argv
if command == "serve" or flags or command.endswith(("json", "jsonc", "yaml")):
    os.environ["SMTP_RELAY_LISTENERS"] = json.dumps([{{"port": int(port)}}])
sys.exit(main())
"""
"""`smtp-relay` as it is installed, except for the port."""


def _parsed(block: Block) -> Any:
    """A block's value. Parts of an object may stand without its braces. Raises ValueError."""
    if block.language == "yaml":
        import yaml

        try:
            return next(iter(yaml.safe_load_all(block.text)), None)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    from functions.options.jsonc import parse

    text = block.text.strip()
    return parse(text if text.startswith(("{", "[")) else "{" + text + "\n}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def pages(names: Iterable[str] = ()) -> list[Path]:
    """The pages of these names, or all."""
    chosen = [(ROOT / name).resolve() for name in names]
    return chosen or sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})


def faults(path: Path) -> list[str]:
    """All faults of a page."""
    page = read(path)
    return [*link_faults(page), *block_faults(page)]


def main(names: list[str]) -> int:
    found = [fault for path in pages(names) for fault in faults(path)]
    print("\n".join(found) if found else "the documentation holds")
    return 1 if found else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main(sys.argv[1:]))
