"""Secrets that are shown once and then carried by whoever got them: a prefix, 30 random characters, and 6 that are
their checksum, after the model of GitHub's tokens.

The prefix lets scanners find a leaked one; the checksum tells, offline, a secret from a look-alike or a typo.
"""

import binascii
import hashlib
import secrets
import string

RANDOM_CHARACTERS = 30
"""178 bits."""
CHECKSUM_CHARACTERS = 6

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


def new_secret(prefix: str) -> str:
    random = "".join(secrets.choice(_ALPHABET) for _ in range(RANDOM_CHARACTERS))
    return f"{prefix}{random}{checksum(random)}"


def checksum(random: str) -> str:
    """CRC-32 of the random part, in base 62."""
    rest = binascii.crc32(random.encode())
    digits = ""
    for _ in range(CHECKSUM_CHARACTERS):
        rest, digit = divmod(rest, len(_ALPHABET))
        digits = _ALPHABET[digit] + digits
    return digits


def digest_of(secret: str) -> bytes:
    """What is presented to the service that keeps its keyed hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
