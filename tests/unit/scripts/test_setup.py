"""scripts/setup.py decides well what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import setup


def test_a_program_that_is_not_here_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "PROGRAMS", {"sh": "dash", "no-such-program": "a-program"})
    assert "dash" not in setup.missing_packages()
    assert "a-program" in setup.missing_packages()


def test_a_perl_module_that_is_not_here_is_missing_though_its_program_is_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup, "PERL_MODULES", {"strict": "perl-base", "No::Such::Module": "libno-such-perl"})
    assert "perl-base" not in setup.missing_packages()
    assert "libno-such-perl" in setup.missing_packages()


def test_without_perl_its_modules_are_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(setup, "PATH", str(tmp_path))
    assert set(setup.PERL_MODULES.values()) <= set(setup.missing_packages())
