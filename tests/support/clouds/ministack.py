"""AWS on loopback: ministack as a process of its own, in a virtual environment of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any, Final, Self

from tests.support.net import HOST, PATIENCE, free_port
from tests.support.servers.relay import ROOT

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"

_PACKAGES: Final = ("ministack==1.5.33", "boto3==1.43.106", "aws-lambda-powertools==3.37.0")
"""ministack pins an old botocore; an unpinned install would pick an old ministack."""

_VENV: Final = ROOT / ".state" / "ministack"


class Ministack:
    """The server. `environment` holds the variables that a process needs to find it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://{HOST}:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start and wait until it is healthy. Raises RuntimeError with its output if it ends instead."""
        program = _installed() / "bin" / "ministack"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "ministack.log").open("ab") as output:
            self._process = subprocess.Popen(
                [program],
                cwd=self.folder,
                env={
                    **os.environ,
                    **self.environment,
                    "BIND_HOST": HOST,
                    "MINISTACK_HOST": HOST,
                    "GATEWAY_PORT": str(self.port),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + PATIENCE
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError((self.folder / "ministack.log").read_text(errors="replace")[-4000:])
            time.sleep(0.05)
        return self

    def stop(self) -> None:
        """End it with all its children, because it does not always react to SIGTERM."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    @property
    def pid(self) -> int:
        """Its process; those that run functions are its children."""
        assert self._process is not None
        return self._process.pid

    def client(self, service: str) -> Any:
        """A boto3 client of it."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(
                s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}, read_timeout=PATIENCE
            ),
        )

    def log(self) -> str:
        """The output of it and of the functions it runs."""
        return (self.folder / "ministack.log").read_text(errors="replace")

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_ministack/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _installed() -> Path:
    """The virtual environment, made at the first use."""
    stamp = _VENV / "installed"
    if stamp.exists() and stamp.read_text() == repr(_PACKAGES):
        return _VENV
    subprocess.run([sys.executable, "-m", "venv", "--clear", _VENV], check=True)
    pip = [_VENV / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, *_PACKAGES], check=True)
    stamp.write_text(repr(_PACKAGES))
    return _VENV
