"""All SQL of the application service."""

from typing import Any, NamedTuple

from libs.pg import Connection
from libs.rpc import Tier

INSERT_APPLICATION = """
INSERT INTO application.applications (id, name, tier, settings) VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO NOTHING
"""

INSERT_KEY = """
INSERT INTO application.api_keys (id, application_id, name, keyed_hash, scopes)
SELECT $1, applications.id, $3, $4, $5 FROM application.applications WHERE applications.id = $2
RETURNING id
"""

FIND_KEY = """
SELECT api_keys.id, api_keys.application_id, api_keys.scopes, applications.tier
FROM application.api_keys
JOIN application.applications ON applications.id = api_keys.application_id
WHERE api_keys.keyed_hash = $1 AND api_keys.revoked_at IS NULL
"""

REVOKE_KEY = """
UPDATE application.api_keys SET revoked_at = coalesce(revoked_at, now()) WHERE id = $1
RETURNING id
"""

UPSERT_CREDENTIAL = """
INSERT INTO application.credentials AS known (application_id, provider, version, sealed, wrapped_key)
SELECT applications.id, $2, 1, $3, $4 FROM application.applications WHERE applications.id = $1
ON CONFLICT (application_id, provider) DO UPDATE SET
    version = known.version + 1, sealed = excluded.sealed, wrapped_key = excluded.wrapped_key, updated_at = now()
RETURNING version
"""

FIND_CREDENTIAL = """
SELECT version, sealed, wrapped_key FROM application.credentials WHERE application_id = $1 AND provider = $2
"""


class FoundKey(NamedTuple):
    key_id: str
    application_id: str
    scopes: list[str]
    tier: Tier


class SealedCredential(NamedTuple):
    version: int
    sealed: bytes
    wrapped_key: bytes


async def insert_application(
    c: Connection, application_id: str, name: str, tier: str, settings: dict[str, Any]
) -> None:
    """An application that exists stays as it is."""
    await c.execute(INSERT_APPLICATION, application_id, name, tier, settings)


async def insert_key(
    c: Connection, key_id: str, application_id: str, name: str, stored_hash: bytes, scopes: list[str]
) -> bool:
    """False where there is no such application."""
    return await c.fetchval(INSERT_KEY, key_id, application_id, name, stored_hash, scopes) is not None


async def find_key(c: Connection, stored_hash: bytes) -> FoundKey | None:
    """A key that was revoked is not found. The one query that asks which application it is."""
    row = await c.fetchrow(FIND_KEY, stored_hash)
    return FoundKey(str(row["id"]), str(row["application_id"]), row["scopes"], row["tier"]) if row else None


async def revoke_key(c: Connection, key_id: str) -> bool:
    """False where there is no such key. The first revocation's time stays."""
    return await c.fetchval(REVOKE_KEY, key_id) is not None


async def upsert_credential(
    c: Connection, application_id: str, provider: str, sealed: bytes, wrapped_key: bytes
) -> bool:
    """Version 1, or the next one. False where there is no such application."""
    return await c.fetchval(UPSERT_CREDENTIAL, application_id, provider, sealed, wrapped_key) is not None


async def find_credential(c: Connection, application_id: str, provider: str) -> SealedCredential | None:
    row = await c.fetchrow(FIND_CREDENTIAL, application_id, provider)
    return SealedCredential(row["version"], row["sealed"], row["wrapped_key"]) if row else None
