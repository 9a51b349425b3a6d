"""The SQL about subscriptions. Every statement carries the application."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from libs.pg import Connection
from services.subscription.rows import WRITTEN_FIELDS, Fact, Key, Row

INDEXES_ONLY = "SELECT set_config('enable_seqscan', 'off', false)"
"""Run on each new connection. Every statement here looks rows up by key; a plan that was made while a table was empty
would read all of it for each recipient once it has grown."""


class UserName(NamedTuple):
    """How a request names a user: our id, or the application's external id."""

    application_id: str
    name: str


class User(NamedTuple):
    id: str
    external_id: str | None


# rows under lock ------------------------------------------------------------------------------------------------------

# The fields of `rows.Row`, in its order.
ROW = """
    s.id::text, s.application_id::text, s.type, s.status, s.user_id::text, s.key_id::text, s.wrapped_key, s.token_hash,
    s.token_hint, s.token_kind, s.token_version, (date_part('epoch', s.registered_at) * 1000)::bigint, s.sealed_token,
    s.device_info, s.tags, s.ad_consent, s.night_consent, s.quiet_hours, s.installation_id, s.secret_hash,
    (date_part('epoch', s.updated_at) * 1000)::bigint, (date_part('epoch', s.subscribed_at) * 1000)::bigint,
    (date_part('epoch', s.unsubscribed_at) * 1000)::bigint, (date_part('epoch', s.last_active_at) * 1000)::bigint,
    NULL::bigint, (date_part('epoch', s.created_at) * 1000)::bigint,
    (SELECT users.external_id FROM subscription.users
        WHERE users.id = s.user_id AND users.application_id = s.application_id),
    coalesce(s.wrapped_key, (SELECT k.wrapped FROM subscription.data_keys AS k
        WHERE k.id = s.key_id AND k.application_id = s.application_id)),
    coalesce((SELECT users.key_id = s.key_id FROM subscription.users
        WHERE users.id = s.user_id AND users.application_id = s.application_id), false),
    (date_part('epoch', now()) * 1000)::bigint
"""

NOW = "SELECT (date_part('epoch', now()) * 1000)::bigint"

# Always locked in the order of their ids, so that two batches cannot wait for each other. They are read by a statement
# of its own: only a new snapshot sees the keys that the holder of the lock before has put in place.
LOCK_SUBSCRIPTIONS = """
SELECT s.id::text
FROM unnest($1::uuid[], $2::uuid[]) AS asked (application_id, id)
JOIN subscription.subscriptions AS s
    ON s.id = asked.id AND s.application_id = asked.application_id AND s.archived_at IS NULL
ORDER BY s.id
FOR NO KEY UPDATE OF s
"""

# Who has one of these tokens, or is one of these installations.
LOCK_REGISTERED = """
SELECT s.id::text
FROM subscription.subscriptions AS s
WHERE s.archived_at IS NULL AND s.id = ANY (ARRAY (
    SELECT found.id FROM unnest($1::uuid[], $2::bytea[]) AS asked (application_id, token_hash)
    JOIN subscription.subscriptions AS found ON found.application_id = asked.application_id
        AND found.token_hash = asked.token_hash AND found.archived_at IS NULL
    UNION
    SELECT found.id FROM unnest($3::uuid[], $4::text[], $5::text[]) AS asked (application_id, type, installation_id)
    JOIN subscription.subscriptions AS found ON found.application_id = asked.application_id
        AND found.type = asked.type AND found.installation_id = asked.installation_id AND found.archived_at IS NULL
)) AND s.application_id = ANY ($1::uuid[])
ORDER BY s.id
FOR NO KEY UPDATE OF s
"""

READ_LOCKED = f"""
SELECT {ROW} FROM subscription.subscriptions AS s
WHERE s.id = ANY ($2::uuid[]) AND s.application_id = ANY ($1::uuid[]) AND s.archived_at IS NULL
ORDER BY s.id
"""  # noqa: S608 - made of constants

FIND_BY_TOKEN = """
SELECT s.application_id::text AS application_id, s.token_hash, s.id::text AS id
FROM unnest($1::uuid[], $2::bytea[]) AS asked (application_id, token_hash)
JOIN subscription.subscriptions AS s
    ON s.application_id = asked.application_id AND s.token_hash = asked.token_hash AND s.archived_at IS NULL
"""

# Archived ones too: an id that was used is used.
FIND_TAKEN_IDS = """
SELECT s.id::text
FROM unnest($1::uuid[], $2::uuid[]) AS asked (application_id, id)
JOIN subscription.subscriptions AS s ON s.id = asked.id AND s.application_id = asked.application_id
"""


async def now_ms(c: Connection) -> int:
    """The transaction's time, by Postgres' clock."""
    found: int = await c.fetchval(NOW)
    return found


async def lock_subscriptions(c: Connection, ids: Sequence[tuple[str, str]]) -> list[Row]:
    """`ids`: application and subscription, each pair once."""
    return await _read(c, {each[0] for each in ids}, await c.fetch(LOCK_SUBSCRIPTIONS, *columns(ids)))


async def lock_registered(
    c: Connection, tokens: Sequence[tuple[str, bytes]], installations: Sequence[tuple[str, str, str]]
) -> list[Row]:
    """`tokens`: application and hash; `installations`: application, type and installation id."""
    others = columns(installations) if installations else [(), (), ()]
    locked = await c.fetch(LOCK_REGISTERED, *columns(tokens), *others)
    return await _read(c, {each[0] for each in tokens}, locked)


async def _read(c: Connection, application_ids: set[str], locked: Sequence[Any]) -> list[Row]:
    if not locked:
        return []
    rows = await c.fetch(READ_LOCKED, list(application_ids), [row[0] for row in locked])
    return [Row(*row) for row in rows]


async def find_by_token(c: Connection, tokens: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], str]:
    """Subscription ids by (application, token hash)."""
    rows = await c.fetch(FIND_BY_TOKEN, *columns(tokens))
    return {(row["application_id"], row["token_hash"]): row["id"] for row in rows}


async def find_taken_ids(c: Connection, ids: Sequence[tuple[str, str]]) -> set[str]:
    return {row[0] for row in await c.fetch(FIND_TAKEN_IDS, *columns(ids))}


# writing --------------------------------------------------------------------------------------------------------------

_WRITTEN = """unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::smallint[], $5::uuid[], $6::uuid[], $7::bytea[], $8::bytea[], $9::text[],
    $10::text[], $11::integer[], $12::bigint[], $13::bytea[], $14::jsonb[], $15::jsonb[], $16::boolean[],
    $17::boolean[], $18::jsonb[], $19::text[], $20::bytea[], $21::bigint[], $22::bigint[], $23::bigint[],
    $24::bigint[], $25::bigint[]
) AS n (
    id, application_id, type, status, user_id, key_id, wrapped_key, token_hash, token_hint,
    token_kind, token_version, registered_ms, sealed_token, device_info, tags, ad_consent,
    night_consent, quiet_hours, installation_id, secret_hash, updated_ms, subscribed_ms, unsubscribed_ms, active_ms,
    archived_ms
)"""

_NOTED = """
    INSERT INTO subscription.subscription_events (subscription_id, application_id, kind, actor, source, reason, data)
    SELECT * FROM unnest($26::uuid[], $27::uuid[], $28::text[], $29::text[], $30::text[], $31::text[], $32::jsonb[])
"""

# What is taken already is left out, whoever else is registering it at this moment.
INSERT_SUBSCRIPTIONS = f"""
WITH noted AS ({_NOTED})
INSERT INTO subscription.subscriptions (
    id, application_id, type, status, user_id, key_id, wrapped_key, token_hash, token_hint, token_kind, token_version,
    registered_at, sealed_token, device_info, tags, ad_consent, night_consent, quiet_hours, installation_id,
    secret_hash, updated_at, subscribed_at, unsubscribed_at, last_active_at, archived_at
)
SELECT id, application_id, type, status, user_id, key_id, wrapped_key, token_hash, token_hint, token_kind,
    token_version, now(), sealed_token, device_info, tags, ad_consent, night_consent, quiet_hours, installation_id,
    secret_hash, now(), 'epoch'::timestamptz + subscribed_ms * interval '1 millisecond',
    'epoch'::timestamptz + unsubscribed_ms * interval '1 millisecond',
    'epoch'::timestamptz + active_ms * interval '1 millisecond',
    'epoch'::timestamptz + archived_ms * interval '1 millisecond'
FROM {_WRITTEN} ORDER BY application_id, installation_id, token_hash
ON CONFLICT DO NOTHING
RETURNING id
"""  # noqa: S608 - made of constants

CHANGE_SUBSCRIPTIONS = f"""
WITH noted AS ({_NOTED})
UPDATE subscription.subscriptions AS s
SET status = n.status, user_id = n.user_id, key_id = n.key_id, wrapped_key = n.wrapped_key, token_hash = n.token_hash,
    token_hint = n.token_hint, token_kind = n.token_kind, token_version = n.token_version,
    registered_at = 'epoch'::timestamptz + n.registered_ms * interval '1 millisecond', sealed_token = n.sealed_token,
    device_info = n.device_info, tags = n.tags, ad_consent = n.ad_consent, night_consent = n.night_consent,
    quiet_hours = n.quiet_hours, installation_id = n.installation_id, secret_hash = n.secret_hash,
    updated_at = 'epoch'::timestamptz + n.updated_ms * interval '1 millisecond',
    subscribed_at = 'epoch'::timestamptz + n.subscribed_ms * interval '1 millisecond',
    unsubscribed_at = 'epoch'::timestamptz + n.unsubscribed_ms * interval '1 millisecond',
    last_active_at = 'epoch'::timestamptz + n.active_ms * interval '1 millisecond',
    archived_at = 'epoch'::timestamptz + n.archived_ms * interval '1 millisecond'
FROM {_WRITTEN}
WHERE s.id = n.id AND s.application_id = n.application_id
"""  # noqa: S608 - made of constants

KEEP_KEYS = """
INSERT INTO subscription.data_keys AS known (id, application_id, wrapped, user_id, subscription_id)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::bytea[], $4::uuid[], $5::uuid[]) ORDER BY 1
ON CONFLICT (id) DO UPDATE SET user_id = excluded.user_id WHERE known.application_id = excluded.application_id
"""


async def insert_subscriptions(c: Connection, rows: Sequence[Row], facts: Sequence[Fact]) -> int:
    """How many could be made."""
    return len(await c.fetch(INSERT_SUBSCRIPTIONS, *_written(rows), *_noted(facts)))


async def change_subscriptions(c: Connection, rows: Sequence[Row], facts: Sequence[Fact]) -> None:
    await c.execute(CHANGE_SUBSCRIPTIONS, *_written(rows), *_noted(facts))


async def keep_keys(c: Connection, keys: Sequence[Key]) -> None:
    """Keys that are not kept in the row of their subscription; a known one changes its person."""
    await c.execute(KEEP_KEYS, *columns(list({key.id: key for key in keys}.values())))


def _written(rows: Sequence[Row]) -> list[Sequence[Any]]:
    return [[getattr(row, name) for row in rows] for name in WRITTEN_FIELDS]


def _noted(facts: Sequence[Fact]) -> Sequence[Sequence[Any]]:
    return columns(facts) if facts else [()] * len(Fact._fields)


def columns(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))
