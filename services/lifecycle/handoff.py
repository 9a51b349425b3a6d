"""Hand-offs: what is given to the pipeline is recorded with the commit, and published after it (R5)."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator

import msgspec

from libs import telemetry
from libs.bus import Bus, PublishFailed
from libs.envelope import LANES, MAX_BYTES, MAX_ITEMS, Accepted, DispatchEnvelope, Lane, encode
from libs.ids import new_id_at, time_of
from libs.pg import Connection, Row
from libs.subjects import dispatch

from . import queries_handoff, queries_window
from .queries_window import NewHandoff

WINDOW = 4_000
"""Messages of one application and lane that may be unfinished at once: about a second's work (R11)."""
BOUNDLESS = 2**31 - 1
"""A window in which there is always room."""
_ITEM_OVERHEAD = 130
"""Bytes an item adds to its sealed content: ids, numbers, framing."""
_OUTSTANDING = 64
"""Of each lane: what bulk ones wait for, critical ones do not (R10)."""
_log = telemetry.logger("handoff")


class Handoff(msgspec.Struct, frozen=True):
    """One envelope on its way, and the row that remembers it."""

    id: str
    application_id: str
    lane: Lane
    items: list[Accepted]
    repairs: int = 0
    published: bool = True
    """False: it waits for room in the window of its application and lane."""

    def envelope(self) -> DispatchEnvelope:
        return DispatchEnvelope(self.id, self.application_id, self.lane, self.items, marked=self.repairs > 0)


def cut(weights: Iterable[int]) -> Iterator[slice]:
    """Slices of consecutive items, by their sealed sizes in bytes, that each fit one envelope."""
    start = end = size = 0
    for weight in weights:
        size += weight + _ITEM_OVERHEAD
        if end > start and (end - start >= MAX_ITEMS or size > MAX_BYTES):
            yield slice(start, end)
            start, size = end, weight + _ITEM_OVERHEAD
        end += 1
    if end > start:
        yield slice(start, end)


async def hand_off_again(c: Connection, ids: list[str], repairs: int, window: int | None = None) -> list[Handoff]:
    """Within the caller's transaction: new hand-offs for messages that are in the log, whatever became of the last."""
    groups: dict[tuple[str, Lane], list[Accepted]] = defaultdict(list)
    for row in await queries_handoff.sendable(c, ids):
        groups[str(row["application_id"]), row["lane"]].append(item_of(row))
    handoffs = [
        Handoff(_id_in_turn(items[part]), application_id, lane, items[part], repairs)
        for (application_id, lane), items in groups.items()
        for part in cut(len(item.sealed) for item in items)
    ]
    await queries_handoff.set_handoff(c, [(item.message_id, h.id) for h in handoffs for item in h.items])
    return await record(c, handoffs, again=True, window=window)


def _id_in_turn(items: list[Accepted]) -> str:
    """Of what comes back: hand-offs that wait for room go out in the order of their ids, so these are the first."""
    return new_id_at(min(time.time(), *(time_of(item.message_id) for item in items)))


def item_of(row: Row) -> Accepted:
    return Accepted(
        message_id=str(row["id"]),
        subscription_id=str(row["subscription_id"]),
        attempt=row["attempt"],
        sealed=row["sealed"],
        deadline_ms=row["deadline_ms"],
        category=row["category"],
    )


async def record(
    c: Connection, handoffs: list[Handoff], *, again: bool = False, window: int | None = None
) -> list[Handoff]:
    """Within the caller's transaction. What does not fit the window of its application and lane waits (R11); `again`:
    it went before, and need not stand behind what did not. `window`: messages, where not `WINDOW`."""
    if not handoffs:
        return []
    rows = [
        NewHandoff(
            h.id,
            h.application_id,
            h.lane,
            [item.message_id for item in h.items],
            h.repairs,
            min(item.deadline_ms for item in h.items),
        )
        for h in handoffs
    ]
    now = await queries_window.insert_handoffs(c, rows, window or WINDOW, again=again)
    return [msgspec.structs.replace(h, published=h.id in now) for h in handoffs]


class Publisher:
    """Publishes hand-offs in the background, a bounded number at a time. What fails is the reconciler's to find."""

    def __init__(self, bus: Bus, timeout: float, failed: Callable[[Handoff], Awaitable[None]] | None = None) -> None:
        """`failed` is told of each that could not be published; it raises nothing."""
        self._bus = bus
        self._timeout = timeout
        self._failed = failed
        self._slots = {lane: asyncio.Semaphore(_OUTSTANDING) for lane in LANES}
        self._tasks: set[asyncio.Task[None]] = set()

    async def room(self, *lanes: Lane) -> None:
        """Waits while too much of the lanes, or of any, is unpublished, so that a slow NATS slows acceptance instead of
        filling memory."""
        for lane in lanes or LANES:
            async with self._slots[lane]:
                pass

    def full(self) -> list[Lane]:
        """Lanes of which too much is unpublished."""
        return [lane for lane, slots in self._slots.items() if slots.locked()]

    def publish(self, handoffs: list[Handoff], since: float | None = None) -> None:
        """Those that may be, until `timeout` from now or from `since`, the loop's time at which their transaction
        began; the wait for room included. What is published later may be handed off twice."""
        deadline = (asyncio.get_running_loop().time() if since is None else since) + self._timeout
        for handoff in handoffs:
            if not handoff.published:
                continue
            task = asyncio.create_task(self._publish(handoff, deadline))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=self._timeout)

    async def _publish(self, handoff: Handoff, deadline: float) -> None:
        async with self._slots[handoff.lane]:
            left = deadline - asyncio.get_running_loop().time()
            try:
                if left <= 0:
                    raise PublishFailed("no room in time")
                payload = encode(handoff.envelope())
                await self._bus.publish(dispatch(handoff.lane), payload, msg_id=handoff.id, timeout=left)
            except PublishFailed:
                _log.warning("handoff_unpublished", handoff_id=handoff.id, lane=handoff.lane)
                if self._failed is not None:
                    await self._failed(handoff)
