"""API keys: `as_`, 30 random characters, and 6 that are their checksum, after the model of GitHub's tokens.

The prefix lets secret scanners find a leaked key; the checksum tells, offline, a key from a look-alike or a typo.
"""

import binascii
import hashlib
import secrets
import string

from libs.seal import KeyRing

PREFIX = "as_"
RANDOM_CHARACTERS = 30
"""178 bits."""
CHECKSUM_CHARACTERS = 6
HINT_CHARACTERS = 4
"""24 bits, which leaves 154 to be guessed."""

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_key() -> str:
    random = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{PREFIX}{random}{checksum(random)}"


def checksum(random: str) -> str:
    """CRC-32 of the random part, in base 62."""
    rest = binascii.crc32(random.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def hint_of(key: str) -> str:
    """What a list shows of it."""
    return key[len(PREFIX) :][:HINT_CHARACTERS]


def digest_of(key: str) -> bytes:
    """What the gateway presents instead of the key."""
    return hashlib.sha256(key.encode()).digest()


def stored_hash(ring: KeyRing, digest: bytes) -> bytes:
    """What the database keeps: without the ring, a stolen table does not even confirm a guess."""
    return ring.blind_index("api_keys", digest.hex())
