"""The documentation: links resolve, configurations load, commands run, the reference is current."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from tests.support.clouds import gcp
from tests.support.servers.relay import ROOT


def script(name: str) -> ModuleType:
    """A module of scripts/, which is not a package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


docs_check: Final = script("docs_check")
reference: Final = script("configuration_reference")
policies: Final = script("iam_policies")
PAGES: Final = [str(path.relative_to(ROOT)) for path in docs_check.pages()]


@pytest.mark.parametrize("page", PAGES)
def test_page(page: str) -> None:
    # In a process of its own, as `make docs-check` runs it, because pages start servers.
    command = [sys.executable, "scripts/docs_check.py", page]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_page_is_found_from_the_index() -> None:
    linked = {
        (ROOT / "docs" / target.partition("#")[0]).resolve()
        for _, target in docs_check.read(ROOT / "docs" / "README.md").links
    }
    written = {
        path.resolve()
        for folder in ("", "filters", "outputs")
        for path in (ROOT / "docs" / folder).glob("*.md")
    }
    assert written - linked == {ROOT / "docs" / "README.md"}


def test_the_configuration_reference_is_current() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run python scripts/configuration_reference.py"


def test_the_reference_names_every_key() -> None:
    from listener.cli.schema import schema

    page = reference.PAGE.read_text()
    absent = {key for key in keys_of(schema()) if f"`{key}`" not in page}
    assert absent == set()


def test_the_policies_are_current() -> None:
    assert policies.PAGE.read_text() == policies.page(), "run python scripts/iam_policies.py"


def test_every_example_with_an_output_to_a_cloud_has_its_policy() -> None:
    page = policies.PAGE.read_text()
    for path in (ROOT / "configs").glob("*.jsonc"):
        shown = f"[{path.stem}](../configs/{path.name}):" in page
        assert shown is bool(policies.aws(path) or policies.gcp(path)), path.name


def test_the_policy_of_a_file_names_the_secrets_of_its_filters(tmp_path: Path) -> None:
    config = {
        "flows": {
            "in": {
                "filters": [{"type": "static-auth", "username": "app", "password": "ssm:/relay/password"}],
                "outputs": [{"type": "aws", "ses": {"identities": ["example.com"], "maxSendRate": 5}}],
            }
        }
    }
    (tmp_path / "relay.json").write_text(json.dumps(config))
    command = [sys.executable, "scripts/iam_policies.py", tmp_path / "relay.json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    allowed = {each["Action"][0]: each["Resource"] for each in json.loads(done.stdout)["Statement"]}
    assert allowed == {
        "ses:SendRawEmail": ["arn:aws:ses:REGION:ACCOUNT:identity/example.com"],
        "ssm:GetParameter": ["arn:aws:ssm:REGION:ACCOUNT:parameter/relay/password"],
    }


def files_of(page: str) -> dict[str, str]:
    """The files that a page shows."""
    return {block.rest: block.text for block in docs_check.read(ROOT / page).blocks if block.mark == "file"}


def test_the_workflow_is_one_that_github_runs() -> None:
    import yaml

    # YAML 1.1 reads the key `on` as true.
    workflow = yaml.safe_load(files_of("docs/testing.md")["workflow.yaml"])
    assert workflow[True] == "push"
    (job,) = workflow["jobs"].values()
    assert set(job) == {"runs-on", "services", "steps"}
    assert all(set(step) in ({"uses"}, {"run"}) for step in job["steps"])
    (service,) = job["services"].values()
    assert set(service) <= {"image", "ports", "volumes", "env", "options", "credentials"}


def test_the_compose_file_fits_the_image() -> None:
    import yaml

    services = yaml.safe_load(files_of("docs/testing.md")["compose.yaml"])["services"]
    image = (ROOT / "listener" / "Dockerfile").read_text()
    assert services["app"]["depends_on"] == {"mail": {"condition": "service_healthy"}}
    assert "HEALTHCHECK" in image
    (volume,) = services["mail"]["volumes"]
    (port,) = services["mail"]["ports"]
    assert volume.endswith(":/smtp-relay/received_emails")
    assert port.endswith(f":{services['app']['environment']['SMTP_PORT']}")


def keys_of(part: Any) -> set[str]:
    """Every property of the schema."""
    found: set[str] = set()
    if isinstance(part, dict):
        properties = part.get("properties")
        found |= set(properties) if isinstance(properties, dict) else set()
        for value in part.values():
            found |= keys_of(value)
    elif isinstance(part, list):
        for item in part:
            found |= keys_of(item)
    return found


class TestTheCheckItself:
    """Each kind of fault is found."""

    @pytest.fixture
    def faults(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setattr(docs_check, "ROOT", tmp_path)
        (tmp_path / "configs").mkdir()
        (tmp_path / "config.schema.json").write_text("{}")

        def of(text: str) -> list[str]:
            page = tmp_path / "page.md"
            page.write_text(text)
            monkeypatch.setenv("PYTHONPATH", str(ROOT))
            return list(docs_check.faults(page))

        return of

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[x](gone.md)", "no such file"),
            ("[x](#gone)", "no such heading"),
            ("# A `b` c\n[x](#a-b-d)", "no such heading"),
            ("```json\n{\n```", "cannot be read"),
            ("```sh\nfalse\ntrue\n```", "ended with 1"),
            ("<!-- docs-check: fails -->\n```sh\ntrue\n```", "ended with 0"),
            ("```\nmake it\n```", "looks like a command"),
            ("<!-- docs-check: skip -->\n```sh\nfalse\n```", "without a reason"),
            ("<!--docs-check:fails-->\n```sh\ntrue\n```", "ended with 0"),
            ("<!-- docs-check: until b -->\n```sh\necho a\n```", "does not print 'b'"),
            ("```python\nfor\n```", "cannot be compiled"),
            ("<!-- docs-check: needs sh -->\n```sh\nfalse\n```", "ended with 1"),
            ("```sh\nexport A=1\n```\n```sh\ntest $A = 2\n```", "ended with 1"),
        ],
    )
    def test_fault(self, faults: Any, text: str, words: str) -> None:
        (found,) = faults(text)
        assert words in found

    @pytest.mark.parametrize(
        "text",
        [
            "# A `b` c\n## A `b` c\n[x](#a-b-c) [y](#a-b-c-1) [z](page.md#a-b-c) [w](https://example.com/x#y)",
            '```jsonc\n"loggers": [], // part of an object\n```',
            "<!-- docs-check: file a.txt -->\n```text\nx\n```\n```sh\ngrep x a.txt\n```",
            "```\n250 OK\n```",
            "`[x](gone.md)`",
            "<!-- docs-check: until a b -->\n```sh\n(sleep 0.1; echo a b; sleep 600) &\n```",
            "<!-- docs-check: needs no-such-program -->\n```sh\nfalse\n```",
            "```sh\nexport A=1\n```\n```sh\ntest $A = 1\n```",
            "<!-- docs-check: file a -->\n```text\n10025\n```\n```sh\ntest $(cat a) = $DOCS_PORT\n```",
        ],
    )
    def test_no_fault(self, faults: Any, text: str) -> None:
        assert faults(text) == []

    def test_without_the_programs_of_a_stand_in_the_rest_of_the_page_is_not_run(
        self, faults: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gcp.Pubsub, "start", lambda _: pytest.skip("no emulator"))
        text = "```sh\nfalse\n```\n"
        (found,) = faults(f"{text}<!-- docs-check: stand-in gcp -->\n{text}{text}")
        assert ":2:" in found
