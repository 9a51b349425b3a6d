"""Provider credentials: sealed at rest, opened for senders alone."""

import asyncio
import contextlib
from typing import Any

import msgspec

from libs.bus import Bus
from libs.errors import ResourceNotFound, SignalError
from libs.pg import Pool
from libs.rpc import (
    AuditEntry,
    Credential,
    CredentialInfo,
    Credentials,
    DeleteCredential,
    Empty,
    GetCredential,
    ListCredentials,
    Provider,
    ReportBreaker,
    SetCredential,
)
from libs.seal import KeyRing, associated, key_id_of
from services.application import credentials, queries
from services.application.checks import expect_id
from services.application.queries_limits import insert_audit

_SECRET_COLUMN = "credentials.sealed"
_TELL_SECONDS = 1.0
_decode_secret = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Vault:
    def __init__(self, pool: Pool, ring: KeyRing, bus: Bus) -> None:
        self._pool = pool
        self._ring = ring
        self._bus = bus

    async def set(self, request: SetCredential) -> CredentialInfo:
        application_id = expect_id(request.application_id)
        await asyncio.to_thread(credentials.check, request.provider, request.secret)
        key, wrapped = self._ring.new_key()
        sealed = key.seal(msgspec.msgpack.encode(request.secret), _bound_to(application_id, request.provider))
        async with self._pool.transaction() as c:
            info = await queries.upsert_credential(c, application_id, request.provider, sealed, wrapped)
            if info is None:
                raise ResourceNotFound(id=application_id)
            await insert_audit(c, [_entry(request, application_id, "credential.set", info.version)])
        await self._tell(application_id, request.provider)
        return info

    async def _tell(self, application_id: str, provider: Provider) -> None:
        """What waits because the last credential was refused tries this one at once; untold, within five minutes."""
        told = ReportBreaker(application_id, provider, "renewed")
        with contextlib.suppress(SignalError):
            await self._bus.call("lifecycle", "report_breaker", told, Empty, timeout=_TELL_SECONDS)

    async def get(self, request: GetCredential) -> Credential:
        application_id = expect_id(request.application_id)
        async with self._pool.connection() as c:
            found = await queries.find_credential(c, application_id, request.provider)
        if found is None:
            raise ResourceNotFound(provider=request.provider)
        key = self._ring.unwrap(key_id_of(found.sealed), found.wrapped_key)
        opened = key.open(found.sealed, _bound_to(application_id, request.provider))
        return Credential(found.version, _decode_secret(opened))

    async def delete(self, request: DeleteCredential) -> Empty:
        application_id = expect_id(request.application_id)
        async with self._pool.transaction() as c:
            version = await queries.delete_credential(c, application_id, request.provider)
            if version is None:
                raise ResourceNotFound(provider=request.provider)
            await insert_audit(c, [_entry(request, application_id, "credential.delete", version)])
        return Empty()

    async def list(self, request: ListCredentials) -> Credentials:
        application_id = expect_id(request.application_id)
        async with self._pool.connection() as c:
            found = await queries.credentials_of(c, application_id)
            if not found and not await queries.application_exists(c, application_id):
                raise ResourceNotFound(id=application_id)
        return Credentials(found)


def _bound_to(application_id: str, provider: str) -> bytes:
    return associated(application_id, _SECRET_COLUMN, provider)


def _entry(request: SetCredential | DeleteCredential, application_id: str, action: str, version: int) -> AuditEntry:
    resource = f"credential/{request.provider}"
    return AuditEntry(application_id, request.actor, action, resource, request.request_id, {"version": version})
