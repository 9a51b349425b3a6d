"""Subscription secrets: what the holder of a `client` key must carry to speak for a subscription."""

from typing import NamedTuple

from libs import bearer, rpc
from libs.coalesce import Coalescer
from libs.errors import AuthenticationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.seal import KeyRing
from services.subscription import queries_reading

PREFIX = "ss_"
_DIGEST_BYTES = 32


class Secret(NamedTuple):
    text: str
    """Shown once."""
    stored_hash: bytes


def new_secret(ring: KeyRing) -> Secret:
    text = bearer.new_secret(PREFIX)
    return Secret(text, stored_hash(ring, bearer.digest_of(text)))


def stored_hash(ring: KeyRing, digest: bytes) -> bytes:
    """What the database keeps: without the ring, a stolen table does not even confirm a guess."""
    return ring.blind_index("subscription_secrets", digest.hex())


class Secrets:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring
        self._coalescer = Coalescer[tuple[str, bytes], str | None](self._find, concurrency=2)

    async def verify(self, request: rpc.VerifySecret) -> rpc.Bearer:
        """Raises `AuthenticationFailed`."""
        found = None
        if is_id(request.application_id) and len(request.digest) == _DIGEST_BYTES:
            hashed = stored_hash(self._ring, request.digest)
            found = await self._coalescer.submit((request.application_id.lower(), hashed))
        if found is None:
            raise AuthenticationFailed
        return rpc.Bearer(found)

    async def _find(self, batch: list[tuple[str, bytes]]) -> list[str | Exception | None]:
        async with self._pool.connection() as c:
            found = await queries_reading.find_secrets(c, list(dict.fromkeys(batch)))
        return [found.get(each) for each in batch]
