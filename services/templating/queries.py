"""All SQL of the templating service. Every statement carries the application."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from libs.pg import Connection

INDEXES_ONLY = "SELECT set_config('enable_seqscan', 'off', false)"
"""Run on each new connection: a plan that was made while a table was empty would read all of it once it has grown."""

EDITS = 0x74706C
"""Class of the advisory locks below ("tpl")."""
MAX_COUNTED = 10_000

# Templates are edited by hand, and seldom: an application's edits take turns, so that names stay unique and versions
# consecutive without an edit that has to be repeated.
LOCK_EDITS = "SELECT pg_advisory_xact_lock($1, hashtext($2))"

# Our own id before the name: a name may look like an id.
_FIND_ONE = """
    SELECT 1 AS rank, templates.* FROM templating.templates
    WHERE templates.id = asked.id AND templates.application_id = asked.application_id
    UNION ALL
    SELECT 2 AS rank, templates.* FROM templating.templates
    WHERE templates.application_id = asked.application_id AND templates.name = asked.name
    ORDER BY rank LIMIT 1
"""

FIND_HEADS = f"""
SELECT asked.place, found.id::text AS id, versions.version, found.is_active
FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::integer[]) WITH ORDINALITY
    AS asked (application_id, name, id, version, place)
CROSS JOIN LATERAL ({_FIND_ONE}) AS found
JOIN templating.versions ON versions.template_id = found.id AND versions.application_id = asked.application_id
    AND versions.version = coalesce(asked.version, found.version)
"""  # noqa: S608 - made of constants

VERSIONS = """
SELECT application_id::text AS application_id, template_id::text AS template_id, version, content, default_locale,
    variants
FROM unnest($1::uuid[], $2::uuid[], $3::integer[]) AS asked (application_id, template_id, version)
JOIN templating.versions USING (application_id, template_id, version)
"""

FIND_WHOLE = f"""
SELECT found.id::text AS id, found.name, versions.version, found.is_active, found.description,
    (date_part('epoch', found.created_at) * 1000)::bigint AS created_at_ms,
    (date_part('epoch', CASE WHEN versions.version = found.version THEN found.updated_at ELSE versions.created_at END)
        * 1000)::bigint AS updated_at_ms,
    versions.content, versions.default_locale, versions.variants, versions.variables, versions.actor
FROM (SELECT $1::uuid, $2::text, $3::uuid) AS asked (application_id, name, id)
CROSS JOIN LATERAL ({_FIND_ONE}) AS found
JOIN templating.versions ON versions.template_id = found.id AND versions.application_id = asked.application_id
    AND versions.version = coalesce($4::integer, found.version)
"""  # noqa: S608 - made of constants

NAME_IS_TAKEN = """
SELECT true FROM templating.templates WHERE application_id = $1 AND name = $2 AND id <> $3
"""

INSERT_TEMPLATE = """
INSERT INTO templating.templates (application_id, id, name, description, actor) VALUES ($1, $2, $3, $4, $5)
"""

INSERT_VERSION = """
INSERT INTO templating.versions
    (application_id, template_id, version, content, default_locale, variants, variables, actor)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

UPDATE_TEMPLATE = """
UPDATE templating.templates SET name = $3, description = $4, version = $5, actor = $6, updated_at = now()
WHERE application_id = $1 AND id = $2
"""

SET_ACTIVE = """
UPDATE templating.templates SET is_active = $3, actor = $4, updated_at = now()
WHERE application_id = $1 AND id = $2 AND is_active <> $3
"""

_BRIEF = """templates.id::text AS id, templates.name, templates.is_active, templates.description,
    (date_part('epoch', templates.created_at) * 1000)::bigint AS created_at_ms"""

LIST_TEMPLATES = f"""
SELECT {_BRIEF}, versions.version, (date_part('epoch', templates.updated_at) * 1000)::bigint AS updated_at_ms,
    versions.default_locale, versions.variables, versions.actor
FROM templating.templates
JOIN templating.versions ON versions.template_id = templates.id AND versions.version = templates.version
WHERE templates.application_id = $1 AND ($2::boolean IS NULL OR templates.is_active = $2)
ORDER BY templates.id LIMIT $3 OFFSET $4
"""  # noqa: S608 - made of constants

COUNT_TEMPLATES = f"""
SELECT count(*) FROM (SELECT FROM templating.templates
    WHERE application_id = $1 AND ($2::boolean IS NULL OR is_active = $2) LIMIT {MAX_COUNTED + 1}) AS counted
"""  # noqa: S608 - made of constants

# Versions are counted without looking: they are consecutive.
LIST_VERSIONS = f"""
SELECT {_BRIEF}, versions.version, (date_part('epoch', versions.created_at) * 1000)::bigint AS updated_at_ms,
    versions.default_locale, versions.variables, versions.actor
FROM templating.templates
JOIN templating.versions ON versions.template_id = templates.id
WHERE templates.application_id = $1 AND templates.id = $2
ORDER BY versions.version DESC LIMIT $3 OFFSET $4
"""  # noqa: S608 - made of constants


class Asked(NamedTuple):
    """A template by what the caller calls it; its fields in the order of FIND_HEADS."""

    application_id: str
    name: str
    id: str | None
    """The name, where it has the form of an id."""
    version: int | None


class Head(NamedTuple):
    id: str
    version: int
    is_active: bool


class VersionKey(NamedTuple):
    application_id: str
    template_id: str
    version: int


class NewVersion(NamedTuple):
    """One row, its fields in the order of INSERT_VERSION."""

    application_id: str
    template_id: str
    version: int
    content: dict[str, Any]
    default_locale: str | None
    variants: list[dict[str, Any]]
    variables: list[str]
    actor: str


async def lock_edits(c: Connection, application_id: str) -> None:
    """Until the end of the transaction."""
    await c.execute(LOCK_EDITS, EDITS, application_id)


async def find_heads(c: Connection, asked: Sequence[Asked]) -> dict[Asked, Head]:
    """What is unknown is absent."""
    rows = await c.fetch(FIND_HEADS, *_columns(asked))
    return {asked[row[0] - 1]: Head(*row[1:]) for row in rows}


async def find_versions(c: Connection, keys: Sequence[VersionKey]) -> dict[VersionKey, Any]:
    """Rows of VERSIONS."""
    rows = await c.fetch(VERSIONS, *_columns(keys))
    return {VersionKey(*row[:3]): row for row in rows}


async def find_whole(c: Connection, asked: Asked) -> Any:
    """A row, or None."""
    return await c.fetchrow(FIND_WHOLE, *asked)


async def name_is_taken(c: Connection, application_id: str, name: str, template_id: str) -> bool:
    """By a template other than `template_id`."""
    return bool(await c.fetchval(NAME_IS_TAKEN, application_id, name, template_id))


async def insert_template(c: Connection, first: NewVersion, name: str, description: str | None) -> None:
    await c.execute(INSERT_TEMPLATE, first.application_id, first.template_id, name, description, first.actor)


async def insert_version(c: Connection, new: NewVersion) -> None:
    await c.execute(INSERT_VERSION, *new)


async def update_template(c: Connection, new: NewVersion, name: str, description: str | None) -> None:
    """Makes `new` the current version."""
    await c.execute(UPDATE_TEMPLATE, new.application_id, new.template_id, name, description, new.version, new.actor)


async def set_active(c: Connection, application_id: str, template_id: str, is_active: bool, actor: str) -> None:
    """Changes nothing where nothing changes."""
    await c.execute(SET_ACTIVE, application_id, template_id, is_active, actor)


async def list_templates(
    c: Connection, application_id: str, is_active: bool | None, limit: int, offset: int
) -> tuple[Sequence[Any], int]:
    """Rows, and how many there are in all."""
    rows = await c.fetch(LIST_TEMPLATES, application_id, is_active, limit, offset)
    return rows, await c.fetchval(COUNT_TEMPLATES, application_id, is_active)


async def list_versions(c: Connection, application_id: str, template_id: str, limit: int, offset: int) -> Sequence[Any]:
    return await c.fetch(LIST_VERSIONS, application_id, template_id, limit, offset)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))
