"""SQL that finds all that is held about a person, and nothing of anybody else."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from libs.pg import Connection, Row
from services.subscription.queries import columns
from services.subscription.queries_reading import VIEW

HELD_SUBSCRIPTIONS = f"""
SELECT {VIEW}, (date_part('epoch', s.archived_at) * 1000)::bigint AS archived_at_ms
FROM subscription.subscriptions AS s
WHERE s.user_id = $2 AND s.application_id = $1 AND ($3::uuid IS NULL OR s.id > $3)
ORDER BY s.id LIMIT $4
"""  # noqa: S608 - made of constants
EVER_LINKED = """
SELECT id::text AS id, user_id::text AS owner FROM subscription.subscriptions
WHERE application_id = $1 AND user_id = $2
UNION
SELECT s.id::text, s.user_id::text FROM subscription.subscription_events AS e
JOIN subscription.subscriptions AS s ON s.id = e.subscription_id AND s.application_id = e.application_id
WHERE e.application_id = $1 AND e.data ->> 'user_id' = $2::text AND e.kind IN ('user_linked', 'user_unlinked')
"""
LINKS = """
SELECT subscription_id::text AS subscription_id, position, kind, data ->> 'user_id' AS user_id
FROM subscription.subscription_events
WHERE subscription_id = ANY ($2::uuid[]) AND application_id = $1 AND kind IN ('user_linked', 'user_unlinked')
ORDER BY subscription_id, position
"""
KEYS_OF = """
SELECT uuid_send(id) AS id FROM subscription.data_keys WHERE user_id = $2 AND application_id = $1 ORDER BY id
"""
HISTORY = """
SELECT found.* FROM unnest($2::uuid[], $3::bigint[], $4::bigint[]) AS span (subscription_id, first, last)
CROSS JOIN LATERAL (
    SELECT e.subscription_id::text AS subscription_id, e.position, e.kind, e.actor, e.source, e.reason, e.data,
        (date_part('epoch', e.occurred_at) * 1000)::bigint AS occurred_at_ms
    FROM subscription.subscription_events AS e
    WHERE e.subscription_id = span.subscription_id AND e.application_id = $1
        AND e.position BETWEEN greatest(span.first, $5::bigint + 1) AND span.last
    ORDER BY e.position LIMIT $6
) AS found
ORDER BY found.position
LIMIT $6
"""
END = 2**63 - 1
"""Beyond every position."""


class Span(NamedTuple):
    """Positions of a subscription's history, both ends included."""

    subscription_id: str
    first: int
    last: int


async def held_subscriptions(
    c: Connection, application_id: str, user_id: str, after: str | None, limit: int
) -> list[dict[str, Any]]:
    """Fields of `libs.rpc.SubscriptionView` and `archived_at_ms`, of all the user's, by id."""
    return [dict(row) for row in await c.fetch(HELD_SUBSCRIPTIONS, application_id, user_id, after, limit)]


async def ever_linked(c: Connection, application_id: str, user_id: str) -> dict[str, str | None]:
    """Subscriptions that are or were the user's, each with whose it is now."""
    return {row["id"]: row["owner"] for row in await c.fetch(EVER_LINKED, application_id, user_id)}


async def links(c: Connection, application_id: str, subscription_ids: Sequence[str]) -> list[Row]:
    """Each change of owner, in the order of subscriptions and positions."""
    return await c.fetch(LINKS, application_id, subscription_ids)


async def keys_of(c: Connection, application_id: str, user_id: str) -> list[bytes]:
    """Ids of all data keys under which something of the user's is sealed."""
    return [row["id"] for row in await c.fetch(KEYS_OF, application_id, user_id)]


async def history(c: Connection, application_id: str, spans: Sequence[Span], after: int, limit: int) -> list[Row]:
    """Events within the spans, oldest first, beyond the position `after`."""
    return await c.fetch(HISTORY, application_id, *columns(spans), after, limit) if spans else []
