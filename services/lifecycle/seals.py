"""The data keys of messages: content, and what an app attached to a conversion, are sealed under one (R14)."""

import contextlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from libs.bus import Bus
from libs.coalesce import Coalescer
from libs.pg import Pool
from libs.rpc import Resolve, Resolved
from libs.seal import DataKey, KeyRing, SealError, associated, key_id_of

from . import queries_erasure
from .accept import CONTENT_COLUMN
from .queries_erasure import MessageName

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, Any]).decode

Keys = Mapping[bytes, DataKey]
"""By id. A key that is not there was destroyed."""


class Seals:
    def __init__(self, pool: Pool, bus: Bus, ring: KeyRing) -> None:
        self._pool = pool
        self._bus = bus
        self._ring = ring
        self._of_messages = Coalescer[MessageName, DataKey | None](self._look_up, concurrency=2)

    async def keys(self, application_id: str, key_ids: Collection[bytes]) -> dict[bytes, DataKey]:
        """Asked anew each time: whether a key still exists is for the subscription service alone to say."""
        if not key_ids:
            return {}
        request = Resolve(application_id, [], list(key_ids))
        wrapped = (await self._bus.call("subscription", "resolve", request, Resolved)).keys
        found: dict[bytes, DataKey] = {}
        for key_id in key_ids:
            if key_id in wrapped:
                with contextlib.suppress(SealError):
                    found[key_id] = self._ring.unwrap(key_id, wrapped[key_id])
        return found

    async def attach(self, application_id: str, message_id: str, action: str, data: dict[str, Any]) -> bytes | None:
        """`data` of a conversion, sealed. None: the message is unknown, or its person was erased."""
        key = await self._of_messages.submit((application_id, message_id.lower()))
        if key is None:
            return None
        return key.seal(_encode(data), _attachment(application_id, message_id, action))

    async def _look_up(self, asked: list[MessageName]) -> list[DataKey | None]:
        async with self._pool.connection() as c:
            key_ids = await queries_erasure.keys_of_messages(c, list(set(asked)))
        by_application: dict[str, set[bytes]] = defaultdict(set)
        for (application_id, _), key_id in key_ids.items():
            by_application[application_id].add(key_id)
        found = {each: await self.keys(each, wanted) for each, wanted in by_application.items()}
        return [found[name[0]].get(key_ids[name]) if name in key_ids else None for name in asked]


def opened(keys: Keys, application_id: str, message_id: str, sealed: bytes) -> bytes | None:
    """The content of a message; None: its data key was destroyed."""
    return _open(keys, sealed, associated(application_id, CONTENT_COLUMN, message_id))


def detached(keys: Keys, application_id: str, message_id: str, action: str, sealed: bytes) -> dict[str, Any] | None:
    """What an app attached to a conversion; None: its data key was destroyed."""
    plain = _open(keys, sealed, _attachment(application_id, message_id, action))
    return None if plain is None else _decode(plain)


def _open(keys: Keys, sealed: bytes, bound_to: bytes) -> bytes | None:
    key = keys.get(key_id_of(sealed))
    if key is None:
        return None
    try:
        return key.open(sealed, bound_to)
    except SealError:
        return None


def _attachment(application_id: str, message_id: str, action: str) -> bytes:
    return associated(application_id, CONTENT_COLUMN, f"{message_id}/converted/{action}")
