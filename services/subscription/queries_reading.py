"""The SQL that reads subscriptions: one, recipients of messages, their keys, secrets. Each carries the application."""

from collections.abc import Sequence
from typing import Any

from libs.pg import Connection
from services.subscription.queries import columns

# The fields of `libs.rpc.SubscriptionView`.
VIEW = """
    s.id::text AS id, s.type, s.status AS subscription_status, s.token_hint,
    (date_part('epoch', s.created_at) * 1000)::bigint AS created_at_ms,
    (date_part('epoch', s.updated_at) * 1000)::bigint AS updated_at_ms,
    s.user_id::text AS user_id,
    (SELECT users.external_id FROM subscription.users
        WHERE users.id = s.user_id AND users.application_id = s.application_id) AS external_id,
    s.device_info, s.tags, s.ad_consent,
    (date_part('epoch', s.subscribed_at) * 1000)::bigint AS subscribed_at_ms,
    (date_part('epoch', s.unsubscribed_at) * 1000)::bigint AS unsubscribed_at_ms,
    (date_part('epoch', s.last_active_at) * 1000)::bigint AS last_active_at_ms,
    s.installation_id, s.night_consent, s.quiet_hours,
    (date_part('epoch', s.registered_at) * 1000)::bigint AS token_updated_at_ms
"""

GET_SUBSCRIPTIONS = f"""
SELECT s.application_id::text AS application_id, {VIEW}
FROM unnest($1::uuid[], $2::uuid[]) AS asked (application_id, id)
JOIN subscription.subscriptions AS s
    ON s.id = asked.id AND s.application_id = asked.application_id AND s.archived_at IS NULL
"""  # noqa: S608 - made of constants

FIND_SECRETS = """
SELECT s.application_id::text, s.secret_hash, s.id::text
FROM unnest($1::uuid[], $2::bytea[]) AS asked (application_id, secret_hash)
JOIN subscription.subscriptions AS s ON s.application_id = asked.application_id
    AND s.secret_hash = asked.secret_hash AND s.secret_hash IS NOT NULL AND s.archived_at IS NULL
"""

# The fields of `libs.rpc.Recipient`; then the wrapped key of the user where there is one, and the subscription's own
# key. Looked up row by row, because joins made the planner read the whole table of keys for a batch of 500.
RECIPIENT = """
    s.id::text, s.type, s.status, s.sealed_token, s.token_kind, s.token_version,
    (date_part('epoch', s.registered_at) * 1000)::bigint, s.test, uuid_send(coalesce(person.key_id, s.key_id)),
    s.country, s.ad_consent, s.user_id::text, s.language,
    s.timezone, s.night_consent, s.quiet_hours, person.wrapped, uuid_send(s.key_id),
    coalesce(s.wrapped_key, (SELECT k.wrapped FROM subscription.data_keys AS k
        WHERE k.id = s.key_id AND k.application_id = s.application_id))
"""

PERSON = """
LEFT JOIN LATERAL (
    SELECT users.key_id, (SELECT k.wrapped FROM subscription.data_keys AS k
        WHERE k.id = users.key_id AND k.application_id = users.application_id) AS wrapped
    FROM subscription.users WHERE users.id = s.user_id AND users.application_id = s.application_id
    OFFSET 0
) AS person ON true
"""

RESOLVE = f"""
SELECT {RECIPIENT}
FROM subscription.subscriptions AS s
{PERSON}
WHERE s.id = ANY ($2::uuid[]) AND s.application_id = $1 AND s.archived_at IS NULL
"""  # noqa: S608 - made of constants

# A person has few subscriptions; the bound is for a broken client that registers without end.
RESOLVE_USERS = f"""
SELECT asked.name, {RECIPIENT}
FROM unnest($2::text[], $3::uuid[]) AS asked (name, id)
CROSS JOIN LATERAL (
    SELECT 1 AS rank, users.id, users.application_id FROM subscription.users
    WHERE users.id = asked.id AND users.application_id = $1 AND users.erased_at IS NULL
    UNION ALL
    SELECT 2 AS rank, users.id, users.application_id FROM subscription.users
    WHERE users.application_id = $1 AND users.external_id = asked.name AND users.erased_at IS NULL
    ORDER BY rank LIMIT 1
) AS found
LEFT JOIN LATERAL (
    SELECT subscriptions.* FROM subscription.subscriptions
    WHERE subscriptions.user_id = found.id AND subscriptions.application_id = found.application_id
        AND subscriptions.archived_at IS NULL
    ORDER BY subscriptions.last_active_at DESC NULLS LAST, subscriptions.id DESC LIMIT 100
) AS s ON true
{PERSON}
ORDER BY asked.name, s.last_active_at DESC NULLS LAST, s.id DESC
"""  # noqa: S608 - made of constants

# The first own key of a subscription is kept in its row and has its id. Archived ones too: what was sent stays legible.
FIND_KEYS = """
SELECT uuid_send(k.id), k.wrapped FROM subscription.data_keys AS k
WHERE k.id = ANY ($2::uuid[]) AND k.application_id = $1
UNION ALL
SELECT uuid_send(s.id), s.wrapped_key FROM subscription.subscriptions AS s
WHERE s.id = ANY ($2::uuid[]) AND s.application_id = $1 AND s.key_id = s.id AND s.wrapped_key IS NOT NULL
"""


async def get_subscriptions(c: Connection, ids: Sequence[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Any]]:
    """The fields of `libs.rpc.SubscriptionView` by application and subscription."""
    rows = [dict(row) for row in await c.fetch(GET_SUBSCRIPTIONS, *columns(ids))]
    return {(row.pop("application_id"), row["id"]): row for row in rows}


async def find_secrets(c: Connection, asked: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], str]:
    """Subscription ids by application and secret's hash."""
    return {(row[0], row[1]): row[2] for row in await c.fetch(FIND_SECRETS, *columns(asked))}


async def resolve(c: Connection, application_id: str, subscription_ids: Sequence[str]) -> Sequence[Any]:
    """Rows of RESOLVE, in any order."""
    return await c.fetch(RESOLVE, application_id, subscription_ids)


async def resolve_users(c: Connection, application_id: str, names: Sequence[tuple[str, str | None]]) -> Sequence[Any]:
    """Rows of RESOLVE_USERS, each person's most recently active first; empty but for the name where they have none.

    `names`: each with itself where it is a UUID.
    """
    return await c.fetch(RESOLVE_USERS, application_id, *columns(names))


async def find_keys(c: Connection, application_id: str, key_ids: Sequence[bytes]) -> dict[bytes, bytes]:
    """Wrapped data keys by id."""
    rows = await c.fetch(FIND_KEYS, application_id, [key_id.hex() for key_id in key_ids])
    return {row[0]: row[1] for row in rows}
