"""npm's client of Mailpit in a process of its own, which does one call at a time."""

from __future__ import annotations

import json
import subprocess
from typing import Any, Final, Self

import pytest

from tests.support.programs import NODE_MODULES, PATH, program

_PROGRAM: Final = """
const { MailpitClient } = require("mailpit-api");
const client = new MailpitClient(process.argv[1]);
const lines = require("readline").createInterface({ input: process.stdin });
const plain = async (value) => value instanceof Blob
  ? { type: value.type, base64: Buffer.from(await value.arrayBuffer()).toString("base64") } : value;
(async () => {
  for await (const line of lines) {
    const [name, values] = JSON.parse(line);
    let found;
    try {
      found = { value: (await plain(await client[name](...values))) ?? null };
    } catch (error) {
      found = { error: error.message };
    }
    process.stdout.write(JSON.stringify(found) + "\\n");
  }
})();
"""


class RefusedError(Exception):
    """The client's error."""


class NodeClient:
    """`mailpit-api` on a server. Skips the test where it is not installed."""

    def __init__(self, address: str) -> None:
        if not (NODE_MODULES / "mailpit-api").exists():
            pytest.skip("npm's mailpit-api is missing (`make test` installs it)")
        self._process = subprocess.Popen(
            [program("node", "nodejs"), "-e", _PROGRAM, address],
            env={"NODE_PATH": str(NODE_MODULES), "PATH": PATH},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def call(self, name: str, *values: Any) -> Any:
        """What a method returns; of a Blob its type and its bytes in Base64. Raises RefusedError."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([name, values]) + "\n")
        found = json.loads(self._process.stdout.readline())
        if "error" in found:
            raise RefusedError(found["error"])
        return found["value"]
