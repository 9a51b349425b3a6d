"""Apple's provider tokens: ES256 JWTs, minted seldom.

Apple takes a token for one hour from its `iat` and wants no more than one new token in 20 minutes, counted per team
("Establishing a token-based connection to APNs"; Apple engineers in forum threads 675879 and 702056). Several processes
send for one team, and a process may be restarted often: so the time is cut into windows, and the signature is the
deterministic one of RFC 6979. All processes then hold the very same token without a word between them.
"""

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm
from jwt.api_jws import PyJWS
from jwt.utils import der_to_raw_signature

from libs.clock import Clock

WINDOW = 30 * 60
BACKDATE = 10 * 60
"""Seconds. A token is 10 to 40 minutes old while in use: valid too where clocks differ by some minutes."""
MINT_INTERVAL = 20 * 60


class MalformedKey(ValueError):
    """The private key is no P-256 key in PEM."""


class _DeterministicEs256(ECAlgorithm):
    def sign(self, msg: bytes, key: ec.EllipticCurvePrivateKey | ec.EllipticCurvePublicKey) -> bytes:
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise TypeError("signing takes the private key")
        return der_to_raw_signature(key.sign(msg, ec.ECDSA(SHA256(), deterministic_signing=True)), key.curve)


def _signer() -> PyJWS:
    signer = PyJWS(algorithms=[])
    signer.register_algorithm("ES256", _DeterministicEs256(ECAlgorithm.SHA256))
    return signer


_SIGNER = _signer()


class ProviderToken:
    """The token of one (team, key). Raises `MalformedKey` when made."""

    def __init__(self, team_id: str, key_id: str, private_key_pem: str, clock: Clock) -> None:
        self._key = _load(private_key_pem)
        self._team_id = team_id
        self._key_id = key_id
        self._clock = clock
        self._issued_at = 0
        self._authorization = ""

    def authorization(self) -> str:
        """The value of the `authorization` header."""
        now = self._clock.time()
        if not 0 <= now - self._issued_at < WINDOW + BACKDATE:
            self._mint(int((now - BACKDATE) // WINDOW) * WINDOW)
        return self._authorization

    def renew(self, refused: str) -> bool:
        """True: there is a newer token now than the one that Apple called expired. False: that one is too young."""
        if refused != self._authorization:
            return True
        now = self._clock.time()
        if now - self._issued_at < MINT_INTERVAL:
            return False
        self._mint(int(now))
        return True

    def _mint(self, issued_at: int) -> None:
        claims = msgspec.json.encode({"iss": self._team_id, "iat": issued_at})
        token = _SIGNER.encode(claims, self._key, algorithm="ES256", headers={"kid": self._key_id})
        self._authorization = f"bearer {token}"
        self._issued_at = issued_at


def _load(pem: str) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise MalformedKey("not a private key in PEM") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise MalformedKey("not a P-256 key")
    return key
