"""The results that `make fresh` counts as green."""

from __future__ import annotations

import pytest

from scripts import fresh

SKIPPED = """\
=========================== short test summary info ============================
SKIPPED [2] tests/support/infra/terraform_aws.py:42: terraform provider hashicorp/aws is in no mirror here
SKIPPED [1] tests/support/clouds/gcp.py:46: pubsub emulator jar (or java) is missing
"""


def summary(text: str) -> str:
    return f"=========== {text} in 831.20s (0:13:51) ===========\n"


def test_all_passed_is_green() -> None:
    assert fresh.verdict(summary("5998 passed"), 0).startswith("5998 passed, 0 failed, 0 skipped")


def test_what_no_registry_carries_may_skip() -> None:
    found = fresh.verdict(SKIPPED + summary("5995 passed, 3 skipped"), 0)
    assert found.startswith("5995 passed, 0 failed, 3 skipped")


@pytest.mark.parametrize(
    ("printed", "status", "fault"),
    [
        ("ruff found something\n", 2, "no tests ran"),
        ("nothing\n", 0, "no tests ran"),
        (summary("1 failed, 5997 passed"), 1, "1 failed"),
        (summary("1 failed, 5997 passed"), 0, "not only passed"),
        (summary("5997 passed, 1 error"), 0, "not only passed"),
        (summary("5997 passed, 1 xfailed"), 0, "not only passed"),
        (SKIPPED + summary("3 skipped"), 0, "not only passed"),
        (SKIPPED + summary("5994 passed, 4 skipped"), 0, "4 skipped, of which 1 give no reason"),
        (
            SKIPPED + "SKIPPED [1] tests/x.py:1: swaks is missing\n" + summary("5994 passed, 4 skipped"),
            0,
            "swaks is missing",
        ),
    ],
)
def test_anything_else_is_not(printed: str, status: int, fault: str) -> None:
    with pytest.raises(fresh.Fault, match=fault):
        fresh.verdict(printed, status)


def test_the_ways_to_the_registries_are_carried_and_no_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIP_INDEX_URL", "https_proxy", "NPM_CONFIG_REGISTRY", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, f"this machine's {name}")
    for name in ("PIP_CACHE_DIR", "npm_config_cache", "PYTHONPATH", "VIRTUAL_ENV", "CI"):
        monkeypatch.setenv(name, f"this machine's {name}")
    found = fresh.environment()
    assert {"PIP_INDEX_URL", "https_proxy", "NPM_CONFIG_REGISTRY", "SSL_CERT_FILE"} <= set(found)
    assert not {"PIP_CACHE_DIR", "npm_config_cache", "PYTHONPATH", "VIRTUAL_ENV", "CI"} & set(found)
    assert found["HOME"] == "/root"
