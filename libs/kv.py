"""Small shared records in JetStream: read, and replaced only by who has seen the last version."""

import asyncio

import nats.errors
import nats.js.errors
from nats.js.api import KeyValueConfig, StorageType
from nats.js.kv import KeyValue

from libs.bus import Bus
from libs.errors import ServiceUnavailable

_TIMEOUT = 1.0
_AWAY = (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError)


class Bucket:
    """A key-value bucket in memory, made when first needed: what it holds may be forgotten at any time.

    A record nobody writes goes after `ttl` seconds. Together they take at most `max_bytes`.
    """

    def __init__(self, bus: Bus, name: str, *, ttl: float, max_bytes: int = 16 * 1024**2) -> None:
        self._bus = bus
        self._config = KeyValueConfig(
            bucket=name,
            ttl=ttl,
            max_bytes=max_bytes,
            storage=StorageType.MEMORY,
            replicas=bus.settings.replicas,
        )
        self._opened: KeyValue | None = None

    async def get(self, key: str) -> tuple[bytes, int] | None:
        """The record and its revision. Raises `ServiceUnavailable` when nobody answers within a second."""
        try:
            async with asyncio.timeout(_TIMEOUT):
                entry = await (await self._open()).get(key)
        except nats.js.errors.KeyNotFoundError:
            return None
        except _AWAY:
            raise self._away() from None
        return entry.value or b"", entry.revision or 0

    async def put(self, key: str, value: bytes, revision: int) -> int | None:
        """Replaces `revision` (0: there is none), answers with the new one; None: somebody else was first.

        Raises `ServiceUnavailable` when nobody answers within a second: then it may be written, or not.
        """
        try:
            async with asyncio.timeout(_TIMEOUT):
                return await (await self._open()).update(key, value, last=revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            return None
        except _AWAY:
            raise self._away() from None

    async def _open(self) -> KeyValue:
        if self._opened is None:
            if not self._bus.client.is_connected:
                raise nats.errors.ConnectionClosedError
            try:
                self._opened = await self._bus.js.create_key_value(self._config)
            except nats.js.errors.BadRequestError:  # made by another release, with other bounds
                self._opened = await self._bus.js.key_value(self._config.bucket)
        return self._opened

    def _away(self) -> ServiceUnavailable:
        """A server that was restarted has forgotten the bucket: the next one to ask makes it again."""
        self._opened = None
        return ServiceUnavailable(service="nats", retry_after=1)
