"""The public key by which an application's back end vouches for its users."""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from libs.errors import ValidationFailed

FIELD = "identity_public_key"
MAX_CHARACTERS = 8192
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 8192
"""Verifying under a longer one would keep the gateway busy."""


def checked(pem: str) -> str:
    """The key alone, in PEM. Raises `ValidationFailed` for what is no public key for ES256, RS256 or EdDSA."""
    if "PRIVATE KEY" in pem:
        raise ValidationFailed(fields={FIELD: "is a private key; give the public one, and take this one out of use"})
    try:
        key = load_pem_public_key(pem[:MAX_CHARACTERS].encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValidationFailed(fields={FIELD: "must be a public key in PEM"}) from None
    if not _is_suited(key):
        raise ValidationFailed(fields={FIELD: "must be a P-256, an RSA (2048 to 8192 bits) or an Ed25519 key"})
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _is_suited(key: object) -> bool:
    match key:
        case ec.EllipticCurvePublicKey():
            return isinstance(key.curve, ec.SECP256R1)
        case rsa.RSAPublicKey():
            return MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS
        case _:
            return isinstance(key, ed25519.Ed25519PublicKey)
