"""SQL of key rotation: pages of wrapped data keys by primary key, of all applications at once.

The one part of the service that does not carry the application: it serves the installation, not a tenant.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from libs.pg import Connection

Table = Literal["subscriptions", "data_keys"]

PAGE_OF_SUBSCRIPTIONS = """
SELECT id::text AS id, uuid_send(key_id) AS key_id, wrapped_key AS wrapped FROM subscription.subscriptions
WHERE id > $1::uuid AND wrapped_key IS NOT NULL ORDER BY id LIMIT $2
"""
PAGE_OF_DATA_KEYS = """
SELECT id::text AS id, uuid_send(id) AS key_id, wrapped FROM subscription.data_keys
WHERE id > $1::uuid ORDER BY id LIMIT $2
"""

# Only where the wrapping is still the one that was read: an erasure, an identification or a new token that came between
# stays as it is. Locked in id order, so that two batches cannot wait for each other.
REWRAP_SUBSCRIPTIONS = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS given (id, old, new)
), locked AS MATERIALIZED (
    SELECT id FROM subscription.subscriptions WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE subscription.subscriptions AS s SET wrapped_key = given.new
FROM given JOIN locked USING (id)
WHERE s.id = given.id AND s.wrapped_key = given.old
"""
REWRAP_DATA_KEYS = """
WITH given AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::bytea[]) AS given (id, old, new)
), locked AS MATERIALIZED (
    SELECT id FROM subscription.data_keys WHERE id = ANY ($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
)
UPDATE subscription.data_keys AS k SET wrapped = given.new
FROM given JOIN locked USING (id)
WHERE k.id = given.id AND k.wrapped = given.old
"""
ESTIMATE = """
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = ('subscription.' || $1::text)::regclass
"""

_PAGE: dict[Table, str] = {"subscriptions": PAGE_OF_SUBSCRIPTIONS, "data_keys": PAGE_OF_DATA_KEYS}
_REWRAP: dict[Table, str] = {"subscriptions": REWRAP_SUBSCRIPTIONS, "data_keys": REWRAP_DATA_KEYS}


class WrappedKey(NamedTuple):
    id: str
    """Of the row."""
    key_id: bytes
    wrapped: bytes


async def page(c: Connection, table: Table, after: str, limit: int) -> list[WrappedKey]:
    rows = await c.fetch(_PAGE[table], after, limit)
    return [WrappedKey(row["id"], row["key_id"], row["wrapped"]) for row in rows]


async def rewrap(c: Connection, table: Table, rows: Sequence[tuple[str, bytes, bytes]]) -> int:
    """Rows of (id, wrapping that was read, new one). Returns how many were changed."""
    tag = await c.execute(_REWRAP[table], *zip(*rows, strict=True))
    return int(tag.rsplit(" ", 1)[1])


async def estimate(c: Connection, table: Table) -> int:
    """Rows of the table, as of its last analysis."""
    return int(await c.fetchval(ESTIMATE, table))
