"""Frequency caps: who may be sent one more message now, counted exactly however many dispatchers ask at once."""

import zlib
from collections import Counter
from collections.abc import Iterable, Sequence

from libs.coalesce import Coalescer
from libs.errors import ValidationFailed
from libs.ids import is_id
from libs.pg import Pool
from libs.policy import PERIOD_SECONDS, FrequencyCap
from libs.rpc import Capped, ReserveSends, SendsReserved, SendToReserve

from . import queries_caps as queries
from .queries_caps import Counted, Window

PARTS = 64
"""Of an application's recipients: one part is counted by one transaction at a time."""
Place = tuple[str, str, str, str]
"""(message id, application id, subject id, category)."""


class Caps:
    def __init__(self, pool: Pool, transactions: int) -> None:
        self._pool = pool
        self._coalescer: Coalescer[ReserveSends, SendsReserved] = Coalescer(
            self._reserve, max_items=1_000, concurrency=transactions, weight=lambda request: len(request.sends)
        )

    async def reserve(self, request: ReserveSends) -> SendsReserved:
        """Answers after the commit. Raises `ValidationFailed`."""
        named = (identifier for send in request.sends for identifier in (send.message_id, send.subject_id))
        if not is_id(request.application_id) or not all(map(is_id, named)):
            raise ValidationFailed(fields={"sends": "must name UUIDs"})
        if not request.caps or not request.sends:
            return SendsReserved([])
        return await self._coalescer.submit(request)

    async def _reserve(self, batch: list[ReserveSends]) -> Sequence[SendsReserved]:
        keys = sorted({_key(request, send) for request in batch for send in request.sends})
        async with self._pool.transaction() as c:
            at = await queries.lock_counting(c, keys)
            ids = [send.message_id for request in batch for send in request.sends]
            placed = await queries.reserved(c, ids, at)
            asked = _windows(batch, placed)
            decision = _Decision(at, placed, await queries.count_sends(c, asked, at) if asked else {})
            answers = [decision.on(request) for request in batch]
            if decision.places:
                await queries.reserve(c, decision.places, at)
        return answers


class _Decision:
    """Over the messages of a batch in their order: each sees those that were let through before it."""

    def __init__(self, at: int, placed: set[str], counted: dict[Window, Counted]) -> None:
        self._at = at
        self._placed = placed
        self._counted = counted
        self._before: Counter[tuple[str, str, str]] = Counter()
        self.places: list[Place] = []

    def on(self, request: ReserveSends) -> SendsReserved:
        found = (self._one(request, send) for send in request.sends if send.message_id not in self._placed)
        return SendsReserved([capped for capped in found if capped is not None])

    def _one(self, request: ReserveSends, send: SendToReserve) -> Capped | None:
        """Of several caps that are full: one that drops, or else the one that stays full for longest."""
        if send.message_id in self._placed:
            return None
        full = [found for cap in _of(request.caps, send) if (found := self._full(request, send, cap)) is not None]
        if full:
            return max(full, key=lambda found: (found.cap.action == "drop", found.free_at_ms))
        self._placed.add(send.message_id)
        self._before[request.application_id, send.subject_id, send.category] += 1
        self.places.append((send.message_id, request.application_id, send.subject_id, send.category))
        return None

    def _full(self, request: ReserveSends, send: SendToReserve, cap: FrequencyCap) -> Capped | None:
        window = _window(request, send, cap)
        categories = ("info", "ad") if cap.category is None else (cap.category,)
        before = sum(self._before[request.application_id, send.subject_id, each] for each in categories)
        earlier, free_at_ms = self._counted[window]
        if earlier + before < cap.limit:
            return None
        leaves = self._at + window.seconds * 1000 if free_at_ms is None else free_at_ms
        return Capped(send.message_id, cap, earlier + before, leaves)


def _windows(batch: list[ReserveSends], placed: set[str]) -> Counter[Window]:
    """What has to be counted, each with how many messages ask for it."""
    return Counter(
        _window(request, send, cap)
        for request in batch
        for send in request.sends
        if send.message_id not in placed
        for cap in _of(request.caps, send)
    )


def _of(caps: Iterable[FrequencyCap], send: SendToReserve) -> list[FrequencyCap]:
    return [cap for cap in caps if cap.category in (None, send.category)]


def _window(request: ReserveSends, send: SendToReserve, cap: FrequencyCap) -> Window:
    return Window(request.application_id, send.subject_id, cap.category, PERIOD_SECONDS[cap.per], cap.limit)


def _key(request: ReserveSends, send: SendToReserve) -> tuple[str, int]:
    return request.application_id, zlib.crc32(send.subject_id.encode()) % PARTS
