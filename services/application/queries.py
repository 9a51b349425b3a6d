"""SQL of the application service: applications, their keys and credentials. `queries_limits.py` holds the rest."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from libs.pg import Connection, Row
from libs.rpc import ApplicationView, CredentialInfo, KeyView, Principal, Tier

INSERT_APPLICATION = """
INSERT INTO application.applications (id, name, tier, settings, identity_public_key, identity_required)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (id) DO NOTHING
RETURNING id
"""

LOCK_APPLICATION = """
SELECT id, name, tier, settings, identity_public_key, identity_required, created_at
FROM application.applications WHERE id = $1 FOR NO KEY UPDATE
"""

UPDATE_APPLICATION = """
UPDATE application.applications
SET name = $2, tier = $3, settings = $4, identity_public_key = $5, identity_required = $6
WHERE id = $1
"""

LIST_APPLICATIONS = """
SELECT id, name, tier, settings, identity_public_key, identity_required, created_at
FROM application.applications WHERE id > $1 ORDER BY id LIMIT $2
"""

GET_APPLICATION = """
SELECT id, name, tier, settings, identity_public_key, identity_required, created_at
FROM application.applications WHERE id = $1
"""

SETTINGS_OF = "SELECT id::text, settings FROM application.applications WHERE id = ANY ($1::uuid[])"

APPLICATION_EXISTS = "SELECT true FROM application.applications WHERE id = $1"

EXPIRES_WELL = "SELECT $1::timestamptz > now() AND $1 <= now() + $2::interval"

INSERT_KEY = """
INSERT INTO application.api_keys (id, application_id, name, keyed_hash, hint, scopes, expires_at, lifetime)
SELECT $1, applications.id, $3, $4, $5, $6, $7, $7 - now() FROM application.applications WHERE applications.id = $2
RETURNING id
"""

INSERT_SUCCESSOR = """
INSERT INTO application.api_keys
    (id, application_id, name, keyed_hash, hint, scopes, expires_at, lifetime, rotated_from)
SELECT $3, application_id, name, $4, $5, scopes, now() + lifetime, lifetime, id
FROM application.api_keys WHERE application_id = $1 AND id = $2
"""

FIND_KEYS = """
SELECT api_keys.keyed_hash, api_keys.id, api_keys.application_id, api_keys.scopes, applications.tier,
    applications.identity_required, applications.identity_public_key,
    coalesce(api_keys.last_used_at <= now() - interval '1 minute', true) AS unnoted
FROM application.api_keys
JOIN application.applications ON applications.id = api_keys.application_id
WHERE api_keys.keyed_hash = ANY ($1::bytea[])
    AND api_keys.revoked_at IS NULL AND (api_keys.expires_at IS NULL OR api_keys.expires_at > now())
"""

NOTE_KEYS_USED = """
WITH used AS (
    SELECT id FROM application.api_keys
    WHERE id = ANY ($1::uuid[]) AND (last_used_at IS NULL OR last_used_at <= now() - interval '1 minute')
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE application.api_keys SET last_used_at = now() FROM used WHERE api_keys.id = used.id
"""

LOCK_KEY = """
SELECT application_id, scopes, revoked_at FROM application.api_keys
WHERE id = $1 AND ($2::uuid IS NULL OR application_id = $2) FOR NO KEY UPDATE
"""

REVOKE_KEY = "UPDATE application.api_keys SET revoked_at = now() WHERE application_id = $1 AND id = $2"

EXPIRE_KEY = """
UPDATE application.api_keys SET expires_at = least(expires_at, now() + $3::interval)
WHERE application_id = $1 AND id = $2
"""

LIST_KEYS = """
SELECT id, name, hint, scopes, created_at, expires_at, last_used_at, revoked_at
FROM application.api_keys WHERE application_id = $1 ORDER BY created_at DESC, id DESC LIMIT 1000
"""

UPSERT_CREDENTIAL = """
INSERT INTO application.credentials AS known (application_id, provider, version, sealed, wrapped_key)
SELECT applications.id, $2, 1, $3, $4 FROM application.applications WHERE applications.id = $1
ON CONFLICT (application_id, provider) DO UPDATE SET
    version = known.version + 1, sealed = excluded.sealed, wrapped_key = excluded.wrapped_key, updated_at = now()
RETURNING provider, version, updated_at
"""

FIND_CREDENTIAL = """
SELECT version, sealed, wrapped_key FROM application.credentials WHERE application_id = $1 AND provider = $2
"""

DELETE_CREDENTIAL = "DELETE FROM application.credentials WHERE application_id = $1 AND provider = $2 RETURNING version"

LIST_CREDENTIALS = """
SELECT provider, version, updated_at FROM application.credentials WHERE application_id = $1 ORDER BY provider
"""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_MS = (datetime.min.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)
_LAST_MS = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(milliseconds=1)


class StoredApplication(NamedTuple):
    id: str
    name: str
    tier: Tier
    settings: dict[str, Any]
    identity_public_key: str | None
    identity_required: bool
    created_at_ms: int

    def view(self) -> ApplicationView:
        has_key = self.identity_public_key is not None
        return ApplicationView(
            self.id, self.name, self.tier, self.settings, self.identity_required, has_key, self.created_at_ms
        )


class NewKey(NamedTuple):
    """What is stored of a key."""

    id: str
    keyed_hash: bytes
    hint: str


class FoundKey(NamedTuple):
    principal: Principal
    unnoted: bool
    """Its last use was noted more than a minute ago, or never."""


class LockedKey(NamedTuple):
    application_id: str
    scopes: list[str]
    is_revoked: bool


class SealedCredential(NamedTuple):
    version: int
    sealed: bytes
    wrapped_key: bytes


def unix_ms(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


def moment_of(ms: int) -> datetime:
    """The nearest moment that there is a form for: years 1 to 9999."""
    return EPOCH + timedelta(milliseconds=max(_FIRST_MS, min(ms, _LAST_MS)))


async def insert_application(c: Connection, new: StoredApplication) -> bool:
    """False: it exists, and stays as it is."""
    return await c.fetchval(INSERT_APPLICATION, *new[:-1]) is not None


async def lock_application(c: Connection, application_id: str) -> StoredApplication | None:
    row = await c.fetchrow(LOCK_APPLICATION, application_id)
    return _application(row) if row else None


async def get_application(c: Connection, application_id: str) -> StoredApplication | None:
    row = await c.fetchrow(GET_APPLICATION, application_id)
    return _application(row) if row else None


async def settings_of(c: Connection, application_ids: list[str]) -> dict[str, dict[str, Any]]:
    """By application; those that do not exist are absent."""
    return {row["id"]: row["settings"] for row in await c.fetch(SETTINGS_OF, application_ids)}


async def update_application(c: Connection, changed: StoredApplication) -> None:
    await c.execute(UPDATE_APPLICATION, *changed[:-1])


async def applications(c: Connection, after: str, limit: int) -> list[StoredApplication]:
    return [_application(row) for row in await c.fetch(LIST_APPLICATIONS, after, limit)]


def _application(row: Row) -> StoredApplication:
    identity = row["identity_public_key"], row["identity_required"]
    return StoredApplication(
        str(row["id"]), row["name"], row["tier"], row["settings"], *identity, unix_ms(row["created_at"])
    )


async def application_exists(c: Connection, application_id: str) -> bool:
    return bool(await c.fetchval(APPLICATION_EXISTS, application_id))


async def expires_well(c: Connection, moment: datetime, longest: timedelta) -> bool:
    """Whether `moment` is to come, and not further away than `longest`."""
    return bool(await c.fetchval(EXPIRES_WELL, moment, longest))


async def insert_key(
    c: Connection, application_id: str, key: NewKey, name: str, scopes: list[str], expires_at: datetime | None
) -> bool:
    """False where there is no such application."""
    row = (key.id, application_id, name, key.keyed_hash, key.hint, scopes, expires_at)
    return await c.fetchval(INSERT_KEY, *row) is not None


async def insert_successor(c: Connection, application_id: str, key_id: str, successor: NewKey) -> None:
    await c.execute(INSERT_SUCCESSOR, application_id, key_id, *successor)


async def find_keys(c: Connection, hashes: list[bytes]) -> dict[bytes, FoundKey]:
    """By hash. What was revoked or has expired is not found. The one query that asks which application it is."""
    return {row["keyed_hash"]: _found(row) for row in await c.fetch(FIND_KEYS, hashes)}


def _found(row: Row) -> FoundKey:
    principal = Principal(
        application_id=str(row["application_id"]),
        key_id=str(row["id"]),
        scopes=row["scopes"],
        tier=row["tier"],
        identity_required=row["identity_required"],
        identity_public_key=row["identity_public_key"],
    )
    return FoundKey(principal, row["unnoted"])


async def note_keys_used(c: Connection, key_ids: list[str]) -> None:
    """At most once a minute per key, whoever else notes it too; a key that is being changed waits for its next use."""
    await c.execute(NOTE_KEYS_USED, key_ids)


async def lock_key(c: Connection, key_id: str, application_id: str | None) -> LockedKey | None:
    row = await c.fetchrow(LOCK_KEY, key_id, application_id)
    return LockedKey(str(row["application_id"]), row["scopes"], row["revoked_at"] is not None) if row else None


async def revoke_key(c: Connection, application_id: str, key_id: str) -> None:
    await c.execute(REVOKE_KEY, application_id, key_id)


async def expire_key(c: Connection, application_id: str, key_id: str, after: timedelta) -> None:
    """It works for so long yet, or shorter if it was to end before."""
    await c.execute(EXPIRE_KEY, application_id, key_id, after)


async def keys_of(c: Connection, application_id: str) -> list[KeyView]:
    def ms(moment: datetime | None) -> int | None:
        return None if moment is None else unix_ms(moment)

    return [
        KeyView(
            id=str(row["id"]),
            name=row["name"],
            hint=row["hint"],
            scopes=row["scopes"],
            created_at_ms=unix_ms(row["created_at"]),
            expires_at_ms=ms(row["expires_at"]),
            last_used_at_ms=ms(row["last_used_at"]),
            revoked_at_ms=ms(row["revoked_at"]),
        )
        for row in await c.fetch(LIST_KEYS, application_id)
    ]


async def upsert_credential(
    c: Connection, application_id: str, provider: str, sealed: bytes, wrapped_key: bytes
) -> CredentialInfo | None:
    """Version 1, or the next one. None where there is no such application."""
    row = await c.fetchrow(UPSERT_CREDENTIAL, application_id, provider, sealed, wrapped_key)
    return _credential(row) if row else None


async def find_credential(c: Connection, application_id: str, provider: str) -> SealedCredential | None:
    row = await c.fetchrow(FIND_CREDENTIAL, application_id, provider)
    return SealedCredential(row["version"], row["sealed"], row["wrapped_key"]) if row else None


async def delete_credential(c: Connection, application_id: str, provider: str) -> int | None:
    """Its last version; None where there was none."""
    version: int | None = await c.fetchval(DELETE_CREDENTIAL, application_id, provider)
    return version


async def credentials_of(c: Connection, application_id: str) -> list[CredentialInfo]:
    return [_credential(row) for row in await c.fetch(LIST_CREDENTIALS, application_id)]


def _credential(row: Row) -> CredentialInfo:
    return CredentialInfo(row["provider"], row["version"], unix_ms(row["updated_at"]))
