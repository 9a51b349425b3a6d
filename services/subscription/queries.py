"""All SQL of the subscription service. Every statement carries the application."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from libs.pg import Connection

INDEXES_ONLY = "SELECT set_config('enable_seqscan', 'off', false)"
"""Run on each new connection. Every statement here looks rows up by key; a plan that was made while a table was empty
would read all of it for each recipient once it has grown."""

# registration ---------------------------------------------------------------------------------------------------------

# Our own id before the application's: an application may use UUIDs of its own as external ids.
FIND_USERS = """
SELECT asked.application_id::text AS application_id, asked.name, found.id::text AS id, found.external_id,
    found.key_id, data_keys.wrapped
FROM unnest($1::uuid[], $2::text[], $3::uuid[]) AS asked (application_id, name, id)
CROSS JOIN LATERAL (
    SELECT 1 AS rank, users.* FROM subscription.users
    WHERE users.id = asked.id AND users.application_id = asked.application_id
    UNION ALL
    SELECT 2 AS rank, users.* FROM subscription.users
    WHERE users.application_id = asked.application_id AND users.external_id = asked.name
    ORDER BY rank LIMIT 1
) AS found
JOIN subscription.data_keys ON data_keys.id = found.key_id AND data_keys.application_id = found.application_id
"""

# In the order of the unique index, so that two batches cannot wait for each other.
INSERT_USERS = """
WITH fresh AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::bytea[])
        AS fresh (id, application_id, external_id, key_id, wrapped)
), made AS (
    INSERT INTO subscription.users (id, application_id, external_id, key_id)
    SELECT id, application_id, external_id, key_id FROM fresh ORDER BY application_id, external_id COLLATE "C"
    ON CONFLICT (application_id, external_id) DO NOTHING
    RETURNING id
)
INSERT INTO subscription.data_keys (id, application_id, wrapped)
SELECT key_id, application_id, wrapped FROM fresh JOIN made USING (id)
"""

# Status 1: subscribed. A token that is taken is left out, whoever else is registering it at this moment.
INSERT_SUBSCRIPTIONS = """
WITH fresh AS (
    SELECT * FROM unnest(
        $1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::uuid[], $6::bytea[], $7::bytea[], $8::text[], $9::text[],
        $10::bytea[], $11::jsonb[], $12::boolean[], $13::text[], $14::jsonb[]
    ) AS fresh (
        id, application_id, type, user_id, key_id, wrapped, token_hash, token_hint, token_kind,
        sealed_token, device_info, ad_consent, actor, note
    )
), made AS (
    INSERT INTO subscription.subscriptions (
        id, application_id, type, status, user_id, key_id, token_hash, token_hint, token_kind,
        sealed_token, device_info, ad_consent, subscribed_at
    )
    SELECT id, application_id, type, 1, user_id, key_id, token_hash, token_hint, token_kind,
        sealed_token, device_info, ad_consent, now()
    FROM fresh ORDER BY application_id, token_hash
    ON CONFLICT (application_id, token_hash) WHERE archived_at IS NULL DO NOTHING
    RETURNING id, (date_part('epoch', created_at) * 1000)::bigint AS created_at_ms
), keyed AS (
    INSERT INTO subscription.data_keys (id, application_id, wrapped)
    SELECT key_id, application_id, wrapped FROM fresh JOIN made USING (id) WHERE wrapped IS NOT NULL
), noted AS (
    INSERT INTO subscription.subscription_events (subscription_id, application_id, kind, actor, data)
    SELECT id, application_id, 'created', actor, note FROM fresh JOIN made USING (id)
)
SELECT id::text AS id, created_at_ms FROM made
"""

FIND_BY_TOKEN = """
SELECT s.application_id::text AS application_id, s.token_hash, s.id::text AS id
FROM unnest($1::uuid[], $2::bytea[]) AS asked (application_id, token_hash)
JOIN subscription.subscriptions AS s
    ON s.application_id = asked.application_id AND s.token_hash = asked.token_hash AND s.archived_at IS NULL
"""


class UserName(NamedTuple):
    """How a request names a user: our id, or the application's external id."""

    application_id: str
    name: str


class User(NamedTuple):
    id: str
    external_id: str | None
    key_id: bytes
    wrapped: bytes


class NewUser(NamedTuple):
    """One row, its fields in the order of INSERT_USERS."""

    id: str
    application_id: str
    external_id: str
    key_id: str
    """Hexadecimal."""
    wrapped: bytes


class NewSubscription(NamedTuple):
    """One row, its fields in the order of INSERT_SUBSCRIPTIONS."""

    id: str
    application_id: str
    type: str
    user_id: str | None
    key_id: str
    """Hexadecimal."""
    wrapped: bytes | None
    """None: the user's key, which is kept already."""
    token_hash: bytes
    token_hint: str
    token_kind: str
    sealed_token: bytes
    device_info: Mapping[str, Any]
    ad_consent: bool
    actor: str
    note: Mapping[str, Any]


async def find_users(c: Connection, asked: Mapping[UserName, str | None]) -> dict[UserName, User]:
    """`asked`: each name with itself where it is a UUID, so that it may be our id."""
    rows = await c.fetch(FIND_USERS, [a.application_id for a in asked], [a.name for a in asked], list(asked.values()))
    return {
        UserName(row["application_id"], row["name"]): User(
            row["id"], row["external_id"], row["key_id"].bytes, row["wrapped"]
        )
        for row in rows
    }


async def insert_users(c: Connection, users: Sequence[NewUser]) -> None:
    """Those that somebody else made meanwhile are left alone."""
    await c.execute(INSERT_USERS, *_columns(users))


async def insert_subscriptions(c: Connection, rows: Sequence[NewSubscription]) -> dict[str, int]:
    """With their keys and history. Ids made, with the creation time in Unix milliseconds."""
    return {row["id"]: row["created_at_ms"] for row in await c.fetch(INSERT_SUBSCRIPTIONS, *_columns(rows))}


async def find_by_token(c: Connection, tokens: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], str]:
    """Subscription ids by (application, token hash)."""
    rows = await c.fetch(FIND_BY_TOKEN, *_columns(tokens))
    return {(row["application_id"], row["token_hash"]): row["id"] for row in rows}


# reading --------------------------------------------------------------------------------------------------------------

GET_SUBSCRIPTION = """
SELECT s.id::text AS id, s.type, s.status AS subscription_status, s.token_hint,
    (date_part('epoch', s.created_at) * 1000)::bigint AS created_at_ms,
    (date_part('epoch', s.updated_at) * 1000)::bigint AS updated_at_ms,
    s.user_id::text AS user_id, users.external_id, s.device_info, s.tags, s.ad_consent,
    (date_part('epoch', s.subscribed_at) * 1000)::bigint AS subscribed_at_ms,
    (date_part('epoch', s.unsubscribed_at) * 1000)::bigint AS unsubscribed_at_ms,
    (date_part('epoch', s.last_active_at) * 1000)::bigint AS last_active_at_ms
FROM subscription.subscriptions AS s
LEFT JOIN subscription.users ON users.id = s.user_id AND users.application_id = s.application_id
WHERE s.id = $2 AND s.application_id = $1 AND s.archived_at IS NULL
"""

# The first eleven columns are the fields of `libs.rpc.Recipient`. The key of the sealed token comes along only where it
# is another than the subject's: the token was registered before the user was known. Looked up row by row, because joins
# made the planner read the whole table of keys for a batch of 500.
RESOLVE = """
SELECT s.id::text, s.type, s.status, s.sealed_token, s.token_kind, s.token_version,
    (date_part('epoch', s.registered_at) * 1000)::bigint, s.test,
    uuid_send(subject.key_id), s.country, s.ad_consent,
    (SELECT wrapped FROM subscription.data_keys AS k
        WHERE k.id = subject.key_id AND k.application_id = s.application_id),
    CASE WHEN subject.key_id <> s.key_id THEN uuid_send(s.key_id) END,
    CASE WHEN subject.key_id <> s.key_id THEN
        (SELECT wrapped FROM subscription.data_keys AS k
            WHERE k.id = s.key_id AND k.application_id = s.application_id)
    END
FROM subscription.subscriptions AS s
CROSS JOIN LATERAL (
    SELECT coalesce(
        (SELECT users.key_id FROM subscription.users
            WHERE users.id = s.user_id AND users.application_id = s.application_id),
        s.key_id
    ) AS key_id OFFSET 0
) AS subject
WHERE s.id = ANY ($2::uuid[]) AND s.application_id = $1 AND s.archived_at IS NULL
"""

FIND_KEYS = """
SELECT uuid_send(id), wrapped FROM subscription.data_keys WHERE id = ANY ($2::uuid[]) AND application_id = $1
"""


async def get_subscription(c: Connection, application_id: str, subscription_id: str) -> dict[str, Any] | None:
    """The fields of `libs.rpc.SubscriptionView`."""
    row = await c.fetchrow(GET_SUBSCRIPTION, application_id, subscription_id)
    return dict(row) if row is not None else None


async def resolve(c: Connection, application_id: str, subscription_ids: Sequence[str]) -> Sequence[Any]:
    """Rows of RESOLVE, in any order."""
    return await c.fetch(RESOLVE, application_id, subscription_ids)


async def find_keys(c: Connection, application_id: str, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
    """Wrapped data keys by id."""
    rows = await c.fetch(FIND_KEYS, application_id, [key_id.hex() for key_id in key_ids])
    return {row[0]: row[1] for row in rows}


# rejections -----------------------------------------------------------------------------------------------------------

# Where a batch holds several rejections of one address, any of them is the reason: all are true.
APPLY_REJECTIONS = """
WITH rejected AS (
    SELECT * FROM unnest($2::uuid[], $3::integer[], $4::smallint[], $5::bigint[], $6::text[], $7::text[])
        AS rejected (subscription_id, token_version, status, rejected_at_ms, reason, message_id)
), changed AS (
    UPDATE subscription.subscriptions AS s
    SET status = rejected.status, unsubscribed_at = now(), updated_at = now()
    FROM rejected
    WHERE s.id = rejected.subscription_id AND s.application_id = $1 AND s.token_version = rejected.token_version
        AND s.status > 0 AND s.archived_at IS NULL
        AND (rejected.rejected_at_ms IS NULL
            OR rejected.rejected_at_ms > (date_part('epoch', s.registered_at) * 1000)::bigint)
    RETURNING s.id, s.application_id, rejected.reason, rejected.status, rejected.token_version,
        rejected.rejected_at_ms, rejected.message_id
)
INSERT INTO subscription.subscription_events (subscription_id, application_id, kind, actor, reason, data)
SELECT id, application_id, 'disabled', 'provider', reason, jsonb_strip_nulls(jsonb_build_object(
    'status', status, 'token_version', token_version, 'rejected_at_ms', rejected_at_ms, 'message_id', message_id))
FROM changed
RETURNING subscription_id
"""


class RejectedToken(NamedTuple):
    """One row, its fields in the order of APPLY_REJECTIONS."""

    subscription_id: str
    token_version: int
    status: int
    rejected_at_ms: int | None
    reason: str | None
    message_id: str


async def apply_rejections(c: Connection, application_id: str, rejected: Sequence[RejectedToken]) -> int:
    """How many subscriptions changed; a repetition changes none."""
    return len(await c.fetch(APPLY_REJECTIONS, application_id, *_columns(rejected)))


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))
