"""Tokens by which an application's back end vouches for its users."""

import base64
import hashlib
import hmac
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from libs.errors import PermissionDenied
from services.ingest.auth import Caller
from services.ingest.identity import LEEWAY, MAX_TOKEN, verify

APP = "0199a1b2-0000-7000-8000-000000000001"
USER = "user-1"
EC_KEY = ec.generate_private_key(ec.SECP256R1())
RSA_KEY = rsa.generate_private_key(65537, 2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return str(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode())


def caller(key: Any = EC_KEY, *, scopes: tuple[str, ...] = ("client",), required: bool = True) -> Caller:
    return Caller(
        application_id=APP,
        actor="key:k",
        scopes=frozenset(scopes),
        identity_required=required,
        identity_public_key=pem(key) if key is not None else None,
    )


def token(key: Any = EC_KEY, algorithm: str = "ES256", **claims: Any) -> str:
    said = {"sub": USER, "iss": APP, "exp": time.time() + 60, **claims}
    return jwt.encode({name: value for name, value in said.items() if value is not None}, key, algorithm)


def refused(who: Caller, given: str | None, external_id: str = USER) -> bool:
    try:
        verify(who, given, external_id)
    except PermissionDenied:
        return True
    return False


@pytest.mark.parametrize(("key", "algorithm"), [(EC_KEY, "ES256"), (RSA_KEY, "RS256"), (ED_KEY, "EdDSA")])
def test_good_token_of_each_kind(key: Any, algorithm: str) -> None:
    assert not refused(caller(key), token(key, algorithm))


@pytest.mark.parametrize(
    "claims", [{"iss": None, "aud": APP}, {"iss": "shop", "aud": ["x", APP]}, {"iss": APP, "aud": "shop"}]
)
def test_application_is_issuer_or_audience(claims: dict[str, Any]) -> None:
    assert not refused(caller(), token(**claims))


@pytest.mark.parametrize("audience", [None, 5, True, {APP: 1}, [5, {}]])
def test_audience_of_another_form_names_nobody(audience: object) -> None:
    said = {"sub": USER, "aud": audience, "exp": time.time() + 60}
    assert refused(caller(), jwt.encode(said, EC_KEY, "ES256"))
    assert not refused(caller(), jwt.encode({**said, "iss": APP}, EC_KEY, "ES256"))


def test_clocks_may_differ_a_little() -> None:
    assert not refused(caller(), token(exp=time.time() - LEEWAY + 5))
    assert refused(caller(), token(exp=time.time() - LEEWAY - 5))


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": None},
        {"exp": "soon"},
        {"nbf": time.time() + 600},
        {"sub": None},
        {"sub": "user-2"},
        {"sub": ""},
        {"iss": None},
        {"iss": "shop", "aud": "shop"},
        {"iss": None, "aud": ["shop"]},
        {"iss": None, "aud": APP + " "},
    ],
)
def test_wrong_claims(claims: dict[str, Any]) -> None:
    assert refused(caller(), token(**claims))


@pytest.mark.parametrize("given", [None, "", "x", "a.b.c", "한국", "x" * (MAX_TOKEN + 1), token() + "x", token()[:-4]])
def test_what_is_no_token(given: str | None) -> None:
    assert refused(caller(), given)


def test_token_of_another_key() -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    assert refused(caller(), token(other))
    assert refused(caller(), token(RSA_KEY, "RS256"))


@pytest.mark.parametrize("algorithm", ["none", "HS256", "PS256", "RS512", "ES384"])
def test_token_does_not_choose_its_algorithm(algorithm: str) -> None:
    """Signed with what an attacker has: nothing, or the public key taken for a shared secret."""

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    signed = f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part({'sub': USER, 'iss': APP, 'exp': time.time() + 60})}"
    for key in (EC_KEY, RSA_KEY):
        mac = hmac.digest(pem(key).encode(), signed.encode(), hashlib.sha256)
        for signature in ("", base64.urlsafe_b64encode(mac).rstrip(b"=").decode()):
            assert refused(caller(key), f"{signed}.{signature}")


def test_unusable_public_key_lets_nobody_in() -> None:
    assert refused(caller(None), token())
    assert refused(caller(ed448.Ed448PrivateKey.generate()), token())
    assert refused(caller(ec.generate_private_key(ec.SECP384R1())), token())


def test_is_asked_of_client_keys_of_applications_that_want_it_alone() -> None:
    assert not refused(caller(required=False), None)
    assert not refused(caller(scopes=("manage",)), None)
    with pytest.raises(PermissionDenied) as told:
        verify(caller(), None, USER)
    assert told.value.details == {"reason": "identity_token"}
