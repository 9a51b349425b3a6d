"""What a provider credential must look like before it is kept: a wrong one is told now, not by failing messages."""

import re
from collections.abc import Callable, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from libs.errors import ValidationFailed

MAX_BYTES = 16 * 1024
"""Of a whole secret. Google's files have about 2.4 KiB."""

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
    good = isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)
    return None if good else "must be a P-256 private key in PEM (Apple's .p8 file)"


def _rsa_key(pem: str) -> str | None:
    key = _private_key(pem)
    good = isinstance(key, rsa.RSAPrivateKey) and key.key_size >= 2048
    return None if good else "must be an RSA private key in PEM"


def _private_key(pem: str) -> object:
    try:
        return load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None


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
