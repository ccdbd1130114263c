"""How long the Cloud Run function takes from nothing to its first mail, beside importing its SDKs.

    python -m bench.cold_start_gcp CONFIG [--runs 7] [--python PYTHON]

Each run is a process of its own on the unpacked source zip. `sdks` imports functions-framework,
google-cloud-storage and google-cloud-pubsub whole and makes a client of each. `function` imports
the modules that Google's entry point imports, and handles one foreign event. The byte-code is
compiled, as Google builds it. The result is the ratio of the medians.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import statistics
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from infra.bundle.gcp import source

_SDKS: Final = """
import functions_framework
from google.auth.credentials import AnonymousCredentials
from google.cloud import pubsub_v1, storage
storage.Client(project="p", credentials=AnonymousCredentials())
pubsub_v1.PublisherClient(credentials=AnonymousCredentials())
"""

_FUNCTION: Final = """
import logging
import main
class Request:
    headers = {}
    method = "POST"
    def get_json(self, **options):
        return {"message": {"attributes": {}}}
assert main.handle(Request()) == ("", 204)
"""

_TIMED: Final = "import time; started = time.perf_counter()\n{}\nprint(time.perf_counter() - started)"


def measure(config: Path, runs: int, python: str) -> dict[str, float]:
    """Medians in milliseconds, and their ratio. Raises CalledProcessError."""
    with tempfile.TemporaryDirectory(prefix="cold-") as folder:
        code = Path(folder) / "code"
        with zipfile.ZipFile(source(config, Path(folder) / "function.zip")) as archive:
            archive.extractall(code)
        compileall.compile_dir(code, quiet=1)
        found: dict[str, list[float]] = {"sdks": [], "function": []}
        for _ in range(runs + 1):
            # The two alternate, so a busy machine slows both.
            for name, program in (("sdks", _SDKS), ("function", _FUNCTION)):
                found[name].append(_run(program, code, python))
    medians = {name: statistics.median(times[1:]) * 1000 for name, times in found.items()}
    return {**medians, "ratio": medians["function"] / medians["sdks"]}


def _run(program: str, code: Path, python: str) -> float:
    done = subprocess.run(
        [python, "-c", _TIMED.format(program)],
        cwd=code,
        env={
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": str(code),
            "SMTP_RELAY_SPOOL": "gs://spool",
            "SMTP_RELAY_TOPIC": "projects/p/topics/t",
            "PYDANTIC_DISABLE_PLUGINS": "__all__",
            # Neither sends a request, because clients connect at their first call.
            "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9",
            "PUBSUB_EMULATOR_HOST": "127.0.0.1:9",
        },
        capture_output=True,
        check=True,
        text=True,
        timeout=120,
    )
    return float(done.stdout.splitlines()[-1])


def main() -> int:
    """The command line; prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.cold_start_gcp")
    parser.add_argument("config", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with the requirements")
    arguments = parser.parse_args()
    found = measure(arguments.config, arguments.runs, arguments.python)
    print(json.dumps({name: round(value, 3) for name, value in found.items()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
