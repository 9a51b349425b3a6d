"""Idempotency-Key for operations that do not commit it themselves: the first answer is kept, and given again for 24 h.

The handler makes what it creates under an id derived from the key, so that a repetition after a crash, before the
answer was kept, finds its own work instead of doing it again. Only success is kept: an error may pass. It is kept
sealed, for it may show a secret or say who somebody is: only the same request under the same key opens it.
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
from libs.seal import KEY_ID_BYTES, DataKey
from services.ingest.idempotency import REPLAYED, Guard

_STEP_MS = 3_600_000
"""Repetitions after a crash come soon: nearly always within the same hour of the clock."""
_KEY_ID = bytes(KEY_ID_BYTES)
"""Of keys that are kept nowhere, and so have no id."""


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
        key = application_id, guard.name
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
        question = rpc.LookUpIdempotency(application_id, guard.name, guard.fingerprint)
        before = await self._ask("replay", question, guard)
        if before.answer is not None:
            return _again(_opened(before.answer, guard))
        done = await perform()
        kept = rpc.Idempotency(guard.name, guard.fingerprint, _sealed(done.rendered, guard))
        first = await self._ask("remember", rpc.Remember(application_id, kept, list(done.subjects)), guard)
        return done.rendered if first.answer is None else _again(_opened(first.answer, guard))

    async def _ask(self, verb: str, question: rpc.LookUpIdempotency | rpc.Remember, guard: Guard) -> rpc.Replay:
        try:
            return await self._bus.call("lifecycle", verb, question, rpc.Replay)
        except IdempotencyKeyReused:
            raise IdempotencyKeyReused(key=guard.key) from None


def derived_id(application_id: str, guard: Guard, now_ms: int) -> str:
    """The UUIDv7-shaped id of what a request creates (R8): the same whenever it is repeated.

    A key that is a UUIDv7 itself lends its time, unless that lies ahead: ids keep the order of creation, by which lists
    go. Any other key says nothing of time: the id then is of the beginning of the hour.
    """
    seed = b"\0".join((application_id.encode(), guard.name.encode(), guard.fingerprint))
    digest = hashlib.sha256(seed).digest()
    unix_ms = _time_of(guard.key)
    if unix_ms is None or unix_ms > now_ms + _STEP_MS:
        unix_ms = now_ms - now_ms % _STEP_MS
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


def _sealed(rendered: Rendered, guard: Guard) -> bytes:
    return DataKey(_KEY_ID, guard.secret).seal(_encode(rendered), guard.name.encode())


def _opened(answer: bytes, guard: Guard) -> Rendered:
    return _decode(DataKey(_KEY_ID, guard.secret).open(answer, guard.name.encode()))


def _again(rendered: Rendered) -> Rendered:
    return msgspec.structs.replace(rendered, headers={**rendered.headers, **REPLAYED})


def _shared(error: BaseException) -> SignalError:
    """What those are told who waited for an execution that failed."""
    if isinstance(error, asyncio.CancelledError):
        return ServiceUnavailable(reason="interrupted", retry_after=1)
    return error if isinstance(error, SignalError) else InternalError()
