"""What a provider credential must look like before it is kept: a wrong one is told now, not by failing messages.

That the provider knows it is not asked: a key may be made known there after it was set here.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.errors import ValidationFailed

MAX_BYTES = 16 * 1024
"""Of a whole secret. Google's files have about 2.4 KiB."""

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096
"""Google's keys have 2048."""

_APPLE_ID = re.compile(r"[A-Z0-9]{10}")
"""Team and key ids in Apple's developer account: ten characters."""
_TOPIC = re.compile(r"[A-Za-z0-9.-]{1,255}")
"""A bundle id (Apple, CFBundleIdentifier)."""
_PROJECT = re.compile(r"[a-z0-9.:-]{1,100}")
"""A project id, which becomes part of FCM's URL; old ones carry a domain (`example.com:name`)."""
_EMAIL = re.compile(r"[^@\s]{1,128}@[^@\s]{1,255}")

_Check = Callable[[str], str | None]


def check(provider: Literal["apns", "fcm"], secret: Mapping[str, Any]) -> None:
    """Raises `ValidationFailed` whose `fields` name each wrong entry, without its value."""
    if len(msgspec.json.encode(secret)) > MAX_BYTES:
        raise ValidationFailed(fields={"secret": f"is larger than {MAX_BYTES} bytes"})
    wrong = {field: reason for field, test in _CHECKS[provider].items() if (reason := _judge(test, secret.get(field)))}
    if wrong:
        raise ValidationFailed(fields=wrong)


def _judge(test: _Check, value: object) -> str | None:
    if value is None:
        return "is required"
    return test(value) if isinstance(value, str) else "must be a string"


def _matches(pattern: re.Pattern[str], reason: str) -> _Check:
    return lambda value: None if pattern.fullmatch(value) else reason


def _p256_key(pem: str) -> str | None:
    key = _private_key(pem)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        return "must be a P-256 private key in PEM (Apple's .p8 file)"
    return None if _signs(key, "ES256") else "must be a key that a provider token can be signed with"


def _rsa_key(pem: str) -> str | None:
    key = _private_key(pem)
    if not isinstance(key, rsa.RSAPrivateKey) or not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return f"must be an RSA private key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits in PEM"
    try:
        whole = load_pem_private_key(pem.encode(), None)  # its numbers are tested against each other
    except ValueError:
        whole = None
    good = isinstance(whole, rsa.RSAPrivateKey) and _signs(whole, "RS256")
    return None if good else "must be a whole RSA private key: its numbers do not fit together"


def _private_key(pem: str) -> object:
    try:
        # An RSA key is tested when its size is known: testing takes the longer the longer it is, without end.
        return load_pem_private_key(pem.encode(), None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


def _signs(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, algorithm: str) -> bool:
    """Whether what it signs its public half verifies."""
    try:
        jwt.decode(jwt.encode({}, key, algorithm), key.public_key(), [algorithm])
    except (jwt.PyJWTError, ValueError):
        return False
    return True


def _https(url: str) -> str | None:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "must be an https URL"
    return None if parts.scheme == "https" and parts.hostname else "must be an https URL"


_CHECKS: dict[str, dict[str, _Check]] = {
    "apns": {
        "team_id": _matches(_APPLE_ID, "must be 10 capital letters and digits"),
        "key_id": _matches(_APPLE_ID, "must be 10 capital letters and digits"),
        "private_key_pem": _p256_key,
        "topic": _matches(_TOPIC, "must be a bundle id"),
    },
    "fcm": {
        "project_id": _matches(_PROJECT, "must be a Google Cloud project id"),
        "client_email": _matches(_EMAIL, "must be an e-mail address"),
        "private_key": _rsa_key,
        "token_uri": _https,
    },
}
