"""What a provider credential must be before it is kept."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from libs.errors import ValidationFailed
from services.application import credentials
from services.application.credentials import check
from services.ingest.credentials import EXAMPLE_APNS, EXAMPLE_FCM
from services.ingest.errors import TOLD


def refusal(provider: Any, secret: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(ValidationFailed) as refused:
        check(provider, secret)
    found: dict[str, str] = refused.value.details["fields"]
    return found


def short_rsa_key(bits: int) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=bits)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def broken_rsa_key() -> str:
    """Its private exponent belongs to another key."""
    key = load_pem_private_key(EXAMPLE_FCM["private_key"].encode(), None)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    assert isinstance(key, rsa.RSAPrivateKey)
    good = key.private_numbers()
    numbers = rsa.RSAPrivateNumbers(good.p, good.q, other.d, good.dmp1, good.dmq1, good.iqmp, good.public_numbers)
    broken = numbers.private_key(unsafe_skip_rsa_key_validation=True)
    return broken.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def test_the_examples_of_the_documentation_are_good() -> None:
    check("apns", EXAMPLE_APNS)
    check("fcm", EXAMPLE_FCM)


@pytest.mark.parametrize(
    ("provider", "field", "value", "told"),
    [
        ("apns", "private_key_pem", EXAMPLE_FCM["private_key"], "P-256"),
        ("fcm", "private_key", EXAMPLE_APNS["private_key_pem"], "RSA"),
        ("fcm", "private_key", short_rsa_key(1024), "2048"),
        ("fcm", "private_key", broken_rsa_key(), "whole"),
        ("fcm", "token_uri", "http://example.com", "https"),
        ("fcm", "client_email", "nobody", "e-mail"),
    ],
)
def test_a_refusal_tells_why_also_in_korean(provider: str, field: str, value: str, told: str) -> None:
    good: dict[str, Any] = EXAMPLE_APNS if provider == "apns" else EXAMPLE_FCM
    (reason,) = refusal(provider, {**good, field: value}).values()
    assert told in reason
    assert not TOLD[reason].isascii()


def test_a_key_that_cannot_sign_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_signs", lambda key, algorithm: False)
    for provider, secret in (("apns", EXAMPLE_APNS), ("fcm", EXAMPLE_FCM)):
        (reason,) = refusal(provider, secret).values()
        assert reason in TOLD


def test_a_key_on_another_curve_is_refused() -> None:
    key = ec.generate_private_key(ec.SECP256K1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    assert list(refusal("apns", {**EXAMPLE_APNS, "private_key_pem": pem})) == ["private_key_pem"]
