"""Cuts botocore down to the services, operations and shapes that the function calls.

botocore has 400 services. Reading one full model takes as long as importing botocore, mostly for
documentation and unused operations.
"""

from __future__ import annotations

import gzip
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "s3": frozenset(
        {
            "DeleteObject",
            "GetBucketNotificationConfiguration",
            "GetObject",
            "HeadBucket",
            "HeadObject",
            "ListObjectsV2",
            "PutObject",
        }
    ),
    "sqs": frozenset({"ChangeMessageVisibilityBatch", "GetQueueUrl", "SendMessage", "SendMessageBatch"}),
    "sns": frozenset({"Publish"}),
    "events": frozenset({"PutEvents"}),
    "sesv2": frozenset({"GetAccount", "SendEmail"}),
    "dynamodb": frozenset({"DeleteItem", "GetItem", "PutItem", "UpdateItem"}),
    "sts": frozenset({"AssumeRole"}),
    "ssm": frozenset({"GetParameter"}),
    "secretsmanager": frozenset({"GetSecretValue"}),
}
"""Everything that functions.aws and Powertools call, by service."""

_PREFIXES: Final = {"sesv2": "email"}
"""Services whose endpoints have another name."""

_FILES: Final = frozenset({"endpoint-rule-set-1.json.gz", "paginators-1.json"})


def trim(botocore: Path, services: frozenset[str]) -> None:
    """Keep the models of these services, and in them what OPERATIONS names."""
    data = botocore / "data"
    for entry in sorted(data.iterdir()):
        if entry.is_dir():
            if entry.name not in services:
                shutil.rmtree(entry)
            else:
                _trim_service(entry, OPERATIONS[entry.name])
    _trim_endpoints(data / "endpoints.json", services)
    _trim_docs(botocore / "docs")


_BOTO3: Final = '''"""The parts of boto3 that Powertools needs: its version and the reader of DynamoDB values.

The function uses neither the rest of it nor the transfer manager that it imports.
"""

__version__ = "{version}"
'''


def trim_boto3(boto3: Path, version: str) -> None:
    """Keep what Powertools' idempotency imports."""
    types = (
        (boto3 / "dynamodb" / "types.py")
        .read_text()
        .replace("from boto3.compat import collections_abc", "import collections.abc as collections_abc")
    )
    shutil.rmtree(boto3)
    (boto3 / "dynamodb").mkdir(parents=True)
    (boto3 / "__init__.py").write_text(_BOTO3.format(version=version))
    (boto3 / "dynamodb" / "__init__.py").write_text("")
    (boto3 / "dynamodb" / "types.py").write_text(types)


_NO_PLUGINS: Final = '''"""No plugins are here, and looking for them costs more than a model."""


def get_plugins():
    return ()
'''

_PLAIN_TYPED_DICT: Final = """

class _Plain(type):
    # The real one compiles every annotation of a hundred forms, which only type checkers look at.
    __call__ = dict

    def __new__(cls, name, bases, namespace, **options):
        return type.__new__(cls, name, (dict,), namespace)

    def __init__(cls, name, bases, namespace, **options):
        pass


TypedDict = type.__new__(_Plain, "TypedDict", (dict,), {})

"""


def trim_pydantic(target: Path) -> None:
    """Remove the search for pydantic's plugins, which imports half of the packaging library, and the
    types of its core's schemas."""
    loader = target / "pydantic" / "plugin" / "_loader.py"
    if _holds(loader, "def get_plugins("):
        loader.write_text(_NO_PLUGINS)
    after = "    from typing import TypedDict\n"
    _replace(target / "pydantic_core" / "core_schema.py", {after: after + _PLAIN_TYPED_DICT})


_ONE_EVENT: Final = """from aws_lambda_powertools.utilities.data_classes.s3_event import S3Event

__all__ = ["S3Event"]
"""

_LATE_ASYNCIO: Final = """

class _Late:
    def __getattr__(self, name):
        import asyncio

        return getattr(asyncio, name)


asyncio = _Late()
"""


def trim_powertools(powertools: Path) -> None:
    """Batch reads messages of queues; the package of event classes has forty other kinds. The function
    does not process batches asynchronously."""
    package = powertools / "utilities" / "data_classes" / "__init__.py"
    if _holds(package, "import S3Event"):
        package.write_text(_ONE_EVENT)
    _replace(powertools / "utilities" / "batch" / "base.py", {"\nimport asyncio\n": _LATE_ASYNCIO})


def trim_urllib3(urllib3: Path) -> None:
    """Import the reader of other packages' versions only for HTTP/2, which the function does not use."""
    line, use = "from importlib.metadata import version\n", "    h2_version = version("
    _replace(urllib3 / "http2" / "__init__.py", {f"\n{line}": "", use: f"    {line}{use}"})


_NO_DOCSTRINGS: Final = '''"""Clients' methods have no documentation here: the models' is left out."""


class LazyLoadedDocstring(str):
    def __new__(cls, *arguments, **options):
        return super().__new__(cls)

    def __init__(self, *arguments, **options):
        super().__init__()


class ClientMethodDocstring(LazyLoadedDocstring):
    pass


class WaiterDocstring(LazyLoadedDocstring):
    pass


class PaginatorDocstring(LazyLoadedDocstring):
    pass
'''

_DOCSTRINGS: Final = frozenset(
    {"LazyLoadedDocstring", "ClientMethodDocstring", "WaiterDocstring", "PaginatorDocstring"}
)


def _trim_docs(docs: Path) -> None:
    """Remove the generator of documentation, except the markers that handlers use."""
    text = (docs / "docstring.py").read_text()
    if set(re.findall(r"^class (\w+)", text, re.MULTILINE)) != _DOCSTRINGS:
        return
    for entry in list(docs.iterdir()):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != "utils.py":
            entry.unlink()
    (docs / "__init__.py").write_text("")
    (docs / "docstring.py").write_text(_NO_DOCSTRINGS)


def _holds(file: Path, text: str) -> bool:
    """True if a file exists and holds a text. A file without it stays whole, which costs a few
    milliseconds."""
    return file.exists() and text in file.read_text()


def _replace(file: Path, changes: Mapping[str, str]) -> None:
    if all(_holds(file, text) for text in changes):
        whole = file.read_text()
        for text, instead in changes.items():
            whole = whole.replace(text, instead)
        file.write_text(whole)


def _trim_endpoints(file: Path, services: frozenset[str]) -> None:
    """Remove the endpoints of other services, because each start reads the file."""
    known = json.loads(file.read_text())
    prefixes = services | {_PREFIXES[name] for name in services if name in _PREFIXES}
    for partition in known["partitions"]:
        partition["services"] = {
            name: value for name, value in partition["services"].items() if name in prefixes
        }
    file.write_text(json.dumps(known, separators=(",", ":"), sort_keys=True))


def _trim_service(folder: Path, operations: frozenset[str]) -> None:
    versions = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    for old in versions[:-1]:
        shutil.rmtree(old)
    newest = versions[-1]
    model = _read(newest / "service-2.json.gz")
    slim = _slim(model, operations)
    for file in list(newest.iterdir()):
        if file.name not in _FILES:
            file.unlink()
    (newest / "service-2.json").write_text(json.dumps(slim, separators=(",", ":"), sort_keys=True))
    rules = newest / "endpoint-rule-set-1.json.gz"
    if rules.exists():
        # The zip compresses it already.
        (newest / "endpoint-rule-set-1.json").write_text(json.dumps(_read(rules), separators=(",", ":")))
        rules.unlink()
    paginators = newest / "paginators-1.json"
    if paginators.exists():
        pages = json.loads(paginators.read_text())["pagination"]
        kept = {name: value for name, value in pages.items() if name in operations}
        paginators.write_text(json.dumps({"pagination": kept}, sort_keys=True))


def _slim(model: dict[str, Any], operations: frozenset[str]) -> dict[str, Any]:
    missing = operations - set(model["operations"])
    if missing:
        raise ValueError(f"botocore has no operation {', '.join(sorted(missing))}")
    kept = {name: model["operations"][name] for name in operations}
    shapes: dict[str, Any] = {}
    todo = [name for operation in kept.values() for name in _references(operation)]
    while todo:
        name = todo.pop()
        if name not in shapes:
            shapes[name] = model["shapes"][name]
            todo += _references(shapes[name])
    slim = {name: value for name, value in model.items() if name not in ("operations", "shapes")}
    return _undocumented({**slim, "operations": kept, "shapes": shapes})


def _references(value: Any) -> list[str]:
    """The shapes that a part of a model names."""
    if isinstance(value, dict):
        own = [value["shape"]] if isinstance(value.get("shape"), str) else []
        return own + [name for item in value.values() for name in _references(item)]
    if isinstance(value, list):
        return [name for item in value for name in _references(item)]
    return []


def _undocumented(value: Any, *, members: bool = False) -> Any:
    """The model with empty documentation texts, which botocore expects; a member of that name stays."""
    if isinstance(value, dict):
        return {
            name: ""
            if name == "documentation" and not members
            else _undocumented(item, members=name == "members")
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_undocumented(item) for item in value]
    return value


def _read(file: Path) -> dict[str, Any]:
    with gzip.open(file) as stream:
        found: dict[str, Any] = json.load(stream)
    return found
