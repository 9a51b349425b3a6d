"""Apple's provider tokens (JWT, ES256) and what APNs says about bad ones.

Source: "Establishing a token-based connection to APNs": header `{alg: ES256, kid}`, claims `{iss, iat}`, at most one
hour old, one team per connection.
"""

from collections.abc import Callable

import jwt
from msgspec import Struct

from services.sandbox.tenants import Tenants

LIFE = 3600.0
"""Seconds after `iat` until ExpiredProviderToken."""
SKEW = 300.0
"""Seconds that `iat` may lie ahead of our clock."""
MAX_TOKENS = 4096
MAX_CONNECTIONS = 4096
MAX_TOKEN_LENGTH = 4096


class Signer(Struct, frozen=True, gc=False):
    team_id: str
    key_id: str
    issued_at: float


class _Bond(Struct, frozen=True, gc=False):
    """The signer of a connection's first request. `socket` tells a new connection on a re-used port from the old."""

    socket: int
    signer: Signer


class ProviderTokens:
    """Verdicts on provider tokens. A signature is checked once per token text; the verdicts kept are bounded."""

    def __init__(self, tenants: Tenants, clock: Callable[[], float], socket_of: Callable[[str], int]) -> None:
        self._tenants = tenants
        self._clock = clock
        self._socket_of = socket_of
        self._generation = tenants.generation
        self._known: dict[str, Signer | str] = {}
        self._bonds: dict[str, _Bond] = {}

    def check(self, authorization: str | None, peer: str) -> Signer | str:
        """The signer of a request on connection `peer`, or Apple's reason to refuse it."""
        if not authorization:
            return "MissingProviderToken"
        if self._generation != self._tenants.generation:
            self._generation = self._tenants.generation
            self._known.clear()
        found = self._known.get(authorization)
        if found is None:
            found = self._verify(authorization)
            if len(self._known) >= MAX_TOKENS:
                del self._known[next(iter(self._known))]
            self._known[authorization] = found
        if isinstance(found, str):
            return found
        if self._clock() - found.issued_at > LIFE:
            return "ExpiredProviderToken"
        return self._bond(found, peer)

    def _verify(self, authorization: str) -> Signer | str:
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or len(token) > MAX_TOKEN_LENGTH:
            return "InvalidProviderToken"
        try:
            key_id = jwt.get_unverified_header(token).get("kid", "")
            team_id = jwt.decode(token, options={"verify_signature": False}).get("iss", "")
            key = self._tenants.apns_key(str(team_id), str(key_id))
            if key is None and self._tenants.refresh():
                key = self._tenants.apns_key(str(team_id), str(key_id))
            if key is None:
                return "InvalidProviderToken"
            claims = jwt.decode(token, key, algorithms=["ES256"], options={"verify_iat": False})
            issued_at = claims["iat"]
        except (jwt.PyJWTError, KeyError):
            return "InvalidProviderToken"
        if not isinstance(issued_at, int | float) or issued_at - self._clock() > SKEW:
            return "InvalidProviderToken"
        return Signer(str(team_id), str(key_id), float(issued_at))

    def _bond(self, signer: Signer, peer: str) -> Signer | str:
        bond = self._bonds.get(peer)
        if bond is None or bond.signer.key_id != signer.key_id or bond.signer.team_id != signer.team_id:
            return self._new_bond(bond, signer, peer)
        return signer

    def _new_bond(self, bond: _Bond | None, signer: Signer, peer: str) -> Signer | str:
        socket = self._socket_of(peer)
        if bond is not None and bond.socket == socket:
            same_team = bond.signer.team_id == signer.team_id
            return "UnrelatedKeyIdInToken" if same_team else "InvalidProviderToken"
        if len(self._bonds) >= MAX_CONNECTIONS:
            del self._bonds[next(iter(self._bonds))]
        self._bonds[peer] = _Bond(socket, signer)
        return signer
