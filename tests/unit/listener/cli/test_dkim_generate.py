"""`dkim-generate`: the key, its record, and that the printed configuration loads."""

import argparse
import base64
import json
import re
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from functions.errors import ConfigError
from functions.processors.registry import OUTPUTS
from listener.cli import dkim_generate as cli_dkim


def run(capsys: pytest.CaptureFixture[str], **given: object) -> str:
    defaults = {"domain": "example.com", "selector": "default", "bits": 2048, "ed25519": False, "out": None}
    assert cli_dkim.run(argparse.Namespace(**{**defaults, **given})) == 0
    return capsys.readouterr().out


def tags(record: str) -> dict[str, str]:
    return dict(part.strip().split("=", 1) for part in record.split(";"))  # type: ignore[misc]


def test_rsa(capsys: pytest.CaptureFixture[str]):
    text = run(capsys)
    found = re.search(r"^default\._domainkey\.example\.com (v=DKIM1; .*)$", text, re.MULTILINE)
    assert found is not None
    record = tags(found[1])
    assert (record["v"], record["k"]) == ("DKIM1", "rsa")
    public = serialization.load_der_public_key(base64.b64decode(record["p"]))
    assert isinstance(public, rsa.RSAPublicKey)
    assert public.key_size == 2048

    one, many = (json.loads(part) for part in re.findall(r"^\{.*?^\}", text, re.MULTILINE | re.DOTALL))
    dkim = one["outputs"][0]["dkim"]
    private = serialization.load_pem_private_key(dkim["privateKey"].encode(), None)
    assert private.public_key() == public
    assert many["outputs"][0]["dkims"]["example.com"]["privateKey"] == dkim["privateKey"]
    for snippet in (one, many):
        assert OUTPUTS.parse(snippet["outputs"][0]).identity()


def test_ed25519(capsys: pytest.CaptureFixture[str]):
    text = run(capsys, ed25519=True)
    record = tags(re.findall(r"(v=DKIM1; k=ed25519; .*)$", text, re.MULTILINE)[-1])
    assert len(base64.b64decode(record["p"])) == 32
    snippet = json.loads(re.findall(r"^\{.*?^\}", text, re.MULTILINE | re.DOTALL)[0])
    private = serialization.load_pem_private_key(snippet["outputs"][0]["dkim"]["privateKey"].encode(), None)
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert base64.b64encode(private.public_key().public_bytes_raw()).decode() == record["p"]


@pytest.mark.parametrize(("bits", "strings"), [(1024, 1), (2048, 2), (4096, 3)])
def test_strings_of_the_record_fit(bits: int, strings: int):
    record = cli_dkim.generate_rsa(bits).record
    parts = cli_dkim.txt_strings(record)
    assert "".join(parts) == record
    assert max(map(len, parts)) <= 255
    assert len(parts) == strings


def test_out_is_for_the_owner_alone_and_never_overwrites(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    out = tmp_path / "key.pem"
    text = run(capsys, ed25519=True, out=out)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "PRIVATE KEY" in out.read_text()
    assert "PRIVATE KEY" not in text
    assert f"file://{out}" in text
    before = out.read_text()
    with pytest.raises(ConfigError, match="exists"):
        run(capsys, ed25519=True, out=out)
    assert out.read_text() == before
    with pytest.raises(ConfigError, match="cannot be written"):
        run(capsys, ed25519=True, out=tmp_path / "gone" / "key.pem")


@pytest.mark.parametrize(
    ("domain", "selector"),
    [("exa mple.com", "a"), ("müller.test", "a"), ("example.com", "a b"), ("", "a"), ("a.test", ".")],
)
def test_names_that_cannot_stand_in_the_dns(capsys: pytest.CaptureFixture[str], domain: str, selector: str):
    with pytest.raises(ConfigError):
        run(capsys, domain=domain, selector=selector)


def test_a_final_dot_is_no_part_of_the_domain(capsys: pytest.CaptureFixture[str]):
    assert "._domainkey.example.com. IN TXT (" in run(capsys, domain="Example.com.", ed25519=True)
