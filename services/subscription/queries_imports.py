"""SQL of bulk imports and exports. Every statement carries the application."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from libs.pg import Connection, Row
from libs.policy import QuietHours
from services.subscription.queries import columns

BEGIN_IMPORT = """
INSERT INTO subscription.imports (application_id, id, actor) VALUES ($1, $2, $3)
ON CONFLICT (application_id, id) DO UPDATE SET updated_at = now()
"""
IMPORT_PARTS = """
SELECT first_line, digest FROM subscription.import_parts WHERE application_id = $1 AND import_id = $2
"""
CLAIM_PART = """
INSERT INTO subscription.import_parts (application_id, import_id, first_line, lines, digest)
SELECT application_id, id, $3, $4, $5 FROM subscription.imports WHERE application_id = $1 AND id = $2
ON CONFLICT DO NOTHING
RETURNING first_line
"""
PART_DIGEST = """
SELECT digest FROM subscription.import_parts WHERE application_id = $1 AND import_id = $2 AND first_line = $3
"""
# A token that is there already, whichever import or call brought it, is left as it is.
INSERT_IMPORTED = """
WITH fresh AS (
    SELECT * FROM unnest(
        $2::uuid[], $3::text[], $4::smallint[], $5::uuid[], $6::bytea[], $7::bytea[], $8::text[], $9::text[],
        $10::bytea[], $11::jsonb[], $12::jsonb[], $13::boolean[], $14::text[],
        $15::boolean[], $16::jsonb[]
    ) AS fresh (
        id, type, status, user_id, wrapped_key, token_hash, token_hint, token_kind, sealed_token, device_info, tags,
        ad_consent, installation_id, night_consent, quiet_hours
    )
), made AS (
    INSERT INTO subscription.subscriptions (
        id, application_id, type, status, user_id, key_id, wrapped_key, token_hash, token_hint, token_kind,
        sealed_token, device_info, tags, ad_consent, installation_id, night_consent, quiet_hours, subscribed_at,
        unsubscribed_at
    )
    SELECT id, $1, type, status, user_id, id, wrapped_key, token_hash, token_hint, token_kind, sealed_token,
        device_info, tags, ad_consent, installation_id, night_consent, quiet_hours,
        CASE WHEN status > 0 THEN now() END, CASE WHEN status IN (-2, -31) THEN now() END
    FROM fresh ORDER BY token_hash
    ON CONFLICT DO NOTHING
    RETURNING id, status
), noted AS (
    INSERT INTO subscription.subscription_events (subscription_id, application_id, kind, actor, source, data)
    SELECT id, $1, 'created', $17, 'import', jsonb_build_object('status', status, 'import_id', $18::text) FROM made
)
SELECT id::text AS id FROM made
"""
COUNT_PART = """
UPDATE subscription.imports
SET lines_done = lines_done + $3, created = created + $4, updated = updated + $5, failed = failed + $6,
    status = 'running', finished_at = NULL, updated_at = now()
WHERE application_id = $1 AND id = $2
RETURNING failed
"""
INSERT_IMPORT_ERRORS = """
INSERT INTO subscription.import_errors (application_id, import_id, line, code, field)
SELECT $1, $2, line, code, field FROM unnest($3::bigint[], $4::text[], $5::text[]) AS e (line, code, field)
ON CONFLICT DO NOTHING
"""
END_IMPORT = """
UPDATE subscription.imports SET status = 'completed', finished_at = now(), updated_at = now()
WHERE application_id = $1 AND id = $2
"""
GET_IMPORT = """
SELECT id::text AS id, status, lines_done, created, updated, failed,
    (date_part('epoch', started_at) * 1000)::bigint AS started_at_ms,
    (date_part('epoch', updated_at) * 1000)::bigint AS updated_at_ms,
    (date_part('epoch', finished_at) * 1000)::bigint AS finished_at_ms
FROM subscription.imports WHERE application_id = $1 AND id = $2
"""
LIST_IMPORT_ERRORS = """
SELECT line, code, field FROM subscription.import_errors
WHERE application_id = $1 AND import_id = $2 AND line > $3 ORDER BY line LIMIT $4
"""
EXPORT_PAGE = """
SELECT s.id::text AS id, s.type, s.status AS subscription_status, s.token_hint,
    (date_part('epoch', s.created_at) * 1000)::bigint AS created_at_ms,
    (date_part('epoch', s.updated_at) * 1000)::bigint AS updated_at_ms,
    s.user_id::text AS user_id, users.external_id, s.device_info, s.tags, s.ad_consent, s.installation_id,
    s.night_consent, s.quiet_hours,
    (date_part('epoch', s.subscribed_at) * 1000)::bigint AS subscribed_at_ms,
    (date_part('epoch', s.unsubscribed_at) * 1000)::bigint AS unsubscribed_at_ms,
    (date_part('epoch', s.last_active_at) * 1000)::bigint AS last_active_at_ms
FROM (
    SELECT * FROM subscription.subscriptions
    WHERE application_id = $1 AND id > $2 AND archived_at IS NULL
    ORDER BY id LIMIT $3
) AS s
LEFT JOIN subscription.users ON users.id = s.user_id AND users.application_id = s.application_id
ORDER BY s.id
"""


class NewRow(NamedTuple):
    """One row, its fields in the order of INSERT_IMPORTED from $2."""

    id: str
    type: str
    status: int
    user_id: str | None
    wrapped_key: bytes
    token_hash: bytes
    token_hint: str
    token_kind: str
    sealed_token: bytes
    device_info: Mapping[str, Any]
    tags: Mapping[str, str]
    ad_consent: bool
    installation_id: str | None
    night_consent: bool
    quiet_hours: QuietHours | None


async def begin_import(c: Connection, application_id: str, import_id: str, actor: str) -> dict[int, bytes]:
    """The parts that are done: first line and digest."""
    await c.execute(BEGIN_IMPORT, application_id, import_id, actor)
    rows = await c.fetch(IMPORT_PARTS, application_id, import_id)
    return {row["first_line"]: row["digest"] for row in rows}


async def claim_part(
    c: Connection, application_id: str, import_id: str, first_line: int, lines: int, digest: bytes
) -> bool:
    """False: it is done already, or nobody began such an import."""
    claimed = await c.fetchval(CLAIM_PART, application_id, import_id, first_line, lines, digest)
    return claimed is not None


async def part_digest(c: Connection, application_id: str, import_id: str, first_line: int) -> bytes | None:
    digest: bytes | None = await c.fetchval(PART_DIGEST, application_id, import_id, first_line)
    return digest


async def insert_imported(
    c: Connection, application_id: str, rows: Sequence[NewRow], actor: str, import_id: str
) -> set[str]:
    """The ids that were made."""
    made = await c.fetch(INSERT_IMPORTED, application_id, *columns(rows), actor, import_id)
    return {row["id"] for row in made}


async def count_part(
    c: Connection, application_id: str, import_id: str, lines: int, created: int, updated: int, failed: int
) -> int:
    """How many lines of the import were refused by now."""
    return int(await c.fetchval(COUNT_PART, application_id, import_id, lines, created, updated, failed))


async def insert_import_errors(
    c: Connection, application_id: str, import_id: str, errors: Sequence[tuple[int, str, str | None]]
) -> None:
    """Rows of (line, code, field)."""
    await c.execute(INSERT_IMPORT_ERRORS, application_id, import_id, *columns(errors))


async def end_import(c: Connection, application_id: str, import_id: str) -> None:
    await c.execute(END_IMPORT, application_id, import_id)


async def get_import(c: Connection, application_id: str, import_id: str) -> Row | None:
    return await c.fetchrow(GET_IMPORT, application_id, import_id)


async def list_import_errors(c: Connection, application_id: str, import_id: str, after: int, limit: int) -> list[Row]:
    return await c.fetch(LIST_IMPORT_ERRORS, application_id, import_id, after, limit)


async def export_page(c: Connection, application_id: str, after: str, limit: int) -> list[Row]:
    return await c.fetch(EXPORT_PAGE, application_id, after, limit)
