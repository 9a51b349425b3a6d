"""HTTPS with the gateway's own certificate."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from libs.config import SettingsError
from services.ingest.settings import GatewayHttp
from services.ingest.tls import context_of
from tests.contract.rest_gateway import Rest

pytest_plugins = ["tests.contract.rest_fixtures"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Self-signed for 127.0.0.1; the key stands beside it as `.key`."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gateway")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "gateway.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.with_suffix(".key").write_bytes(private)
    return path


@pytest.fixture
def http_settings(certificate: Path) -> GatewayHttp:
    return GatewayHttp(tls_cert_file=str(certificate), tls_key_file=str(certificate.with_suffix(".key")))


async def test_answers_over_tls_alone(rest: Rest, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with rest.session.get("/healthz", ssl=trusting) as response:
        assert (response.url.scheme, response.status) == ("https", 200)
    plain = response.url.with_scheme("http").with_port(response.url.port)
    with pytest.raises(Exception, match=r"disconnected|reset"):
        await rest.session.get(plain)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_are_refused(rest: Rest, certificate: Path) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    trusting.minimum_version = trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(Exception, match=r"(?i)version|protocol|ssl|reset"):
        await rest.session.get("/healthz", ssl=trusting)


def test_certificate_that_cannot_be_used_names_its_variable(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    for path in (wrong, tmp_path / "missing.pem"):
        with pytest.raises(SettingsError, match="AUTOMATA_HTTP__TLS_CERT_FILE"):
            context_of(GatewayHttp(tls_cert_file=str(path), tls_key_file=str(path)))


def test_nothing_older_than_tls_1_2_is_spoken(http_settings: GatewayHttp) -> None:
    context = context_of(http_settings)
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_without_a_certificate_there_is_no_tls() -> None:
    assert context_of(GatewayHttp()) is None
