"""SQL by which a person is forgotten: keys destroyed, rows scrubbed, the request kept (R14)."""

from collections.abc import Sequence
from typing import NamedTuple

from libs.pg import Connection, Row

TAKE_PERSON = """
SELECT id FROM subscription.users WHERE id = $2 AND application_id = $1 AND erased_at IS NULL FOR UPDATE
"""
TAKE_SUBSCRIPTIONS = """
SELECT s.id::text AS id, uuid_send(s.key_id) AS key_id, s.wrapped_key
FROM subscription.subscriptions AS s
WHERE s.application_id = $1 AND (s.user_id = $2 OR s.id = ANY ($3::uuid[])) AND s.sealed_token <> ''
ORDER BY s.id
FOR UPDATE
"""
# A key that was adopted may still be a subscription's own in a backup from before.
HOLDERS_OF_KEYS = """
SELECT id::text AS id FROM subscription.subscriptions
WHERE application_id = $1 AND id = ANY ($2::uuid[]) AND key_id = id AND wrapped_key IS NOT NULL
UNION
SELECT subscription_id::text FROM subscription.data_keys
WHERE application_id = $1 AND id = ANY ($2::uuid[]) AND subscription_id IS NOT NULL AND user_id IS NULL
"""
DESTROY_KEYS = """
WITH doomed AS (
    SELECT id FROM subscription.data_keys
    WHERE application_id = $1 AND (user_id = $2 OR id = ANY ($3::uuid[]))
    ORDER BY id
    FOR UPDATE
)
DELETE FROM subscription.data_keys AS k USING doomed WHERE k.id = doomed.id AND k.application_id = $1
RETURNING uuid_send(k.id) AS id
"""
DROP_FIRST_KEYS = """
UPDATE subscription.subscriptions SET wrapped_key = NULL
WHERE application_id = $1 AND id = ANY ($2::uuid[]) AND key_id = id AND wrapped_key IS NOT NULL
"""
# The hash becomes random: the token may be registered anew, and whether it was here before cannot be found out.
SCRUB_SUBSCRIPTIONS = """
WITH scrubbed AS (
    UPDATE subscription.subscriptions
    SET token_hash = sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), token_hint = '',
        sealed_token = '', wrapped_key = NULL, device_info = '{}', tags = '{}', quiet_hours = NULL,
        installation_id = NULL, secret_hash = NULL, updated_at = now(), archived_at = coalesce(archived_at, now())
    WHERE application_id = $1 AND id = ANY ($2::uuid[])
    RETURNING id, application_id
)
INSERT INTO subscription.subscription_events (subscription_id, application_id, kind, actor, data)
SELECT id, application_id, 'erased', $3, jsonb_build_object('request_id', $4::text) FROM scrubbed ORDER BY id
"""
SCRUB_PERSON = """
UPDATE subscription.users SET external_id = NULL, key_id = NULL, last_active_at = NULL, erased_at = now()
WHERE id = $2 AND application_id = $1 AND erased_at IS NULL
"""
INSERT_ERASURE = """
INSERT INTO subscription.erasures (id, application_id, user_id, subscriptions, key_ids, actor, requested_at)
VALUES ($1, $2, $3, $4::uuid[], $5::uuid[], $6, coalesce(to_timestamp($7::bigint / 1000.0), now()))
ON CONFLICT (id) DO NOTHING
RETURNING id
"""
_ERASURE = """
SELECT id::text AS id, application_id::text AS application_id, user_id::text AS user_id, subscriptions::text[],
    key_ids::text[], (date_part('epoch', requested_at) * 1000)::bigint AS requested_at_ms,
    (date_part('epoch', completed_at) * 1000)::bigint AS completed_at_ms
FROM subscription.erasures
"""
GET_ERASURE = _ERASURE + "WHERE id = $2 AND application_id = $1"
OPEN_ERASURES = _ERASURE + "WHERE completed_at IS NULL ORDER BY requested_at LIMIT $1"
COMPLETE_ERASURE = """
UPDATE subscription.erasures SET completed_at = now() WHERE id = $2 AND application_id = $1 AND completed_at IS NULL
"""


async def take_person(c: Connection, application_id: str, user_id: str) -> bool:
    """Nobody else can link to or erase the user until this transaction ends. False: erased already, or unknown."""
    return await c.fetchval(TAKE_PERSON, application_id, user_id) is not None


async def take_subscriptions(c: Connection, application_id: str, user_id: str, others: Sequence[str]) -> list[Row]:
    """The user's, archived ones too, and `others`; those scrubbed already are left out."""
    return await c.fetch(TAKE_SUBSCRIPTIONS, application_id, user_id, others)


async def holders_of_keys(c: Connection, application_id: str, key_ids: Sequence[str]) -> list[str]:
    """Subscriptions whose own key is among `key_ids`."""
    return [row["id"] for row in await c.fetch(HOLDERS_OF_KEYS, application_id, key_ids)]


async def destroy_keys(c: Connection, application_id: str, user_id: str, key_ids: Sequence[str]) -> list[bytes]:
    """The user's keys, and those named, wherever they lie. Ids of what is gone from data_keys now."""
    await c.execute(DROP_FIRST_KEYS, application_id, key_ids)
    return [row["id"] for row in await c.fetch(DESTROY_KEYS, application_id, user_id, key_ids)]


async def scrub_subscriptions(
    c: Connection, application_id: str, ids: Sequence[str], actor: str, request_id: str
) -> None:
    await c.execute(SCRUB_SUBSCRIPTIONS, application_id, ids, actor, request_id)


async def scrub_person(c: Connection, application_id: str, user_id: str) -> None:
    await c.execute(SCRUB_PERSON, application_id, user_id)


class NewErasure(NamedTuple):
    """One row, its fields in the order of INSERT_ERASURE."""

    id: str
    application_id: str
    user_id: str
    subscriptions: list[str]
    key_ids: list[str]
    """Hexadecimal."""
    actor: str
    requested_at_ms: int | None
    """None: now."""


async def insert_erasure(c: Connection, erasure: NewErasure) -> bool:
    """False: there is one with this id."""
    return await c.fetchval(INSERT_ERASURE, *erasure) is not None


async def get_erasure(c: Connection, application_id: str, request_id: str) -> Row | None:
    return await c.fetchrow(GET_ERASURE, application_id, request_id)


async def open_erasures(c: Connection, limit: int) -> list[Row]:
    """Oldest first, of all applications."""
    return await c.fetch(OPEN_ERASURES, limit)


async def complete_erasure(c: Connection, application_id: str, request_id: str) -> None:
    await c.execute(COMPLETE_ERASURE, application_id, request_id)
