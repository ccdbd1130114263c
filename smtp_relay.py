"""The command `smtp-relay`, also as `python -m smtp_relay`.

The packages `listener` and `functions` have names that other projects use too. With `PYTHONPATH=.`, for
example, Python would find those of the project in the working folder. So this module, whose name is the
distribution's, imports both from the folder that holds it.
"""

from __future__ import annotations

import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from os.path import abspath, dirname  # pathlib takes ten times as long to import

_PACKAGES = ("functions", "listener")


def main() -> int:
    """Run the command line. Returns the exit status."""
    _import_packages(dirname(abspath(__file__)))  # noqa: PTH100, PTH120 - see the import
    from listener.cli.main import main as run

    return run()


def _import_packages(folder: str) -> None:
    """Later imports of modules in the two packages start from these."""
    for name in _PACKAGES:
        spec = PathFinder.find_spec(name, [folder])
        if spec is None or spec.loader is None:
            raise ModuleNotFoundError(f"{folder} has no package {name}: install smtp-relay again", name=name)
        sys.modules[name] = module = module_from_spec(spec)
        spec.loader.exec_module(module)


if __name__ == "__main__":
    raise SystemExit(main())
