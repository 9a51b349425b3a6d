"""Identity verification: an application's back end vouches for its users by a signed token (JWT, RFC 7519).

A `client` key lies in every copy of an app and proves nothing; where the application asks for it, the key may name a
person only with such a token: `sub` is the person's external id, `iss` or `aud` our id of the application, and `exp`
must be there.
"""

from functools import lru_cache

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from libs.errors import PermissionDenied
from services.ingest.auth import Caller

LEEWAY = 10
"""Seconds by which the clock of an application's back end may be off."""
MAX_TOKEN = 8192
"""Characters."""

PublicKey = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey


def verify(caller: Caller, token: str | None, external_id: str) -> None:
    """Raises `PermissionDenied` where the application requires a token, and a `client` key lacks a good one."""
    if not (caller.bearer_only and caller.identity_required):
        return
    if not token or len(token) > MAX_TOKEN or not _is_good(caller, token, external_id):
        raise PermissionDenied(reason="identity_token")


def _is_good(caller: Caller, token: str, external_id: str) -> bool:
    found = _public_key(caller.identity_public_key or "")
    if found is None:
        return False
    key, algorithm = found
    # The algorithm is the key's, whatever the token says of itself.
    options: jwt.types.Options = {"require": ["exp", "sub"], "verify_aud": False}
    try:
        claims = jwt.decode(token, key, algorithms=[algorithm], options=options, leeway=LEEWAY)
    except jwt.PyJWTError:
        return False
    audience = claims.get("aud")
    names = [claims.get("iss"), *(audience if isinstance(audience, list) else [audience])]
    return claims["sub"] == external_id and caller.application_id in names


@lru_cache(maxsize=256)
def _public_key(pem: str) -> tuple[PublicKey, str] | None:
    """The key and its algorithm; None for what is none of the three kinds."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1):
        return key, "ES256"
    if isinstance(key, RSAPublicKey):
        return key, "RS256"
    return (key, "EdDSA") if isinstance(key, Ed25519PublicKey) else None
