"""The cost on the pages is what measured use and list prices give."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest

from bench import cost
from bench.prices import PRICES
from tests.support.infra import terraform_alarms
from tests.support.servers.relay import ROOT

USED = cost.usage()
CLOUDS = (("aws", cost.aws), ("gcp", cost.gcp))


def rows(page: str, heading: str) -> list[str]:
    """The lines below a heading that begin with a power of ten."""
    text = (ROOT / "docs" / page).read_text().partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return [line for line in text.splitlines() if line.startswith("10")]


def test_the_table_of_the_page_is_current(capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    monkeypatch.setattr("sys.argv", ["cost", "--check"])
    assert cost.main() == 0, capsys.readouterr().err


def test_a_table_that_is_not_current_is_found(tmp_path: Any, monkeypatch: Any) -> None:
    page = tmp_path / "limits.md"
    page.write_text("<!-- cost: begin -->\nold\n<!-- cost: end -->\n")
    monkeypatch.setattr(cost, "PAGE", page)
    monkeypatch.setattr(cost, "ROOT", tmp_path)
    monkeypatch.setattr("sys.argv", ["cost", "--check"])
    assert cost.main() == 1
    monkeypatch.setattr("sys.argv", ["cost", "--write"])
    assert cost.main() == 0
    assert page.read_text() == f"<!-- cost: begin -->\n{cost.table(USED)}<!-- cost: end -->\n"


def test_every_price_has_its_page_and_is_used() -> None:
    source = (ROOT / "bench" / "cost.py").read_text()
    machines = {f"{scale.machines[1]} hour" for scale in cost.SCALES}
    for name, (dollars, page, date) in PRICES.items():
        assert re.match(r"(aws\.amazon|cloud\.google)\.com/\S+", page), name
        assert re.fullmatch(r"202\d(-\d\d-\d\d)?", date), name
        assert dollars > 0 or name in ("s3:DELETE", "gcs:free"), name
        used = name in source or name in machines or name.startswith(("s3:", "gcs:"))
        assert used, f"{name} is a price of no term"


@pytest.mark.parametrize(("cloud", "module"), CLOUDS)
def test_each_term_is_more_than_nothing_and_falls_with_the_number_of_mails(cloud: str, module: Any) -> None:
    for kind in ("stored", "published"):
        sums = [sum(module(USED[cloud][kind], scale).values()) for scale in cost.SCALES]
        assert sums == sorted(sums, reverse=True)
        for scale in cost.SCALES:
            terms = module(USED[cloud][kind], scale)
            assert all(dollars > 0 for name, dollars in terms.items() if name != "DynamoDB")
    assert cost.total(cloud, "published", cost.SCALES[0], USED) > cost.total(
        cloud, "stored", cost.SCALES[0], USED
    )


def test_two_writes_and_a_read_of_a_bucket() -> None:
    """The spool's object and the output's, each 5 a million, and 0.40 for the function that reads one."""
    for cloud, module, term in (("aws", cost.aws, "S3"), ("gcp", cost.gcp, "Cloud Storage")):
        assert module(USED[cloud]["stored"], cost.SCALES[0])[term] == pytest.approx(10.4)


@pytest.mark.parametrize(("cloud", "module"), CLOUDS)
def test_more_bytes_of_logs_cost_more_and_change_nothing_else(cloud: str, module: Any) -> None:
    more = copy.deepcopy(USED[cloud]["stored"])
    more["function"]["bytes"] += 2e9 / 1e6
    before, after = (module(used, cost.SCALES[1]) for used in (USED[cloud]["stored"], more))
    assert {name for name in before if before[name] != after[name]} == {"logs"}
    assert after["logs"] - before["logs"] == pytest.approx(1.0, rel=0.08)  # 0.50 a GB, or a GiB


@pytest.mark.parametrize(("page", "cloud"), [("operate-aws.md", "aws"), ("operate-gcp.md", "gcp")])
def test_the_operators_page_has_these_sizes_and_sums(page: str, cloud: str) -> None:
    found = rows(page, "Scale")
    assert len(found) == len(cost.SCALES)
    for said, scale in zip(found, cost.SCALES, strict=True):
        month = cost.total(cloud, "stored", scale, USED) * scale.month
        assert said.endswith(f"| {cost.rounded(month):,}")
        if scale is cost.SCALES[0]:
            assert "defaults" in said
        elif cloud == "aws":
            number, cpu, memory = scale.tasks
            for name, value in (("cpu", cpu * 1024), ("memory", memory * 1024), ("least", number)):
                assert f"`{name}={value:.0f}`" in said
        else:
            assert f"`machine_type={scale.machines[1]}`" in said
            assert f"size={{min={scale.machines[0]}," in said


def test_the_number_of_alarms_is_that_of_the_modules() -> None:
    source = (ROOT / "bench" / "cost.py").read_text()
    assert f'price("cloudwatch alarm month", {len(terraform_alarms.aws())})' in source
    assert f'price("alert month", {len(terraform_alarms.gcp())})' in source


@pytest.mark.parametrize(("page", "cloud"), [("aws.md", "aws"), ("gcp.md", "gcp")])
def test_the_page_of_a_cloud_has_these_terms(page: str, cloud: str) -> None:
    text = (ROOT / "docs" / page).read_text().partition("\n## Cost\n")[2].partition("\n## ")[0]
    fixed = (cost.aws_fixed if cloud == "aws" else cost.gcp_fixed)(cost.MONTHLY)
    terms = dict(CLOUDS)[cloud](USED[cloud]["stored"], cost.MONTHLY)
    each = {name: dollars for name, dollars in terms.items() if name not in fixed}
    assert f"**together** | **{sum(fixed.values()):.0f}** | | **{sum(each.values()):.0f}**" in text
    for name, dollars in (fixed | each).items():
        assert dollars < 0.1 or f" | {dollars:.1f}" in text, name


def test_the_readme_has_the_sum_of_a_million_a_month() -> None:
    text = " ".join((ROOT / "README.md").read_text().split())
    fixed = sum(cost.aws_fixed(cost.MONTHLY).values())
    whole = cost.total("aws", "stored", cost.MONTHLY, USED)
    assert f"about ${whole:.0f} on AWS at list prices, of which ${fixed:.0f} are fixed" in text
    # SES takes 109 a million, and storing is among it.
    found = re.search(r"cheaper below some ([\d,]+) mails a month", text)
    assert found is not None
    assert int(found[1].replace(",", "")) == pytest.approx(
        1e6 * fixed / (109 - (whole - fixed - 5)), rel=0.03
    )
