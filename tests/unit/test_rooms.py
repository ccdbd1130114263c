"""The rooms of the code are as docs/architecture.md, docs/adr/0006-rooms.md and CONTRIBUTING.md say."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from functions.processors.registry import KINDS as OUTPUTS
from listener.filters.registry import KINDS as FILTERS

ROOT: Final = Path(__file__).resolve().parents[2]

HALVES: Final = ("listener", "functions")
PRODUCT: Final = (*HALVES, "infra")

PAGE: Final = "docs/architecture.md"
MACHINE: Final = "listener/smtp/connection/machine.py"

MODULES: Final = 14
MODULE_LINES: Final = 400
CLASS_LINES: Final = 250
ARGUMENTS: Final = 8

STANDING: Final[Mapping[tuple[str, str], str]] = {
    ("class", f"{MACHINE}:Connection"): "docs/adr/0006-rooms.md",
    ("class", "functions/local/service.py:LocalDelivery"): "docs/adr/0006-rooms.md",
    ("class", "functions/local/commits.py:Commits"): "docs/adr/0006-rooms.md",
    ("class", "functions/processors/file/placing.py:TargetFolder"): "docs/adr/0006-rooms.md",
}
"""Rule and place of an exception to the page that explains it."""

FOREIGN: Final[Mapping[str, str]] = {
    "listener/config/yaml.py:CSafeLoader": "PyYAML has it where libyaml was there to build with",
    "listener/filters/respond/memory.py:memfd_create": "Linux has it",
    "listener/logs/setup.py:logAsyncioTasks": "the standard library has it from Python 3.12",
    "listener/mailauth/dns/iprev.py:close": "a resolver is a Protocol of one method; few hold connections",
    "listener/mailauth/spf.py:prob": "pyspf sets it on some of its objects",
    "listener/server/sockets.py:SO_REUSEPORT": "not every system has it",
    "listener/smtp/tls/context.py:reason": "some of ssl's errors have it",
    "listener/smtp/tls/layer.py:reason": "some of ssl's errors have it",
    "functions/aws/handler.py:aws_request_id": "tests and other runtimes give another context",
    "functions/aws/receipts.py:status": "Powertools' record, or None",
    "functions/gcp/clients.py:close": "some of Google's clients have it",
    "functions/gcp/faults.py:headers": "Google's errors carry a response or none",
    "functions/gcp/faults.py:message": "Google's errors have it, the transport's have not",
    "functions/gcp/faults.py:response": "Google's errors carry a response or none",
    "functions/gcp/faults.py:status_code": "Google's errors carry a response or none",
    "functions/local/flusher.py:directory": "what a plugin's processor leaves behind need not be a file",
    "functions/local/layout.py:sqlite_errorcode": "some of SQLite's errors have it",
    "functions/local/repair/rebuild.py:sqlite_errorcode": "some of SQLite's errors have it",
    "functions/local/retention/cleaner.py:sqlite_errorcode": "some of SQLite's errors have it",
    "functions/local/retention/listing.py:CLOCK_BOOTTIME": "Linux has it",
    "functions/local/retention/records.py:owned": "what a plugin leaves behind need not be a file",
    "functions/local/attempts.py:placed": "what a plugin's processor leaves behind need not be a file",
    "listener/filters/sending/credits.py:F_OFD_SETLK": "Linux has it",
    "functions/processors/file/unnamed.py:O_TMPFILE": "Linux has it, other systems do not",
    "functions/options/plugins.py:Options": "the entry point of a plugin may name anything",
    "functions/options/plugins.py:build": "the entry point of a plugin may name anything",
    "functions/options/tls.py:memfd_create": "Linux has it",
    "functions/processors/file/fsync.py:F_FULLFSYNC": "macOS has it",
    "functions/processors/file/fsync.py:fdatasync": "macOS has none",
    "functions/processors/file/placed.py:posix_fadvise": "macOS has none",
    "functions/processors/file/placed.py:syncfs": "not every C library has it",
    "functions/smtp_client/connection.py:reason": "some of ssl's errors have it",
    "functions/smtp_client/tls.py:reason": "some of ssl's errors have it",
}
"""The places that may ask if an attribute exists, and the reason: the object is not the product's."""

TYPES: Final = frozenset({*FILTERS, *OUTPUTS})
"""The names of kinds of filters and outputs in configurations."""

AMBIGUOUS: Final = frozenset({"file", "log", "aws", "gcp"})
"""Words that also name other things: a comparison with a `.type` tells them apart."""

Faults = Iterator[tuple[str, str]]
"""The place of each fault, and its description."""


# -- the rules ------------------------------------------------------------------------------------


def rooms_without_a_row(root: Path) -> Faults:
    for room in set(rooms(root)) - rows(root):
        yield room, f"{PAGE} has no row for this room"


def rows_without_a_folder(root: Path) -> Faults:
    for row in rows(root):
        if not (root / row).is_dir():
            yield row, f"{PAGE} has a row for a folder that does not exist"


def full_rooms(root: Path) -> Faults:
    for room, modules in rooms(root).items():
        if modules > MODULES:
            yield room, f"{modules} modules; a room holds at most {MODULES}"


def talking_packages(root: Path) -> Faults:
    for half in HALVES:
        for path in (root / half).rglob("__init__.py"):
            head, *rest = parsed(path).body or [None]
            if head is None or ast.get_docstring(parsed(path)) is None:
                yield place(root, path), "does not say in a docstring what the room is"
            elif any(not _is_version(statement) for statement in rest):
                yield place(root, path), "holds more than a docstring"


def long_modules(root: Path) -> Faults:
    for path in modules_of(root, PRODUCT):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MODULE_LINES:
            yield place(root, path), f"{lines} lines; a module has at most {MODULE_LINES}"


def long_classes(root: Path) -> Faults:
    for path, found in classes_of(root, PRODUCT):
        lines = (found.end_lineno or found.lineno) - found.lineno + 1
        if lines > CLASS_LINES:
            yield f"{place(root, path)}:{found.name}", f"{lines} lines; a class has at most {CLASS_LINES}"


def wide_constructors(root: Path) -> Faults:
    for path, found in classes_of(root, PRODUCT):
        for method in found.body:
            if isinstance(method, ast.FunctionDef) and method.name == "__init__":
                given = method.args
                count = len([*given.posonlyargs, *given.args, *given.kwonlyargs]) - 1
                if count > ARGUMENTS:
                    where = f"{place(root, path)}:{found.name}"
                    yield where, f"{count} arguments; a constructor has at most {ARGUMENTS}"


def names_given_twice(root: Path) -> Faults:
    for half in HALVES:
        where = defaultdict(list)
        for path, found in classes_of(root, (half,)):
            if not found.name.startswith("_"):
                where[found.name].append(place(root, path))
        for name, places in where.items():
            if len(places) > 1:
                yield f"{half}:{name}", f"is a class in {' and in '.join(sorted(places))}"


def foreign_writes(root: Path) -> Faults:
    folder = root / "listener" / "smtp"
    for path in modules_of(root, ("listener/smtp",)):
        if folder / "tls" in path.parents:
            continue
        for node in ast.walk(parsed(path)):
            target = _written(node)
            if target is not None and not (isinstance(target, ast.Name) and target.id == "self"):
                assert isinstance(node, ast.expr)
                yield place(root, path), f"line {node.lineno} sets an attribute: {ast.unparse(node)}"


def states_elsewhere(root: Path) -> Faults:
    for path in modules_of(root, ("listener/smtp",)):
        for node in ast.walk(parsed(path)):
            sets = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
            if sets and node.attr == "state" and place(root, path) != MACHINE:
                yield place(root, path), f"line {node.lineno} sets a state, which only {MACHINE} does"


def probes(root: Path) -> Faults:
    for path in modules_of(root, PRODUCT):
        for node in ast.walk(parsed(path)):
            match node:
                case (
                    ast.Call(func=ast.Name("getattr"), args=[about, ast.Constant(name), _])
                    | ast.Call(func=ast.Name("hasattr"), args=[about, ast.Constant(name)])
                ):
                    if not (isinstance(about, ast.Name) and about.id == "self"):
                        yield f"{place(root, path)}:{name}", f"line {node.lineno} asks whether it exists"


def comparisons_with_types(root: Path) -> Faults:
    for path in modules_of(root, PRODUCT):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Compare | ast.Set | ast.match_case):
                inner = list(ast.walk(node.pattern if isinstance(node, ast.match_case) else node))
                names = {one.value for one in inner if isinstance(one, ast.Constant)} & TYPES
                asked = any(isinstance(one, ast.Attribute) and one.attr == "type" for one in inner)
                if names if asked else names - AMBIGUOUS:
                    yield place(root, path), f"names kinds outside the registry: {sorted(names)}"


RULES: Final[Mapping[str, Callable[[Path], Faults]]] = {
    "row": rooms_without_a_row,
    "folder": rows_without_a_folder,
    "full": full_rooms,
    "package": talking_packages,
    "module": long_modules,
    "class": long_classes,
    "constructor": wide_constructors,
    "name": names_given_twice,
    "write": foreign_writes,
    "state": states_elsewhere,
    "probe": probes,
    "type": comparisons_with_types,
}


# -- the objects of the rules ---------------------------------------------------------------------


def rooms(root: Path) -> Mapping[str, int]:
    """Every folder of the product that holds modules, and how many."""
    return Counter(place(root, path.parent) for path in modules_of(root, PRODUCT))


def rows(root: Path) -> set[str]:
    """The folders that have a row on the page."""
    found = re.findall(r"^(?:\| )?`([\w/]+)/` \|", (root / PAGE).read_text(encoding="utf-8"), re.MULTILINE)
    return set(found)


def modules_of(root: Path, folders: tuple[str, ...]) -> Iterator[Path]:
    """The modules below these folders, without generated ones; packages' own files do not count."""
    for folder in folders:
        for path in sorted((root / folder).rglob("*.py")):
            parts = path.relative_to(root).parts
            if path.name != "__init__.py" and not any(
                part.startswith(".") or "." in part for part in parts[:-1]
            ):
                yield path


def classes_of(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[Path, ast.ClassDef]]:
    """Every class below these folders, nested ones too."""
    for path in modules_of(root, folders):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ClassDef):
                yield path, node


def parsed(path: Path) -> ast.Module:
    return _parsed(path.read_text(encoding="utf-8"))


@cache
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def place(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


def _is_version(statement: ast.stmt | None) -> bool:
    return isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__version__"


def _written(node: ast.AST) -> ast.expr | None:
    """The object whose attribute, or item of an attribute, this sets or deletes."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
        return node.value
    if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
        return node.value.value if isinstance(node.value, ast.Attribute) else None
    if isinstance(node, ast.Call) and node.args:
        called = node.func
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        return node.args[0] if name.strip("_") in ("setattr", "delattr") else None
    return None


EXCUSED: Final = {*STANDING, *(("probe", where) for where in FOREIGN)}


# -- the tests ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES)
def test_the_code_keeps_the_rule(rule: str) -> None:
    excused = {where for name, where in EXCUSED if name == rule}
    assert [f"{where}: {text}" for where, text in RULES[rule](ROOT) if where not in excused] == []


@pytest.mark.parametrize(("rule", "where"), sorted(EXCUSED))
def test_each_exception_is_still_needed(rule: str, where: str) -> None:
    assert where in dict(RULES[rule](ROOT)), "this holds now: take the exception out of the table"


@pytest.mark.parametrize(("exception", "page"), STANDING.items())
def test_each_standing_exception_is_explained(exception: tuple[str, str], page: str) -> None:
    module, _, name = exception[1].rpartition(":")
    text = (ROOT / page).read_text(encoding="utf-8")
    assert Path(module).name in text
    assert f"`{name}`" in text


def test_the_page_shows_the_layers_that_import_linter_checks() -> None:
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = ["\n".join(each["layers"]) for each in linter["contracts"] if each["type"] == "layers"]
    shown = re.findall(
        r"^```text\n(.*?)\n```$", (ROOT / PAGE).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert shown == layers
    assert len(layers) == len(HALVES)


BROKEN: Final[Mapping[str, tuple[Mapping[str, str], str]]] = {
    "row": ({"listener/new/one.py": ""}, "listener/new"),
    "folder": ({PAGE: "| `listener/gone/` | x |\n"}, "listener/gone"),
    "full": ({f"infra/cdk/m{n}.py": "" for n in range(15)}, "infra/cdk"),
    "module": ({"functions/local/long.py": "\n" * 401}, "functions/local/long.py"),
    "class": (
        {"functions/a.py": "class A:\n" + "    x = 1\n" * 250},
        "functions/a.py:A",
    ),
    "constructor": (
        {"infra/a.py": "class A:\n    def __init__(self, a, b, c, d, /, e, f, *, g, h, i): ...\n"},
        "infra/a.py:A",
    ),
    "name": (
        {"listener/a.py": "class A: ...\n", "listener/b/c.py": "class B:\n    class A: ...\n"},
        "listener:A",
    ),
    "state": ({"listener/smtp/tls/a.py": "self.state = 1\n"}, "listener/smtp/tls/a.py"),
    "probe": (
        {
            "infra/a.py": "getattr(self, 'x', 0), getattr(o, name, 0), hasattr(self, 'x')\n"
            "hasattr(o, name), getattr(o, 'x'), getattr(o.p, 'ses', None)\n"
        },
        "infra/a.py:ses",
    ),
    "type": ({"functions/a.py": "x = one.type == 'file'\ny = where == 'file'\n"}, "functions/a.py"),
}
"""Rule to files that break it, and the place of the fault."""

COMPARISONS: Final = (
    "type_of(one) == 'whitelist'",
    "kind != 'mailer'",
    "kind in {'static-auth', 'http-auth'}",
    "LOCAL = frozenset({'log', 'nodemailer'})",
    "one.type in ('aws', 'file')",
    "match kind:\n    case 'mail-auth': ...",
)

WRITES: Final = (
    "host.x = 1",
    "self.host.x = 1",
    "host.x += 1",
    "host.x: int = 1",
    "del host.x",
    "host.x[0] = 1",
    "a, (b, host.x) = 1, (2, 3)",
    "for host.x in (): ...",
    "with a as host.x: ...",
    "setattr(host, 'x', 1)",
    "object.__setattr__(host, 'x', 1)",
)


class TestTheRulesThemselves:
    """A tree that breaks a rule is found out."""

    @pytest.mark.parametrize("rule", BROKEN)
    def test_a_broken_rule_is_found(self, tmp_path: Path, rule: str) -> None:
        files, where = BROKEN[rule]
        assert [found for found, _ in RULES[rule](tree(tmp_path, files))] == [where]

    @pytest.mark.parametrize("text", COMPARISONS)
    def test_a_comparison_with_the_name_of_a_kind_is_found(self, tmp_path: Path, text: str) -> None:
        root = tree(tmp_path, {"listener/checks/a.py": text})
        assert [where for where, _ in comparisons_with_types(root)][:1] == ["listener/checks/a.py"]

    @pytest.mark.parametrize("text", WRITES)
    def test_a_write_to_another_object_is_found(self, tmp_path: Path, text: str) -> None:
        root = tree(tmp_path, {"listener/smtp/connection/a.py": text})
        assert [where for where, _ in foreign_writes(root)] == ["listener/smtp/connection/a.py"]

    @pytest.mark.parametrize(
        "text", ["self.x = 1", "self.x[0] = 1", "x = host.x", "x[0] = host.x", "self.x.clear()"]
    )
    def test_a_write_to_the_object_itself_is_none(self, tmp_path: Path, text: str) -> None:
        assert list(foreign_writes(tree(tmp_path, {"listener/smtp/a.py": text}))) == []

    @pytest.mark.parametrize(
        "text", ["", "x = 1\n", '"""Says it."""\nx = 1\n', '"""Says it."""\nimport os\n']
    )
    def test_a_package_that_holds_code_or_says_nothing_is_found(self, tmp_path: Path, text: str) -> None:
        root = tree(tmp_path, {"functions/a/__init__.py": text})
        assert [where for where, _ in talking_packages(root)] == ["functions/a/__init__.py"]

    def test_a_tree_that_keeps_the_rules_has_no_fault(self, tmp_path: Path) -> None:
        root = tree(
            tmp_path,
            {
                PAGE: "| `listener/smtp/connection/` | x |\n",
                "listener/smtp/connection/__init__.py": '"""One connection."""\n',
                MACHINE: "class A:\n    def __init__(self) -> None:\n        self.state = 1\n",
                "functions/__init__.py": '"""The other half."""\n\n__version__ = "1"\n',
            },
        )
        assert [list(rule(root)) for rule in RULES.values()] == [[] for _ in RULES]


def tree(folder: Path, files: Mapping[str, str]) -> Path:
    """A repository that holds these files, and an empty page where they bring none."""
    for name, text in {PAGE: "", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder
