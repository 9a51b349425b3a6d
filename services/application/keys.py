"""API keys: bearer secrets (`libs.bearer`) that begin with `as_`."""

from libs import bearer
from libs.seal import KeyRing

PREFIX = "as_"
HINT_CHARACTERS = 4
"""24 bits, which leaves 154 to be guessed."""


def new_key() -> str:
    return bearer.new_secret(PREFIX)


def hint_of(key: str) -> str:
    """What a list shows of it."""
    return key[len(PREFIX) :][:HINT_CHARACTERS]


def stored_hash(ring: KeyRing, digest: bytes) -> bytes:
    """What the database keeps: without the ring, a stolen table does not even confirm a guess."""
    return ring.blind_index("api_keys", digest.hex())
