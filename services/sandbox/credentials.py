"""Demo credentials for the sandbox: provider keys with the tenant entries that make them known, and TLS files."""

import ipaddress
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_YEARS = 10
CERTIFICATE_DAYS = 397
"""The longest life that client platforms accept for a server certificate (Apple, HT211025: 398 days)."""


class TlsFiles(NamedTuple):
    ca: Path
    cert: Path
    key: Path


def make_apns_credential(team_id: str, topic: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A signing key for `team_id`: (private `{team_id, key_id, private_key_pem, topic}`, entry of the tenants file)."""
    key = ec.generate_private_key(ec.SECP256R1())
    key_id = "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ23456789") for _ in range(10))
    private = {"team_id": team_id, "key_id": key_id, "private_key_pem": _private_pem(key), "topic": topic}
    tenant = {
        "team_id": team_id,
        "key_id": key_id,
        "public_key_pem": _public_pem(key.public_key()),
        "topics": [topic],
    }
    return private, tenant


def make_fcm_credential(project_id: str, token_uri: str) -> tuple[dict[str, str], dict[str, Any]]:
    """A service account in Google's file format that asks `token_uri` for tokens, and its entry of the tenants file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    email = f"sandbox@{project_id}.iam.gserviceaccount.com"
    account = {
        "type": "service_account",
        "project_id": project_id,
        "private_key_id": secrets.token_hex(20),
        "private_key": _private_pem(key),
        "client_email": email,
        "client_id": str(secrets.randbelow(10**21)).zfill(21),
        "token_uri": token_uri,
    }
    tenant = {
        "project_id": project_id,
        "client_email": email,
        "public_key_pem": _public_pem(key.public_key()),
    }
    return account, tenant


def make_tls(data_dir: Path, hosts: list[str]) -> TlsFiles:
    """Server certificate for `hosts`, signed by the CA in `data_dir` (made if absent): paths of PEM files, mode 0600.

    The CA is kept, so a client that trusts `ca.pem` goes on trusting it; the server certificate is made anew each time.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    data_dir.chmod(0o700)
    files = TlsFiles(data_dir / "ca.pem", data_dir / "cert.pem", data_dir / "key.pem")
    ca_key_file = data_dir / "ca.key"
    if not (files.ca.exists() and ca_key_file.exists()):
        ca_key = ec.generate_private_key(ec.SECP256R1())
        write_private(ca_key_file, _private_pem(ca_key))
        write_private(files.ca, _certificate_pem(_authority(ca_key)))
    ca = x509.load_pem_x509_certificate(files.ca.read_bytes())
    signer = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{ca_key_file} is not the key of a CA made here")
    key = ec.generate_private_key(ec.SECP256R1())
    write_private(files.key, _private_pem(key))
    write_private(files.cert, _certificate_pem(_server_certificate(key, hosts, ca, signer)))
    return files


def write_private(path: Path, text: str) -> None:
    """Write a file only its owner can read, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)


def _authority(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # A name of its own per CA: two authorities with one subject confuse clients that trust both.
    name = _name(f"Automata Signal sandbox CA {secrets.token_hex(4)}")
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _certificate(name, name, key.public_key(), timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )


def _server_certificate(
    key: ec.EllipticCurvePrivateKey, hosts: list[str], ca: x509.Certificate, ca_key: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key())
    return (
        _certificate(_name(hosts[0]), ca.subject, key.public_key(), timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + life)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _public_pem(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> str:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _certificate_pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()
