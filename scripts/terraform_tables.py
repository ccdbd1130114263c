"""Write the tables of inputs and outputs into the pages of the Terraform modules.

    python scripts/terraform_tables.py [--check]

In each `infra/terraform/CLOUD/README.md` the lines between `<!-- terraform: begin -->` and
`<!-- terraform: end -->` are made from `variables.tf` and `outputs.tf` beside it. With `--check` nothing is
written; exit 1 with a line for each page that is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import hcl2

ROOT: Final = Path(__file__).resolve().parents[1]
PAGES: Final = "infra/terraform/*/README.md"

_MADE: Final = re.compile(r"(?<=<!-- terraform: begin -->\n).*?(?=<!-- terraform: end -->)", re.DOTALL)


def tables(folder: Path) -> str:
    """The tables of the module in a folder, in Markdown."""
    return "\n".join([*_inputs(folder / "variables.tf"), "", *_outputs(folder / "outputs.tf"), ""])


def _inputs(path: Path) -> Iterator[str]:
    yield "input | type | default | meaning\n---|---|---|---"
    for name, body in sorted(_blocks(path, "variable")):
        default = f"`{json.dumps(body['default'])}`" if "default" in body else "required"
        yield f"`{name}` | `{_type(body['type'])}` | {default} | {_text(body['description'])}"


def _outputs(path: Path) -> Iterator[str]:
    yield "output | meaning\n---|---"
    for name, body in sorted(_blocks(path, "output")):
        yield f"`{name}` | {_text(body['description'])}"


def _blocks(path: Path, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for block in hcl2_text(path).get(kind, ()):
        yield from block.items()


def hcl2_text(path: Path) -> dict[str, Any]:
    """One file, its names and strings without quotes."""
    with path.open(encoding="utf-8") as stream:
        content: dict[str, Any] = hcl2.load(stream)
    plain: dict[str, Any] = _bare(content)
    return plain


def _type(value: str) -> str:
    """A type as its file has it; the attributes of an object are in the file."""
    plain = value.removeprefix("${").removesuffix("}")
    return re.sub(r"\(object\(.*\)\)|object\(.*\)", _object, plain, flags=re.DOTALL)


def _object(found: re.Match[str]) -> str:
    return "(object)" if found[0].startswith("(") else "object"


def _bare(value: Any) -> Any:
    if isinstance(value, dict):
        return {name.strip('"'): _bare(one) for name, one in value.items() if name != "__is_block__"}
    if isinstance(value, list):
        return [_bare(one) for one in value]
    return value.strip('"') if isinstance(value, str) else value


def _text(value: str) -> str:
    return value.replace("|", "\\|")


def page(path: Path) -> str:
    """A page as it is to be committed."""
    made = tables(path.parent)
    return _MADE.sub(lambda _: made, path.read_text(encoding="utf-8"))


def main(arguments: list[str]) -> int:
    stale = 0
    for path in sorted(ROOT.glob(PAGES)):
        made, current = page(path), path.read_text(encoding="utf-8")
        if made == current:
            continue
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is out of date: run python scripts/terraform_tables.py")
            stale = 1
        else:
            path.write_text(made, encoding="utf-8")
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
