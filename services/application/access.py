"""Who may come in: API keys made, found, rotated and revoked."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from libs.bearer import digest_of
from libs.coalesce import Coalescer
from libs.errors import AuthenticationFailed, ResourceNotFound, ValidationFailed
from libs.ids import new_id
from libs.pg import Connection, Pool
from libs.rpc import (
    ApiKeys,
    AuditEntry,
    Authenticate,
    CreateKey,
    Empty,
    KeyCreated,
    ListKeys,
    Principal,
    RevokeKey,
    RotateKey,
)
from libs.seal import KeyRing
from services.application import keys, queries
from services.application.checks import check_name, expect_id
from services.application.last_used import LastUsed
from services.application.queries import LockedKey, NewKey
from services.application.queries_limits import insert_audit

SCOPES = frozenset({"send", "read", "manage", "client"})
LONGEST_LIFE = timedelta(days=3653)
LONGEST_GRACE_S = 90 * 86_400


class Access:
    def __init__(self, pool: Pool, ring: KeyRing, last_used: LastUsed) -> None:
        self._pool = pool
        self._ring = ring
        self._last_used = last_used
        self._asked: Coalescer[bytes, Principal] = Coalescer(self._find, concurrency=2)

    async def authenticate(self, request: Authenticate) -> Principal:
        return await self._asked.submit(keys.stored_hash(self._ring, request.digest))

    async def _find(self, hashes: list[bytes]) -> Sequence[Principal | Exception]:
        async with self._pool.connection() as c:
            found = await queries.find_keys(c, hashes)
        for key in found.values():
            if key.unnoted:
                self._last_used.note(key.principal.key_id)
        return [found[each].principal if each in found else AuthenticationFailed() for each in hashes]

    async def create(self, request: CreateKey) -> KeyCreated:
        application_id = expect_id(request.application_id)
        check_name(request.name)
        scopes = _checked_scopes(request.scopes)
        api_key, key = self._new_key()
        async with self._pool.transaction() as c:
            expires_at = await _expiry(c, request.expires_at_ms)
            if not await queries.insert_key(c, application_id, key, request.name, scopes, expires_at):
                raise ResourceNotFound(id=application_id)
            entry = _entry(request, application_id, "key.create", key.id, {"scopes": scopes})
            await insert_audit(c, [entry])
        return KeyCreated(key.id, api_key)

    async def rotate(self, request: RotateKey) -> KeyCreated:
        if not 0 <= request.grace_s <= LONGEST_GRACE_S:
            raise ValidationFailed(fields={"grace_s": f"must be 0 to {LONGEST_GRACE_S} seconds"})
        api_key, successor = self._new_key()
        async with self._pool.transaction() as c:
            old = await _locked(c, request)
            if old.is_revoked:
                raise ResourceNotFound(id=request.key_id, reason="revoked")
            key_id = request.key_id.lower()
            await queries.insert_successor(c, old.application_id, key_id, successor)
            await queries.expire_key(c, old.application_id, key_id, timedelta(seconds=request.grace_s))
            told = {"successor": successor.id, "grace_s": request.grace_s}
            await insert_audit(c, [_entry(request, old.application_id, "key.rotate", key_id, told)])
        return KeyCreated(successor.id, api_key)

    async def revoke(self, request: RevokeKey) -> Empty:
        async with self._pool.transaction() as c:
            key = await _locked(c, request)
            if not key.is_revoked:
                key_id = request.key_id.lower()
                await queries.revoke_key(c, key.application_id, key_id)
                await insert_audit(c, [_entry(request, key.application_id, "key.revoke", key_id, {})])
        return Empty()

    async def list(self, request: ListKeys) -> ApiKeys:
        application_id = expect_id(request.application_id)
        async with self._pool.connection() as c:
            found = await queries.keys_of(c, application_id)
            if not found and not await queries.application_exists(c, application_id):
                raise ResourceNotFound(id=application_id)
        return ApiKeys(found)

    def _new_key(self) -> tuple[str, NewKey]:
        """The key, and what is kept of it."""
        api_key = keys.new_key()
        return api_key, NewKey(new_id(), keys.stored_hash(self._ring, digest_of(api_key)), keys.hint_of(api_key))


def _checked_scopes(scopes: list[str]) -> list[str]:
    """Raises `ValidationFailed`."""
    if not scopes or not SCOPES.issuperset(scopes):
        raise ValidationFailed(fields={"scopes": f"must be some of {', '.join(sorted(SCOPES))}"})
    distinct = sorted(set(scopes))
    if "client" in distinct and len(distinct) > 1:
        raise ValidationFailed(fields={"scopes": "client must stand alone: its key lies in every copy of an app"})
    return distinct


async def _expiry(c: Connection, ms: int | None) -> datetime | None:
    """Raises `ValidationFailed`."""
    if ms is None:
        return None
    moment = queries.moment_of(ms)
    if not await queries.expires_well(c, moment, LONGEST_LIFE):
        raise ValidationFailed(fields={"expires_at_ms": "must be in the future, and within ten years"})
    return moment


async def _locked(c: Connection, request: RotateKey | RevokeKey) -> LockedKey:
    """Raises `ResourceNotFound`."""
    owner = None if request.application_id is None else expect_id(request.application_id)
    key = await queries.lock_key(c, expect_id(request.key_id), owner)
    if key is None:
        raise ResourceNotFound(id=request.key_id)
    return key


def _entry(
    request: CreateKey | RotateKey | RevokeKey, application_id: str, action: str, key_id: str, data: dict[str, Any]
) -> AuditEntry:
    return AuditEntry(application_id, request.actor, action, f"key/{key_id}", request.request_id, data)
