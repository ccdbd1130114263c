"""One pod of a manifest, run as a kubelet would: its container's command line, environment, volumes, probes
and hooks, in the real image. The Services of the manifest are forwarded inside of the pod's network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from tests.support.container import Container
from tests.support.infra.helm import Object
from tests.support.net import wait_until
from tests.support.servers.relay import ROOT

Secrets = Mapping[str, Mapping[str, str]]
"""The keys and values of each Secret."""

_ROOT: Final = 0

_GET: Final = """
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=5).status)
except urllib.error.HTTPError as error:
    print(error.code)
except OSError:
    print(0)
"""

_FORWARD: Final = """
import asyncio, sys

async def copy(reader, writer):
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()

def server(target):
    async def forward(reader, writer):
        there = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer), return_exceptions=True)
    return forward

async def main():
    for pair in sys.argv[1:]:
        port, target = map(int, pair.split(":"))
        await asyncio.start_server(server(target), "127.0.0.2", port)
    print("forwarding", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Pod:
    """The first pod of a workload. `volumes` is the folder of the claims, which other pods may have used
    before; `hosts` are names for the pod's loopback."""

    def __init__(
        self,
        folder: Path,
        files: Path,
        config: Mapping[str, Any],
        objects: Sequence[Object],
        secrets: Secrets | None = None,
        *,
        claims: Path | None = None,
        hosts: Sequence[str] = (),
    ) -> None:
        (workload,) = (one for one in objects if one["kind"] in ("StatefulSet", "Deployment"))
        self._objects = objects
        self._secrets = dict(secrets or {})
        self._folder = folder
        self._claims = claims or folder / "claims"
        self._hosts = hosts
        self._beside: list[subprocess.Popen[bytes]] = []
        self.spec = workload["spec"]["template"]["spec"]
        (self.container_spec,) = self.spec["containers"]
        claimed = workload["spec"].get("volumeClaimTemplates", ())
        self.volumes = {one["metadata"]["name"]: self._claim(one["metadata"]["name"]) for one in claimed}
        self.volumes |= {one["name"]: self._volume(one) for one in self.spec["volumes"]}
        self.container = self._container(files, config, self.spec, self.container_spec, folder / "relay")

    # -- volumes as a kubelet makes them ---------------------------------------------------------

    @property
    def _group(self) -> int:
        group: int = self.spec["securityContext"]["fsGroup"]
        return group

    def _claim(self, name: str) -> Path:
        """A new file system of root's, given to the pod's group."""
        place = self._claims / name
        if not place.exists():
            (place / "lost+found").mkdir(parents=True)
            (place / "lost+found").chmod(0o700)
            os.chown(place, _ROOT, self._group)
            place.chmod(0o2775)
        return place

    def _volume(self, volume: Mapping[str, Any]) -> Path:
        place = self._folder / "volumes" / volume["name"]
        place.mkdir(parents=True)
        if "emptyDir" in volume:
            place.chmod(0o777)
        elif "configMap" in volume:
            (found,) = (
                one["data"]
                for one in self._objects
                if one["kind"] == "ConfigMap" and one["metadata"]["name"] == volume["configMap"]["name"]
            )
            self.project(place, found, 0o644)
        else:
            self.project(
                place, self._secrets[volume["secret"]["secretName"]], volume["secret"]["defaultMode"]
            )
        return place

    def project(self, place: Path, files: Mapping[str, str], mode: int) -> None:
        """Show files in a folder as a kubelet does: through a link that is replaced at once."""
        version = place / f"..version_{len(list(place.glob('..version_*')))}"
        version.mkdir()
        for name, text in files.items():
            path = version / name
            path.write_text(text)
            path.chmod(mode)
            os.chown(path, _ROOT, self._group)
            if not (place / name).is_symlink():
                (place / name).symlink_to(f"..data/{name}")
        (place / "..new").symlink_to(version.name)
        (place / "..new").rename(place / "..data")

    def renew(self, secret: str, files: Mapping[str, str]) -> None:
        """Another version of a Secret that is mounted."""
        (volume,) = (one for one in self.spec["volumes"] if one.get("secret", {}).get("secretName") == secret)
        self.project(self.volumes[volume["name"]], files, volume["secret"]["defaultMode"])

    # -- containers ------------------------------------------------------------------------------

    def _container(
        self,
        files: Path,
        config: Mapping[str, Any],
        spec: Mapping[str, Any],
        container: Mapping[str, Any],
        folder: Path,
    ) -> Container:
        security = spec["securityContext"] | container["securityContext"]
        assert security["readOnlyRootFilesystem"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        return Container(
            folder,
            files,
            {**config, "Entrypoint": container.get("command", config["Entrypoint"])},
            *container["args"],
            volumes={self.volumes[one["name"]]: one["mountPath"] for one in container["volumeMounts"]},
            env=self._environment(container),
            user=f"{security['runAsUser']}:{security['runAsGroup']}",
            read_only=True,
        )

    def _environment(self, container: Mapping[str, Any]) -> dict[str, str]:
        found = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
        for one in container.get("env", ()):
            if "value" in one:
                found[one["name"]] = one["value"]
            else:
                reference = one["valueFrom"]["secretKeyRef"]
                found[one["name"]] = self._secrets[reference["name"]][reference["key"]]
        return found

    def start(self) -> Self:
        """Start, and wait as a kubelet for the probe that says that it runs."""
        hosts = self.container.folder / "upper" / "etc" / "hosts"
        hosts.parent.mkdir(parents=True)
        services = [one["metadata"]["name"] for one in self._objects if one["kind"] == "Service"]
        names = [f"127.0.0.1 localhost {' '.join(self._hosts)}", *(f"127.0.0.2 {name}" for name in services)]
        hosts.write_text("\n".join(names) + "\n")
        self.container.start()
        process = self.container.process
        assert process is not None
        wait_until(
            lambda: process.poll() is not None or self._has_begun(),
            seconds=60,
            what="the first process",
            every=0.05,
        )
        wait_until(
            lambda: process.poll() is not None or self.probe("startupProbe") == 200,
            seconds=60,
            what="the startup probe",
            every=0.2,
        )
        if process.poll() is not None:
            raise RuntimeError(f"the container ended with {process.poll()}:\n{self.container.log()}")
        return self

    def _has_begun(self) -> bool:
        try:
            return self.container.pid > 0
        except (IndexError, FileNotFoundError):
            return False

    def probe(self, name: str) -> int:
        """The status that a probe of the manifest gets; 0 without an answer."""
        request = self.container_spec[name]["httpGet"]
        ports = {one["name"]: one["containerPort"] for one in self.container_spec["ports"]}
        url = f"http://127.0.0.1:{ports[request['port']]}{request['path']}"
        return int(self.container.beside(sys.executable, "-c", _GET, url).stdout or 0)

    def forward(self) -> None:
        """Let the first Service lead to this pod."""
        (service,) = (
            one["spec"]
            for one in self._objects
            if one["kind"] == "Service" and one["spec"].get("type") != "LoadBalancer"
        )
        ports = {one["name"]: one["containerPort"] for one in self.container_spec["ports"]}
        ways = [(one["port"], ports[one["targetPort"]]) for one in service["ports"]]
        # The relay listens on every address, so a port that stays the same leads to it already.
        pairs = [f"{port}:{target}" for port, target in ways if port != target]
        started = self.beside(sys.executable, "-c", _FORWARD, *pairs)
        assert started.stdout is not None
        assert started.stdout.readline() == b"forwarding\n"

    def beside(self, *command: str, folder: Path = ROOT) -> subprocess.Popen[bytes]:
        """Start a program of this machine in the pod's network."""
        inside = ["nsenter", f"--net=/proc/{self.container.pid}/ns/net", *command]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        started = subprocess.Popen(inside, cwd=folder, env=environment, stdout=subprocess.PIPE)
        self._beside.append(started)
        return started

    def test(self) -> subprocess.CompletedProcess[bytes]:
        """Run the command line of the pod of `helm test`, with its environment and user."""
        (pod,) = (one for one in self._objects if one["kind"] == "Pod")
        (container,) = pod["spec"]["containers"]
        given = [f"{name}={value}" for name, value in self._environment(container).items()]
        entry = self.container.config["Entrypoint"]
        return self.container.run("env", *given, *entry, *container["args"])

    def pre_stop(self) -> subprocess.CompletedProcess[bytes]:
        """Run the hook that a kubelet runs before SIGTERM."""
        return self.container.run(*self.container_spec["lifecycle"]["preStop"]["exec"]["command"])

    def queue(self) -> list[dict[str, Any]]:
        """The mails of the spool, as `kubectl exec` shows them."""
        done = self.container.run("smtp-relay", "queue", "--json", "-c", self.container_spec["args"][-1])
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self) -> None:
        """End what still runs."""
        for each in self._beside:
            each.kill()
            each.wait()
            if each.stdout is not None:
                each.stdout.close()
        self.container.close()
        shutil.rmtree(self._folder / "volumes", ignore_errors=True)
