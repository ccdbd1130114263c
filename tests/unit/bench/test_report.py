"""The page of results: its tables, its facts and its parts."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench import report
from bench.latency import Latency
from bench.measure import Sample
from bench.servers import ROOT


def sample(
    server: str,
    *,
    rate: float,
    cpu: float,
    fsync: bool = False,
    alone: Latency | None = None,
    loaded: Latency | None = None,
) -> Sample:
    return Sample(server, "ii", fsync, 1_000, 1_000 / rate, cpu, 50_000_000, alone, loaded)


def cells(table: str) -> list[list[str]]:
    """The rows of all tables, the head first."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("| ")
    ]


def test_each_server_is_divided_by_stock_and_by_go() -> None:
    found = cells(
        report.table(
            [
                sample("relay", rate=400, cpu=0.5),
                sample("stock", rate=100, cpu=2),
                sample("go-smtp", rate=800, cpu=0.25),
            ]
        )
    )
    assert found[0][2:8] == ["mails/s", "× stock", "× go", "CPU s/1,000", "× stock", "× go"]
    rows = {row[1]: row for row in found[1:]}
    assert rows["relay"][3:5] == ["**4.00** (4.00–4.00)", "**0.50** (0.50–0.50)"]
    assert rows["relay"][6:8] == ["**4.00** (4.00–4.00)", "**0.50** (0.50–0.50)"]
    assert rows["stock"][3:5] == ["", "**0.12** (0.12–0.12)"]
    assert rows["go-smtp"][3:5] == ["**8.00** (8.00–8.00)", ""]


def test_only_measured_servers_have_a_column() -> None:
    head = cells(report.table([sample("relay", rate=1, cpu=1), sample("stock", rate=1, cpu=1)]))[0]
    assert "× stock" in head
    assert "× go" not in head


def test_times_are_medians_of_the_rounds_in_milliseconds() -> None:
    rounds = [
        sample("relay", rate=1, cpu=1, alone=Latency(p50, p99, 10), loaded=Latency(1, 2, 10))
        for p50, p99 in ((0.001, 0.004), (0.0025, 0.005), (0.009, 0.1))
    ]
    assert cells(report.table(rounds))[1][-2:] == ["2.5 / 5", "1,000 / 2,000"]


def test_a_load_without_times_has_empty_cells() -> None:
    assert cells(report.table([sample("relay", rate=1, cpu=1)]))[1][-2:] == ["", ""]


def test_the_page_names_machine_revision_and_servers(tmp_path: Path) -> None:
    page = report.page(
        [sample("relay", rate=90, cpu=1), sample("go-smtp", rate=100, cpu=1)],
        command="python -m bench.run --quick",
        rounds=1,
        servers={"go-smtp": "go-smtp 1 on Go 2", "Haraka": "left out: no npm"},
        timed=125,
        place=tmp_path,
    )
    assert "`python -m bench.run --quick` on " in page
    assert f"revision {report.revision()}." in page
    assert report.machine(tmp_path) in page
    assert "- *go-smtp*: go-smtp 1 on Go 2\n- *Haraka*: left out: no npm\n" in page
    assert "| ii | CPU, relay / go-smtp | **1.00** (1.00–1.00) | ≤ 1 | yes |" in page


def test_slower_servers_have_a_part_of_their_own(tmp_path: Path) -> None:
    measured = [sample("relay", rate=90, cpu=1), sample("stock", rate=10, cpu=9)]
    page = report.page(measured, command="c", rounds=1, servers={}, timed=1, place=tmp_path, part="peers")
    assert page.startswith("## Slower servers\n")
    assert "### Goals" not in page


def test_the_machine_has_the_file_system_of_the_mails() -> None:
    assert report.file_system(Path("/proc/self")) == "proc"
    assert ", proc, Linux " in report.machine(Path("/proc/self"))


def test_a_part_is_written_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    report.write(path, "mail-auth", "## mail-auth\n\nold\n")
    report.write(path, "", "# Results\n")
    report.write(path, "growth", "## Growth\n")
    report.write(path, "mail-auth", "## mail-auth\n\nnew\n")
    assert path.read_text() == (
        "# Results\n\n<!-- growth -->\n## Growth\n\n<!-- mail-auth -->\n## mail-auth\n\nnew\n"
    )


def test_a_part_with_an_unknown_name_stays_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Results\n\n<!-- other -->\n## Other\n")
    report.write(path, "mail-auth", "## mail-auth\n")
    assert path.read_text() == ("# Results\n\n<!-- mail-auth -->\n## mail-auth\n\n<!-- other -->\n## Other\n")


def test_the_kept_page_has_known_parts_only() -> None:
    text = (ROOT / "bench" / "RESULTS.md").read_text()
    assert set(report._MARK.findall(text)) <= set(report.PARTS)


def test_a_changed_page_of_results_does_not_make_the_revision_dirty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bench").mkdir()
    page, code = tmp_path / "bench" / "RESULTS.md", tmp_path / "code.py"
    for path in (page, code):
        path.write_text("old\n")
    who = ["-c", "user.name=a", "-c", "user.email=a@client.example"]
    for arguments in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    monkeypatch.setattr(report, "ROOT", tmp_path)
    clean = report.revision()
    page.write_text("new\n")
    assert report.revision() == clean
    code.write_text("new\n")
    assert report.revision() == f"{clean}-dirty"
