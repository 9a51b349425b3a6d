"""SQL about users: who they are, and whose a subscription is.

Transactions that touch a person take locks in one order, and so cannot deadlock: users by id, new users by external id,
subscriptions by id, data keys by id. Whoever links a subscription holds its user with FOR KEY SHARE; whoever erases the
user takes the row alone, and so finds everything that was linked.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from libs.pg import Connection
from services.subscription.queries import UserName, columns
from services.subscription.queries_reading import VIEW

# finding and making ---------------------------------------------------------------------------------------------------

# Our own id before the application's: an application may use UUIDs of its own as external ids.
FIND_PERSONS = """
SELECT asked.application_id::text AS application_id, asked.name, found.id::text AS id, found.external_id,
    (date_part('epoch', found.created_at) * 1000)::bigint AS created_at_ms,
    (date_part('epoch', found.last_active_at) * 1000)::bigint AS last_active_at_ms
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS asked (application_id, name, id)
CROSS JOIN LATERAL (
    SELECT 1 AS rank, users.* FROM subscription.users
    WHERE users.id = asked.id AND users.application_id = asked.application_id AND users.erased_at IS NULL
    UNION ALL
    SELECT 2 AS rank, users.* FROM subscription.users
    WHERE users.application_id = asked.application_id AND users.external_id = asked.name
    ORDER BY rank LIMIT 1
) AS found
"""
HOLD_PERSONS = """
SELECT id::text AS id FROM subscription.users
WHERE id = ANY ($2::uuid[]) AND application_id = ANY ($1::uuid[]) AND erased_at IS NULL
ORDER BY id
FOR KEY SHARE
"""
# In the order of the unique index, so that two batches cannot wait for each other.
INSERT_PERSONS = """
WITH fresh AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::bytea[])
        AS fresh (id, application_id, external_id, key_id, wrapped)
), made AS (
    INSERT INTO subscription.users (id, application_id, external_id, key_id, last_active_at)
    SELECT id, application_id, external_id, key_id, now()
    FROM fresh ORDER BY application_id, external_id COLLATE "C"
    ON CONFLICT DO NOTHING
    RETURNING id
), keyed AS (
    INSERT INTO subscription.data_keys (id, application_id, wrapped, user_id)
    SELECT key_id, application_id, wrapped, id FROM fresh JOIN made USING (id)
)
SELECT id::text AS id FROM made
"""
TOUCH_PERSONS = """
UPDATE subscription.users SET last_active_at = now()
WHERE id IN (
    SELECT id FROM subscription.users
    WHERE id = ANY ($2::uuid[]) AND application_id = ANY ($1::uuid[]) AND erased_at IS NULL
        AND (last_active_at IS NULL OR last_active_at < now() - interval '1 minute')
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
)
"""


class Person(NamedTuple):
    id: str
    application_id: str
    external_id: str
    created_at_ms: int
    last_active_at_ms: int | None
    created: bool = False


class NewPerson(NamedTuple):
    """One row, its fields in the order of INSERT_PERSONS."""

    id: str
    application_id: str
    external_id: str
    key_id: str
    """Hexadecimal."""
    wrapped: bytes


async def find_persons(c: Connection, asked: Mapping[UserName, str | None]) -> dict[UserName, Person]:
    """`asked`: each name with itself where it is a UUID, so that it may be our id. Those erased are not found."""
    if not asked:
        return {}
    rows = await c.fetch(FIND_PERSONS, [a.application_id for a in asked], [a.name for a in asked], list(asked.values()))
    return {
        UserName(row["application_id"], row["name"]): Person(
            row["id"], row["application_id"], row["external_id"], row["created_at_ms"], row["last_active_at_ms"]
        )
        for row in rows
    }


async def hold_persons(c: Connection, persons: Collection[Person]) -> set[str]:
    """Ids of those that are there, and cannot be erased until this transaction ends."""
    if not persons:
        return set()
    rows = await c.fetch(HOLD_PERSONS, list({p.application_id for p in persons}), list({p.id for p in persons}))
    return {row["id"] for row in rows}


async def insert_persons(c: Connection, persons: Sequence[NewPerson]) -> set[str]:
    """Ids of those made, with their keys. Those that somebody else made meanwhile are left alone."""
    return {row["id"] for row in await c.fetch(INSERT_PERSONS, *columns(persons))}


async def touch_persons(c: Connection, persons: Collection[Person]) -> None:
    """They are active now; exact to a minute, so that a busy user is not a write each time."""
    await c.execute(TOUCH_PERSONS, list({p.application_id for p in persons}), list({p.id for p in persons}))


# their subscriptions --------------------------------------------------------------------------------------------------

KNOWN_SUBSCRIPTIONS = """
SELECT s.id::text AS id, s.application_id::text AS application_id
FROM unnest($1::uuid[], $2::uuid[]) AS asked (application_id, id)
JOIN subscription.subscriptions AS s
    ON s.id = asked.id AND s.application_id = asked.application_id AND s.archived_at IS NULL
"""
SUBSCRIPTIONS_OF = f"""
SELECT {VIEW} FROM subscription.subscriptions AS s
WHERE s.user_id = $2 AND s.application_id = $1 AND s.archived_at IS NULL
ORDER BY s.id DESC LIMIT $3
"""  # noqa: S608 - made of constants


async def known_subscriptions(c: Connection, asked: Sequence[tuple[str, str]]) -> set[tuple[str, str]]:
    """Of pairs (application id, subscription id) those that are there."""
    if not asked:
        return set()
    rows = await c.fetch(KNOWN_SUBSCRIPTIONS, *columns(asked))
    return {(row["application_id"], row["id"]) for row in rows}


async def subscriptions_of(c: Connection, application_id: str, user_id: str, limit: int) -> list[dict[str, Any]]:
    """Fields of `libs.rpc.SubscriptionView`, newest first."""
    return [dict(row) for row in await c.fetch(SUBSCRIPTIONS_OF, application_id, user_id, limit)]
