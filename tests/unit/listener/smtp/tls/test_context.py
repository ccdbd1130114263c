"""A listener's certificates: their sources, their clients, and their renewal."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.x509.oid import NameOID

from functions.errors import ConfigError
from functions.options.secrets import SecretResolver
from listener.config.smtp import SmtpOptions
from listener.smtp.tls.certificates import end_of, self_signed
from listener.smtp.tls.context import ServerTls, _tell, facts, wanted
from tests.support import process
from tests.support.clients.tls import Authority, Identity, trusting

CA = Authority.shared()


def serve(folder: Path, **options: Any) -> ServerTls:
    resolver = SecretResolver(folder, {"TLS_KEY": os.environ.get("TLS_KEY", "")})
    return ServerTls(SmtpOptions.model_validate(options), "mx.server.example", resolver, "options")


def shake(
    server: ServerTls, client: ssl.SSLContext | None = None, name: str = "mx.server.example"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """A handshake in memory; the server's side and the client's. Raises ssl.SSLError of either."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = server.context.wrap_bio(to_server, to_client, server_side=True)
    other = (client or CA.context()).wrap_bio(to_client, to_server, server_hostname=name)
    for _ in range(4):
        for side in (other, one):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert one.version() == other.version()
    return one, other


def shown(server: ServerTls, name: str = "mx.server.example", context: ssl.SSLContext | None = None) -> bytes:
    """The certificate that a client sees."""
    certificate = shake(server, context or trusting(), name)[1].getpeercert(binary_form=True)
    assert certificate is not None
    return certificate


def der(identity: Identity) -> bytes:
    return ssl.PEM_cert_to_DER_cert(identity.pem)


class TestGiven:
    def test_as_files(self, tmp_path: Path) -> None:
        identity = CA.issue(algorithm="rsa")
        identity.write(tmp_path)
        server = serve(tmp_path, key="file://server.key", cert="file://server.pem")
        assert shown(server) == der(identity)
        assert server.not_after == identity.certificate.not_valid_after_utc.timestamp()
        assert server.may_change

    def test_in_the_file_itself(self, tmp_path: Path) -> None:
        identity = CA.issue()
        server = serve(tmp_path, key=identity.key_pem(), cert=identity.pem)
        assert shown(server) == der(identity)
        assert not server.may_change

    def test_with_written_out_line_ends(self, tmp_path: Path) -> None:
        identity = CA.issue()
        server = serve(
            tmp_path, key=identity.key_pem().replace("\n", "\\n"), cert=identity.pem.replace("\n", "\\n")
        )
        assert shown(server) == der(identity)

    def test_with_an_encrypted_key(self, tmp_path: Path) -> None:
        identity = CA.issue()
        identity.write(tmp_path, passphrase="open it")
        options = {"key": "file://server.key", "cert": "file://server.pem"}
        assert shown(serve(tmp_path, **options, passphrase="open it")) == der(identity)
        for wrong in ({"passphrase": "wrong"}, {}):
            with pytest.raises(ConfigError, match="passphrase is wrong"):
                serve(tmp_path, **options, **wrong)

    @pytest.mark.parametrize("passphrase", [None, "open it"])
    def test_as_pkcs12(self, tmp_path: Path, passphrase: str | None) -> None:
        identity = CA.issue()
        (tmp_path / "server.pfx").write_bytes(identity.pfx(passphrase))
        options = {"passphrase": passphrase} if passphrase else {}
        assert shown(serve(tmp_path, pfx="file://server.pfx", **options)) == der(identity)
        text = base64.b64encode(identity.pfx(passphrase)).decode()
        assert shown(serve(tmp_path, pfx=text, **options)) == der(identity)
        with pytest.raises(ConfigError, match=r"options\.pfx"):
            serve(tmp_path, pfx="file://server.pfx", passphrase="wrong")

    def test_that_do_not_fit(self, tmp_path: Path) -> None:
        one, other = CA.issue(), CA.issue()
        with pytest.raises(ConfigError, match="does not belong to the certificate"):
            serve(tmp_path, key=one.key_pem(), cert=other.pem)
        with pytest.raises(ConfigError, match=r"options\.key: is not PEM"):
            serve(tmp_path, key="nonsense", cert="nonsense")
        with pytest.raises(ConfigError, match=r"missing\.key"):
            serve(tmp_path, key="file://missing.key", cert=one.pem)

    def test_nothing_is_left_on_disk(self, tmp_path: Path) -> None:
        identity = CA.issue()
        before = process.open_files(os.getpid())
        serve(tmp_path, key=identity.key_pem(), cert=identity.pem)
        assert not list(tmp_path.iterdir())
        assert process.open_files(os.getpid()) <= before


class TestInOneSecret:
    """Certificate and key from one reading."""

    @pytest.mark.parametrize("form", ["pem", "reversed pem", "json", "pretty json"])
    @pytest.mark.parametrize("options", [{}, {"key": "file://both"}], ids=["no key", "the same key"])
    def test_in_each_form(self, tmp_path: Path, form: str, options: dict[str, str]) -> None:
        identity = CA.issue()
        (tmp_path / "both").write_text(bundled(identity, form))
        server = serve(tmp_path, cert="file://both", **options)
        assert shown(server) == der(identity)
        assert server.not_after == identity.certificate.not_valid_after_utc.timestamp()
        assert server.may_change

    def test_a_client_gets_each_certificate_once(self, tmp_path: Path) -> None:
        identity = CA.issue()
        (tmp_path / "both").write_text(bundled(identity, "pem") + CA.identity.pem)
        server = serve(tmp_path, cert="file://both", key="file://both")
        pair = server._materials[""].pair
        assert pair is not None
        assert pair.certificates.count("BEGIN CERTIFICATE") == 2
        assert "PRIVATE" not in pair.certificates

    def test_a_host_name_has_its_own(self, tmp_path: Path) -> None:
        one, other = CA.issue(), CA.issue("other.example")
        own = {"other.example": {"cert": bundled(other, "json")}}
        server = serve(tmp_path, cert=bundled(one, "pem"), sniOptions=own)
        assert shown(server) == der(one)
        assert shown(server, "other.example") == der(other)

    def test_a_passphrase_beside_the_key(self, tmp_path: Path) -> None:
        identity = CA.issue()
        identity.write(tmp_path, passphrase="open it")
        key = (tmp_path / "server.key").read_text()
        text = json.dumps({"Certificate": identity.pem, "PrivateKey": key, "Passphrase": "open it"})
        assert shown(serve(tmp_path, cert=text, passphrase="another")) == der(identity)
        without = json.dumps({"certificate": identity.pem, "privateKey": key})
        assert shown(serve(tmp_path, cert=without, passphrase="open it")) == der(identity)
        with pytest.raises(ConfigError, match=r"options\.cert: the key is encrypted"):
            serve(tmp_path, cert=without)

    async def test_the_next_pair_is_taken_as_a_whole(self, tmp_path: Path) -> None:
        one, other, third = CA.issue(), CA.issue(), CA.issue()
        both = tmp_path / "both"
        both.write_text(bundled(one, "json"))
        server = serve(tmp_path, cert="file://both", key="file://both")
        changed: asyncio.Queue[ServerTls] = asyncio.Queue()
        watching = asyncio.create_task(server.watch(changed.put_nowait, look_every=0.01))
        try:
            for identity, form in ((other, "json"), (third, "pem")):
                both.with_name("next").write_text(bundled(identity, form))
                both.with_name("next").replace(both)
                await asyncio.wait_for(changed.get(), 10)
                assert shown(server) == der(identity)
        finally:
            watching.cancel()

    def test_one_reading_gives_both(self, tmp_path: Path) -> None:
        """A secret that changes with each reading never gives a key of another certificate."""
        pairs = iter([CA.issue(), CA.issue()])
        found = Changing(tmp_path, {}, lambda: bundled(next(pairs), "json"))
        options = SmtpOptions.model_validate({"key": "secretsmanager:relay", "cert": "secretsmanager:relay"})
        assert ServerTls(options, "mx.server.example", found, "options").not_after


class Changing(SecretResolver):
    """Resolves each reference to what comes next."""

    def __init__(self, folder: Path, environ: dict[str, str], take: Callable[[], str]) -> None:
        super().__init__(folder, environ)
        object.__setattr__(self, "_take", take)

    def __call__(self, reference: str) -> str:
        return self._take()  # type: ignore[attr-defined, no-any-return]  # slots of the frozen parent


def bundled(identity: Identity, form: str) -> str:
    """Certificate and key in one text."""
    key, certificate = identity.key_pem(), identity.pem
    value = {"certificate": certificate, "certificateChain": CA.identity.pem, "privateKey": key}
    return {
        "pem": certificate + key,
        "reversed pem": key + certificate,
        "json": json.dumps(value),
        "pretty json": json.dumps({"cert": certificate, "private_key": key, "note": None}, indent=1),
    }[form]


class TestSelfSigned:
    def test_it_is_made_with_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        _tell.cache_clear()
        server = serve(tmp_path)
        assert "self-signed certificate for mx.server.example" in caplog.text
        with pytest.raises(ssl.SSLCertVerificationError):
            shake(server, CA.context())
        assert not server.may_change
        assert server.not_after is not None

    def test_it_is_the_same_for_all_workers_and_after_a_reload(self, tmp_path: Path) -> None:
        assert shown(serve(tmp_path)) == shown(serve(tmp_path))

    @pytest.mark.parametrize(
        "name", ["mx.server.example", "[192.0.2.1]", "[2001:db8::1]", "x" * 60 + ".server.example"]
    )
    def test_its_name(self, name: str) -> None:
        pair = self_signed(name)
        context = ssl.create_default_context(cadata=pair.certificates)
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = type("Server", (), {"context": made})()
        _load(made, pair.key + pair.certificates)
        shake(server, context, name.strip("[]"))  # verified, host name included
        assert end_of(pair) is not None

    def test_it_is_only_for_clients_that_can_use_it(self) -> None:
        assert wanted(SmtpOptions())
        assert wanted(SmtpOptions.model_validate({"hideSTARTTLS": True}))
        assert wanted(SmtpOptions.model_validate({"secure": True, "disabledCommands": ["STARTTLS"]}))
        assert not wanted(SmtpOptions.model_validate({"disabledCommands": ["starttls"]}))


def _load(context: ssl.SSLContext, pem: str) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile("w") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)


class TestVersionsAndCiphers:
    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_what_is_spoken_by_default(self, tmp_path: Path, version: ssl.TLSVersion) -> None:
        client = trusting()
        client.minimum_version = client.maximum_version = version
        shake(serve(tmp_path), client)

    def test_old_versions_when_asked_for(self, tmp_path: Path) -> None:
        client = _old_client()
        with pytest.raises(ssl.SSLError):
            shake(serve(tmp_path), client)
        assert shake(serve(tmp_path, minVersion="TLSv1"), client)[0].version() == "TLSv1"

    def test_bounds(self, tmp_path: Path) -> None:
        client = trusting()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(ssl.SSLError):
            shake(serve(tmp_path, minVersion="TLSv1.3"), client)
        assert shake(serve(tmp_path, maxVersion="TLSv1.2"), trusting())[0].version() == "TLSv1.2"

    def test_ciphers(self, tmp_path: Path) -> None:
        only = "ECDHE-ECDSA-AES128-GCM-SHA256"
        server = serve(tmp_path, ciphers=only, maxVersion="TLSv1.2")
        assert facts(shake(server, trusting())[0], with_client=False).cipher == only
        with pytest.raises(ConfigError, match=r"options\.ciphers"):
            serve(tmp_path, ciphers="NO-SUCH-CIPHER")

    @pytest.mark.parametrize("ours", [True, False])
    def test_whose_order_counts(self, tmp_path: Path, ours: bool) -> None:
        first, second = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"
        server = serve(tmp_path, ciphers=f"{first}:{second}", maxVersion="TLSv1.2", honorCipherOrder=ours)
        client = trusting()
        client.set_ciphers(f"{second}:{first}")
        cipher = shake(server, client)[0].cipher()
        assert cipher is not None
        assert cipher[0] == (first if ours else second)


def _old_client() -> ssl.SSLContext:
    import warnings

    client = trusting()
    client.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1
    return client


class TestNames:
    def test_each_name_its_certificate(self, tmp_path: Path) -> None:
        own, named, starred = CA.issue(), CA.issue("a.example"), CA.issue("*.b.example")
        server = serve(
            tmp_path,
            key=own.key_pem(),
            cert=own.pem,
            sniOptions={
                "A.example": {"key": named.key_pem(), "cert": named.pem},
                "*.b.example": {"key": starred.key_pem(), "cert": starred.pem},
            },
        )
        assert shown(server) == der(own)
        assert shown(server, "a.EXAMPLE") == der(named)
        assert shown(server, "x.b.example") == der(starred)
        assert shown(server, "x.y.b.example") == der(own)
        assert shown(server, "b.example") == der(own)

    def test_names_beyond_ascii_are_what_clients_ask_for(self, tmp_path: Path) -> None:
        own, named, starred = CA.issue(), CA.issue("xn--fa-hia.example"), CA.issue("*.xn--mnchen-3ya.example")
        server = serve(
            tmp_path,
            key=own.key_pem(),
            cert=own.pem,
            sniOptions={
                "Faß.example": {"key": named.key_pem(), "cert": named.pem},
                "*.MÜNCHEN.example": {"key": starred.key_pem(), "cert": starred.pem},
            },
        )
        assert shown(server, "xn--fa-hia.example") == der(named)
        assert shown(server, "fass.example") == der(own)
        assert shown(server, "x.xn--mnchen-3ya.example") == der(starred)

    def test_each_name_its_versions_and_ciphers(self, tmp_path: Path) -> None:
        own = CA.issue("*.mail.example")
        only = "ECDHE-ECDSA-AES256-GCM-SHA384"
        server = serve(
            tmp_path,
            key=own.key_pem(),
            cert=own.pem,
            sniOptions={
                "new.mail.example": {"minVersion": "TLSv1.3"},
                "old.mail.example": {"maxVersion": "TLSv1.2", "ciphers": only},
            },
        )
        client = CA.context()
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        assert server.accepts(shake(server, client, "x.mail.example")[0])
        assert not server.accepts(shake(server, client, "new.mail.example")[0])
        assert not server.accepts(shake(server, CA.context(), "old.mail.example")[0])
        cipher = shake(server, client, "old.mail.example")[0].cipher()
        assert cipher is not None
        assert cipher[0] == only
        assert server.accepts(shake(server, CA.context(), "new.mail.example")[0])


class TestClients:
    SUBJECT: Final = {
        NameOID.COUNTRY_NAME: "DE",
        NameOID.ORGANIZATION_NAME: "Smith, Jones + Co",
        NameOID.COMMON_NAME: "relay",
    }

    def options(self) -> dict[str, Any]:
        own = CA.issue()
        return {"key": own.key_pem(), "cert": own.pem, "ca": CA.identity.pem, "requestCert": True}

    def test_a_verified_client_has_a_subject(self, tmp_path: Path) -> None:
        client = CA.issue("relay", subject=self.SUBJECT).write(tmp_path, "client")
        server = serve(tmp_path, **self.options())
        found = facts(shake(server, CA.context(client))[0], with_client=True)
        assert found.client_subject == r"CN=relay,O=Smith\, Jones \+ Co,C=DE"
        assert found.version == "TLSv1.3"

    def test_one_without_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ssl.SSLError):
            shake(serve(tmp_path, **self.options()))

    def test_one_without_is_let_in_when_told_so(self, tmp_path: Path) -> None:
        server = serve(tmp_path, **self.options(), rejectUnauthorized=False)
        assert facts(shake(server)[0], with_client=True).client_subject is None

    def test_a_stranger_is_refused(self, tmp_path: Path) -> None:
        stranger = Authority("another authority").issue("relay").write(tmp_path, "client")
        with pytest.raises(ssl.SSLError):
            shake(serve(tmp_path, **self.options()), CA.context(stranger))

    def test_authorities_may_be_many(self, tmp_path: Path) -> None:
        other = Authority("another authority")
        (tmp_path / "ca.pem").write_text(other.identity.pem)
        options = self.options() | {"ca": [CA.identity.pem, "file://ca.pem"]}
        for authority in (CA, other):
            client = authority.issue("relay").write(tmp_path, "client")
            shake(serve(tmp_path, **options), CA.context(client))
        with pytest.raises(ConfigError, match=r"options\.ca"):
            serve(tmp_path, **(options | {"ca": "nonsense"}))


class TestRenewal:
    async def watched(
        self, server: ServerTls, changes: list[float | None], **times: float
    ) -> asyncio.Task[None]:
        def changed(one: ServerTls) -> None:
            changes.append(one.not_after)

        return asyncio.create_task(server.watch(changed, **{"look_every": 0.01, **times}))

    @staticmethod
    async def until(condition: Any) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    async def test_new_files_are_taken_up(self, tmp_path: Path) -> None:
        first, second = CA.issue(), CA.issue(days=60)
        first.write(tmp_path)
        server = serve(tmp_path, key="file://server.key", cert="file://server.pem")
        in_use = server.context
        changes: list[float | None] = []
        task = await self.watched(server, changes)
        second.write(tmp_path)
        await self.until(lambda: changes)
        assert shown(server) == der(second)
        assert changes == [second.certificate.not_valid_after_utc.timestamp()]
        assert server.context is not in_use, "connections keep the context they began with"
        task.cancel()

    async def test_a_mounted_secret_of_kubernetes_is_taken_up(self, tmp_path: Path) -> None:
        """Its files are links into a folder behind another link, which a kubelet replaces."""
        first, second = CA.issue(), CA.issue(days=60)
        first.write(tmp_path / "..1")
        second.write(tmp_path / "..2")
        (tmp_path / "..data").symlink_to("..1")
        for name in ("server.key", "server.pem"):
            (tmp_path / name).symlink_to(f"..data/{name}")
        server = serve(tmp_path, key="file://server.key", cert="file://server.pem")
        changes: list[float | None] = []
        task = await self.watched(server, changes)
        (tmp_path / "..new").symlink_to("..2")
        (tmp_path / "..new").rename(tmp_path / "..data")
        await self.until(lambda: changes)
        assert shown(server) == der(second)
        task.cancel()

    async def test_halfway_written_files_change_nothing(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        first, second = CA.issue(), CA.issue()
        first.write(tmp_path)
        server = serve(tmp_path, key="file://server.key", cert="file://server.pem")
        changes: list[float | None] = []
        task = await self.watched(server, changes)
        (tmp_path / "server.key").write_text(second.key_pem())
        await self.until(lambda: "the certificate in use stays" in caplog.text)
        assert shown(server) == der(first)
        (tmp_path / "server.pem").unlink()
        await asyncio.sleep(0.05)
        assert shown(server) == der(first)
        (tmp_path / "server.pem").write_text(second.pem)
        await self.until(lambda: changes)
        assert shown(server) == der(second)
        task.cancel()

    async def test_secret_stores_are_asked_again(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        kept = {"ssm:/key": CA.issue()}
        monkeypatch.setattr(
            "functions.options.secrets._fetch",
            lambda reference, scheme: (
                kept["ssm:/key"].key_pem() if reference == "ssm:/key" else kept["ssm:/key"].pem
            ),
        )
        server = serve(tmp_path, key="ssm:/key", cert="ssm:/cert")
        assert server.may_change
        changes: list[float | None] = []
        task = await self.watched(server, changes, resolve_every=0.05)
        kept["ssm:/key"] = CA.issue()
        await self.until(lambda: changes)
        assert shown(server) == der(kept["ssm:/key"])
        task.cancel()

    async def test_what_cannot_change_is_not_watched(self, tmp_path: Path) -> None:
        changes: list[float | None] = []
        async with asyncio.timeout(5):
            await (await self.watched(serve(tmp_path), changes))
