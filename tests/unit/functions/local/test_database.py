"""The spool's database beside other processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.local.database import Database
from functions.local.layout import Part

LOOK = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("SELECT count(*) FROM mail")
db.close()
"""


@pytest.fixture
def part(tmp_path: Path) -> Part:
    made = Part(tmp_path / "part-0")
    made.create()
    return made


@pytest.fixture(params=[True, False])
def store(part: Part, request: pytest.FixtureRequest) -> Iterator[Database]:
    made = Database(part, durable=request.param)
    yield made
    made.close()


def test_another_process_that_looks_leaves_the_log_in_place(part: Part, store: Database) -> None:
    """SQLite's last user removes the log when it closes, so a reader must not be the last one."""
    log = Path(f"{part.database}-wal")
    before = log.stat().st_ino
    store.commit(lambda db: db.execute("INSERT INTO settled VALUES (1, 'key', 'done')"))
    subprocess.run([sys.executable, "-c", LOOK, part.database], check=True)
    assert log.stat().st_ino == before
    store.commit(lambda db: db.execute("INSERT INTO settled VALUES (2, 'key', 'done')"))
    assert log.stat().st_ino == before
