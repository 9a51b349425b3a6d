"""Idempotency-Key for operations that do not commit it themselves: the first answer is kept, and given again for 24 h.

The handler makes what it creates under an id derived from the key, so that a repetition after a crash, before the
answer was kept, finds its own work instead of doing it again. Only success is kept: an error may pass.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from uuid import UUID

import msgspec

from libs import rpc
from libs.bus import Bus
from libs.errors import IdempotencyKeyReused, InternalError, ServiceUnavailable, SignalError
from services.ingest.idempotency import REPLAYED, Guard

_EARLIEST_MS = 1_735_689_600_000
"""2025-01-01: before anything that was ever stored."""
_SPREAD_MS = 2**34
"""About 200 days."""


class Rendered(msgspec.Struct, frozen=True, array_like=True):
    """An answer as it goes out, and as it is kept."""

    status: int
    body: bytes
    headers: dict[str, str]


class Outcome(NamedTuple):
    rendered: Rendered
    subjects: tuple[str, ...] = ()
    """Users and subscriptions that it speaks of."""


Perform = Callable[[], Awaitable[Outcome]]
_Key = tuple[str, str]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Rendered).decode


class _Running(NamedTuple):
    fingerprint: bytes
    outcome: asyncio.Future[Rendered]


class Repeats:
    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._running: dict[_Key, _Running] = {}

    async def once(self, application_id: str, guard: Guard, perform: Perform) -> Rendered:
        """What was answered before under this key, else what `perform` comes to.

        Raises `IdempotencyKeyReused` if the key belongs to another request, `ServiceUnavailable` where nobody can tell
        or keep, and what `perform` raises. Repetitions that come while the first is under way share its outcome.
        """
        key = application_id, guard.key
        running = self._running.get(key)
        if running is None:
            return await self._first(key, guard, perform)
        if running.fingerprint != guard.fingerprint:
            raise IdempotencyKeyReused(key=guard.key)
        return _again(await asyncio.shield(running.outcome))

    async def _first(self, key: _Key, guard: Guard, perform: Perform) -> Rendered:
        outcome: asyncio.Future[Rendered] = asyncio.get_running_loop().create_future()
        self._running[key] = _Running(guard.fingerprint, outcome)
        try:
            found = await self._settle(key[0], guard, perform)
        except BaseException as error:
            outcome.set_exception(_shared(error))
            outcome.exception()  # seen here too, for when nobody waits
            raise
        else:
            outcome.set_result(found)
            return found
        finally:
            del self._running[key]

    async def _settle(self, application_id: str, guard: Guard, perform: Perform) -> Rendered:
        question = rpc.LookUpIdempotency(application_id, guard.key, guard.fingerprint)
        before = await self._bus.call("lifecycle", "replay", question, rpc.Replay)
        if before.answer is not None:
            return _again(_decode(before.answer))
        done = await perform()
        kept = rpc.Idempotency(guard.key, guard.fingerprint, _encode(done.rendered))
        request = rpc.Remember(application_id, kept, list(done.subjects))
        first = await self._bus.call("lifecycle", "remember", request, rpc.Replay)
        return done.rendered if first.answer is None else _again(_decode(first.answer))


def derived_id(application_id: str, guard: Guard) -> str:
    """The UUIDv7-shaped id of what a request creates (R8): the same whenever it is repeated.

    A key that is a UUIDv7 itself lends its time, so that ids keep the order of creation, by which lists go. Any other
    key says nothing of time: the id then looks older than everything.
    """
    seed = b"\0".join((application_id.encode(), guard.key.encode(), guard.fingerprint))
    digest = hashlib.sha256(seed).digest()
    unix_ms = _time_of(guard.key)
    if unix_ms is None:
        unix_ms = _EARLIEST_MS + int.from_bytes(digest[16:24]) % _SPREAD_MS
    bits = unix_ms << 80 | int.from_bytes(digest[:10])
    bits = bits & ~(0xF << 76) | 0x7 << 76  # version (RFC 9562 §4.2)
    bits = bits & ~(0x3 << 62) | 0x2 << 62  # variant (§4.1)
    return str(UUID(int=bits))


def _time_of(key: str) -> int | None:
    try:
        identifier = UUID(key)
    except ValueError:
        return None
    return identifier.int >> 80 if identifier.version == 7 else None


def _again(rendered: Rendered) -> Rendered:
    return msgspec.structs.replace(rendered, headers={**rendered.headers, **REPLAYED})


def _shared(error: BaseException) -> SignalError:
    """What those are told who waited for an execution that failed."""
    if isinstance(error, asyncio.CancelledError):
        return ServiceUnavailable(reason="interrupted", retry_after=1)
    return error if isinstance(error, SignalError) else InternalError()
