"""SQL of key rotation: the wrapped data keys of provider credentials, of all applications at once."""

from collections.abc import Sequence
from typing import NamedTuple

from libs.pg import Connection

PAGE_OF_CREDENTIALS = """
SELECT application_id::text AS application_id, provider, substring(sealed FROM 1 FOR 16) AS key_id, wrapped_key
FROM application.credentials
WHERE (application_id, provider) > ($1::uuid, $2::text)
ORDER BY application_id, provider LIMIT $3
"""
# Only where the wrapping is still the one that was read: a credential set meanwhile stays. In the order of the key.
REWRAP_CREDENTIALS = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[], $4::bytea[])
        AS given (application_id, provider, old, new)
), locked AS MATERIALIZED (
    SELECT c.application_id, c.provider FROM application.credentials AS c
    JOIN given USING (application_id, provider)
    ORDER BY c.application_id, c.provider FOR NO KEY UPDATE OF c
)
UPDATE application.credentials AS c SET wrapped_key = given.new
FROM given JOIN locked USING (application_id, provider)
WHERE c.application_id = given.application_id AND c.provider = given.provider AND c.wrapped_key = given.old
"""
ESTIMATE_CREDENTIALS = """
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'application.credentials'::regclass
"""


class WrappedKey(NamedTuple):
    application_id: str
    provider: str
    key_id: bytes
    wrapped: bytes


async def page(c: Connection, after: tuple[str, str], limit: int) -> list[WrappedKey]:
    rows = await c.fetch(PAGE_OF_CREDENTIALS, *after, limit)
    return [WrappedKey(row["application_id"], row["provider"], row["key_id"], row["wrapped_key"]) for row in rows]


async def rewrap(c: Connection, rows: Sequence[tuple[str, str, bytes, bytes]]) -> int:
    """Rows of (application id, provider, wrapping that was read, new one). Returns how many were changed."""
    tag = await c.execute(REWRAP_CREDENTIALS, *zip(*rows, strict=True))
    return int(tag.rsplit(" ", 1)[1])


async def estimate(c: Connection) -> int:
    """Rows of the table, as of its last analysis."""
    return int(await c.fetchval(ESTIMATE_CREDENTIALS))
