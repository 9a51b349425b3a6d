"""What other services may ask of application (`signal.rpc.application.*`)."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from libs.errors import AuthenticationFailed, ResourceNotFound, ValidationFailed
from libs.ids import is_id, new_id
from libs.pg import Pool
from libs.rpc import (
    ApplicationCreated,
    Authenticate,
    CreateApplication,
    CreateKey,
    Credential,
    Empty,
    GetCredential,
    KeyCreated,
    Principal,
    RevokeKey,
    SetCredential,
)
from libs.seal import KeyRing, associated, key_id_of
from services.application import credentials, keys, queries

SCOPES = frozenset({"send", "read", "manage"})
MAX_NAME = 200
MAX_SETTINGS = 16 * 1024
"""Bytes of JSON."""
_SECRET_COLUMN = "credentials.sealed"
_decode_secret = msgspec.msgpack.Decoder(dict[str, Any]).decode


class Handlers:
    def __init__(self, pool: Pool, ring: KeyRing) -> None:
        self._pool = pool
        self._ring = ring

    def verbs(self) -> dict[str, tuple[type[msgspec.Struct], Callable[[Any], Awaitable[msgspec.Struct]]]]:
        return {
            "authenticate": (Authenticate, self.authenticate),
            "create_application": (CreateApplication, self.create_application),
            "create_key": (CreateKey, self.create_key),
            "revoke_key": (RevokeKey, self.revoke_key),
            "set_credential": (SetCredential, self.set_credential),
            "credential": (GetCredential, self.credential),
        }

    async def authenticate(self, request: Authenticate) -> Principal:
        async with self._pool.connection() as c:
            found = await queries.find_key(c, keys.stored_hash(self._ring, request.digest))
        if found is None:
            raise AuthenticationFailed
        return Principal(found.application_id, found.key_id, found.scopes, found.tier)

    async def create_application(self, request: CreateApplication) -> ApplicationCreated:
        if not is_id(request.application_id):
            raise ValidationFailed(fields={"application_id": "must be a UUID"})
        _check_name(request.name)
        _check_settings(request.settings)
        async with self._pool.connection() as c:
            await queries.insert_application(c, request.application_id, request.name, request.tier, request.settings)
        return ApplicationCreated(request.application_id.lower())

    async def create_key(self, request: CreateKey) -> KeyCreated:
        _check_name(request.name)
        if not request.scopes or not SCOPES.issuperset(request.scopes):
            raise ValidationFailed(fields={"scopes": f"must be some of {', '.join(sorted(SCOPES))}"})
        key_id, api_key = new_id(), keys.new_key()
        stored = keys.stored_hash(self._ring, keys.digest_of(api_key))
        scopes = sorted(set(request.scopes))
        _expect_id(request.application_id)
        async with self._pool.connection() as c:
            if not await queries.insert_key(c, key_id, request.application_id, request.name, stored, scopes):
                raise ResourceNotFound(id=request.application_id)
        return KeyCreated(key_id, api_key)

    async def revoke_key(self, request: RevokeKey) -> Empty:
        _expect_id(request.key_id)
        async with self._pool.connection() as c:
            if not await queries.revoke_key(c, request.key_id):
                raise ResourceNotFound(id=request.key_id)
        return Empty()

    async def set_credential(self, request: SetCredential) -> Empty:
        _expect_id(request.application_id)
        credentials.check(request.provider, request.secret)
        key, wrapped = self._ring.new_key()
        bound_to = associated(request.application_id.lower(), _SECRET_COLUMN, request.provider)
        sealed = key.seal(msgspec.msgpack.encode(request.secret), bound_to)
        async with self._pool.connection() as c:
            if not await queries.upsert_credential(c, request.application_id, request.provider, sealed, wrapped):
                raise ResourceNotFound(id=request.application_id)
        return Empty()

    async def credential(self, request: GetCredential) -> Credential:
        _expect_id(request.application_id)
        async with self._pool.connection() as c:
            found = await queries.find_credential(c, request.application_id, request.provider)
        if found is None:
            raise ResourceNotFound(provider=request.provider)
        key = self._ring.unwrap(key_id_of(found.sealed), found.wrapped_key)
        bound_to = associated(request.application_id.lower(), _SECRET_COLUMN, request.provider)
        return Credential(found.version, _decode_secret(key.open(found.sealed, bound_to)))


def _expect_id(text: str) -> None:
    """Nothing has an id that is none. Raises `ResourceNotFound`."""
    if not is_id(text):
        raise ResourceNotFound(id=text[:64])


def _check_name(name: str) -> None:
    """Raises `ValidationFailed`."""
    if not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        raise ValidationFailed(fields={"name": f"must have 1 to {MAX_NAME} printable characters"})


def _check_settings(settings: dict[str, Any]) -> None:
    """Raises `ValidationFailed`."""
    encoded = msgspec.json.encode(settings)
    if len(encoded) > MAX_SETTINGS or b"\\u0000" in encoded:  # a NUL is no text to Postgres
        raise ValidationFailed(fields={"settings": f"must be at most {MAX_SETTINGS} bytes of JSON without NUL"})
