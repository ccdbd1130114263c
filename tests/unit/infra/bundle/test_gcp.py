"""The source zip from which Google makes its function."""

from __future__ import annotations

import json
import re
import zipfile
from pathlib import Path
from typing import Any, Final

import pytest

from functions.errors import ConfigError
from infra.bundle.gcp import build, source
from tests.support.servers.relay import ROOT


def test_google_gets_source_only_and_installs_wheels_for_its_own_system(tmp_path: Path) -> None:
    with zipfile.ZipFile(
        source(ROOT / "configs" / "mail2gcppubsub.jsonc", tmp_path / "function.zip")
    ) as made:
        names = made.namelist()
    assert {Path(name).suffix for name in names} == {".json", ".py", ".txt"}
    assert {name.partition("/")[0] for name in names} == {
        "functions",
        "main.py",
        "relay.json",
        "requirements.txt",
    }


STORE: Final = {"type": "gcp", "path": "gs://mails/"}
SMARTHOST: Final = {"type": "mailer", "nodemailer": {"host": "smtp.example.com"}}
TO: Final = {"type": "whitelist", "to": ["regexp:.*@example\\.com"]}


def built(
    tmp_path: Path, output: Any, *filters: Any, public: bool | None = None, **more: Any
) -> dict[str, Any]:
    """The deployment's files as they are read."""
    path = tmp_path / "relay.json"
    flow = {"filters": [TO, *filters], "outputs": [output]}
    path.write_text(json.dumps({"flows": {"in": flow}, "options": {"authOptional": True}, **more}))
    made = build(path, tmp_path / "build", public=public)
    return {name: json.loads(file.read_text()) for name, file in made.items() if file.suffix == ".json"}


@pytest.mark.parametrize("most", [2, 3, 8, 10, 50, 1000])
def test_no_more_mails_are_delivered_at_a_time_than_is_allowed(tmp_path: Path, most: int) -> None:
    made = built(tmp_path, STORE, delivery={"concurrency": most})["deployment.json"]
    assert made["threads"] * made["max_instances"] <= most
    assert made["threads"] * (made["max_instances"] + 1) > most, "and not many fewer"
    assert made["threads"] <= 8
    assert made["max_instances"] >= 2


def test_a_smarthost_gets_fewer_sessions(tmp_path: Path) -> None:
    made = built(tmp_path, SMARTHOST, public=False)["deployment.json"]
    assert (made["threads"], made["max_instances"]) == (5, 2)
    made = built(tmp_path, STORE)["deployment.json"]
    assert (made["threads"], made["max_instances"]) == (8, 6)


def test_whether_strangers_reach_the_listener_is_said_if_an_output_sends(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--public false"):
        built(tmp_path, SMARTHOST)
    for said, ips in ((True, ["10.1.2.3"]), (False, ["0.0.0.0"])):
        known = {"type": "whitelist", "ips": ips}
        assert built(tmp_path, SMARTHOST, known, public=said)["deployment.json"]["public"] is said
    assert built(tmp_path, STORE)["deployment.json"]["public"] is True


def test_an_open_relay_is_not_deployed_to_strangers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="a stranger on 10025 can send through the mailer"):
        built(tmp_path, SMARTHOST, public=True)
    built(tmp_path, SMARTHOST, public=False)
    assert "warning: flows.in.outputs[0]: a stranger on 10025" in capsys.readouterr().err


def test_one_stranger_takes_not_all_connections(tmp_path: Path) -> None:
    assert built(tmp_path, STORE)["relay.json"]["options"]["maxClientsPerIp"] == 50
    given = {"authOptional": True, "maxClientsPerIp": 7}
    assert built(tmp_path, STORE, options=given)["relay.json"]["options"]["maxClientsPerIp"] == 7
    assert "maxClientsPerIp" not in built(tmp_path, STORE, public=False)["relay.json"]["options"]


@pytest.mark.parametrize(
    ("asked", "nat"),
    [
        ({"type": "http-filter", "url": "https://check.example.com/"}, True),
        ({"type": "http-auth", "url": "https://auth.example.com/"}, True),
        ({"type": "mail-auth"}, True),
        ({"type": "blacklist", "from": ["x@example.com"]}, False),
    ],
)
def test_filters_that_ask_the_internet_get_cloud_nat(tmp_path: Path, asked: Any, nat: bool) -> None:
    assert built(tmp_path, STORE, asked)["deployment.json"]["nat"] is nat


def test_google_installs_the_packages_of_the_lock_and_no_others(tmp_path: Path) -> None:
    made = source(ROOT / "configs" / "mail2gcp.jsonc", tmp_path / "function.zip")
    with zipfile.ZipFile(made) as archive:
        lines = archive.read("requirements.txt").decode().splitlines()
    assert {line.partition("==")[0] for line in lines} >= {"google-cloud-storage", "grpcio", "pydantic-core"}
    assert all(re.fullmatch(r"[\w.-]+==\S+( ; .*?)?( --hash=sha256:\w{64})+", line) for line in lines)
