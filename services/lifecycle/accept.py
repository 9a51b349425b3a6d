"""Acceptance: whole requests are gathered, sealed, and committed as log, projection and hand-offs (R1, R5, R15)."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import partial

import msgspec

from libs import telemetry
from libs.coalesce import Coalescer
from libs.envelope import LANES, Accepted, Lane
from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.pg import Connection, Pool
from libs.rpc import Accept, AcceptReply, LookUpIdempotency, NewMessage, Remember, Replay
from libs.seal import KeyRing, associated

from . import queries_accept as queries
from . import schedule
from .handoff import Handoff, Publisher, cut, record
from .idempotency import answered_before, keep, look_up

DEFAULT_TTL = 86_400
"""Seconds: pending for more than a day is expired (SEQ-003 §10)."""
CONTENT_COLUMN = "message_events.sealed"
_Member = tuple[Accept, NewMessage, bytes]
"""A message of a request, with its sealed content."""


class _Sealed(msgspec.Struct):
    """One request, ready to be written."""

    request: Accept
    ciphertexts: list[bytes]


class Acceptor:
    def __init__(self, pool: Pool, ring: KeyRing, publisher: Publisher, transactions: int) -> None:
        self._pool = pool
        self._ring = ring
        self._publisher = publisher
        self._replays: Coalescer[LookUpIdempotency, Replay] = Coalescer(
            partial(look_up, pool.of("critical")),  # theirs are among them, and it takes a moment
            concurrency=transactions,
        )
        self._keepings: Coalescer[Remember, Replay] = Coalescer(
            partial(keep, pool), concurrency=transactions, weight=lambda one: 1 + len(one.idempotency.answer) // 4096
        )
        self._coalescers: dict[tuple[Lane, str], Coalescer[_Sealed, AcceptReply]] = {
            (lane, source): Coalescer(
                partial(self._commit, lane),
                max_items=500,
                max_pending=20_000,
                concurrency=transactions,
                weight=lambda sealed: len(sealed.request.messages),
            )
            for lane in LANES
            for source in ("single", "batch")
        }

    async def accept(self, request: Accept) -> AcceptReply:
        """Answers after the commit. A request in several lanes is written with its most urgent one."""
        lane, *others = sorted({message.lane for message in request.messages}, key=LANES.index)
        if others:
            await self._publisher.room(*others)
        sealed = _Sealed(request, [self._seal(request.application_id, message) for message in request.messages])
        return await self._coalescers[lane, request.source].submit(sealed)

    async def replay(self, request: LookUpIdempotency) -> Replay:
        """What was answered under this key. Raises `IdempotencyKeyReused` if it was to another request."""
        return await self._replays.submit(request)

    async def remember(self, request: Remember) -> Replay:
        """Keeps an answer under its key. Raises `IdempotencyKeyReused` if the key has another request's."""
        return await self._keepings.submit(request)

    def _seal(self, application_id: str, message: NewMessage) -> bytes:
        key = self._ring.unwrap(message.key_id, message.wrapped_key)
        return key.seal(message.content, associated(application_id, CONTENT_COLUMN, message.message_id))

    async def _commit(self, lane: Lane, batch: list[_Sealed]) -> Sequence[AcceptReply | Exception]:
        """All requests in one transaction; one that cannot be written is found by halving and refused alone."""
        await self._publisher.room(lane)
        try:
            return await self._transact(self._pool.of(lane), batch)
        except ServiceUnavailable as error:
            return [error] * len(batch)
        except Exception as error:
            if len(batch) == 1:
                return [error]
        middle = len(batch) // 2
        return [*await self._commit(lane, batch[:middle]), *await self._commit(lane, batch[middle:])]

    async def _transact(self, pool: Pool, batch: list[_Sealed]) -> list[AcceptReply | Exception]:
        with telemetry.histogram("transaction_seconds", transaction="accept").time():
            async with pool.transaction() as c:
                at = await queries.now_ms(c)
                since = asyncio.get_running_loop().time()
                answers = await answered_before(c, [sealed.request for sealed in batch])
                fresh = [sealed for index, sealed in enumerate(batch) if index not in answers]
                handoffs = await _write(c, fresh, at) if fresh else []
        self._publisher.publish(handoffs, since)
        _count(fresh)
        return [answers.get(index) or AcceptReply(created_at_ms=at) for index in range(len(batch))]


async def _write(c: Connection, batch: list[_Sealed], at: int) -> list[Handoff]:
    events, messages, handoffs = [], [], []
    groups, later = _parted(batch, at)
    for (application_id, lane), group in groups.items():
        for part in cut(len(sealed) for _, _, sealed in group):
            handoff = Handoff(new_id(), application_id, lane, [_item(m, sealed, at) for _, m, sealed in group[part]])
            handoffs.append(handoff)
            for request, message, sealed in group[part]:
                events.append(_event_row(request, message, sealed))
                messages.append(_message_row(request, message, handoff.id))
    for request, message, sealed in later:
        events += [_event_row(request, message, sealed), schedule.event_row(request, message)]
        messages.append(_message_row(request, message, schedule.NO_HANDOFF))
    await queries.copy_created(c, events, messages)
    await schedule.put_off(c, later)
    return await record(c, handoffs)


def _parted(batch: list[_Sealed], at: int) -> tuple[dict[tuple[str, Lane], list[_Member]], list[_Member]]:
    """What goes now, as an envelope holds it: one application and one lane; and what waits for its time."""
    groups: dict[tuple[str, Lane], list[_Member]] = {}
    later: list[_Member] = []
    for one in batch:
        for message, ciphertext in zip(one.request.messages, one.ciphertexts, strict=True):
            member = (one.request, message, ciphertext)
            if schedule.is_later(message, at):
                later.append(member)
            else:
                groups.setdefault((one.request.application_id, message.lane), []).append(member)
    return groups, later


def _item(message: NewMessage, sealed: bytes, at: int) -> Accepted:
    return Accepted(
        message.message_id,
        message.subscription_id,
        1,
        sealed,
        at + (message.ttl or DEFAULT_TTL) * 1000,
        message.category,
    )


def _event_row(request: Accept, message: NewMessage, sealed: bytes) -> tuple[object, ...]:
    """`data` holds the inputs of the acceptance, and all that the projection needs to be rebuilt."""
    data = {
        "subscription_id": message.subscription_id,
        "channel": message.channel,
        "lane": message.lane,
        "category": message.category,
        "ttl": message.ttl or DEFAULT_TTL,
        "source": request.source,
        "actor": request.actor,
        "request_id": request.request_id,
        **message.why,
    }
    if message.user_id is not None:
        data["user_id"] = message.user_id
    if message.collapse_key is not None:
        data["collapse_hash"] = _collapse_hash(message.collapse_key).hex()
    return (message.message_id, "created", 1, "", request.application_id, data, sealed)


def _message_row(request: Accept, message: NewMessage, handoff_id: str) -> tuple[object, ...]:
    return (
        message.message_id,
        request.application_id,
        message.subscription_id,
        message.channel,
        message.lane,
        message.category,
        message.ttl or DEFAULT_TTL,
        handoff_id,
        None if message.collapse_key is None else _collapse_hash(message.collapse_key),
        message.user_id,
        message.why.get("template_id"),
        message.why.get("template_version"),
    )


def _collapse_hash(collapse_key: str) -> bytes:
    """The caller's own words are content: the log compares them without keeping them."""
    return hashlib.sha256(collapse_key.encode()).digest()[:16]


def _count(batch: list[_Sealed]) -> None:
    accepted = Counter((message.channel, message.lane) for one in batch for message in one.request.messages)
    for (channel, lane), count in accepted.items():
        telemetry.counter("messages_accepted_total", channel=channel, lane=lane).inc(count)
