"""The reconciler finds lost work by sequence numbers, not clocks (R6).

A hand-off older than the publish timeout is looked for: once everything that DISPATCH, then SEND, then OUTCOME held is
through, what is still neither final, nor in `due`, nor handed off again was lost, and is handed off again, marked.
"""

import asyncio
import contextlib
from collections import defaultdict
from typing import Literal

from libs import telemetry
from libs.bus import Bus
from libs.envelope import Lane
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.pg import Connection, Pool, Row
from libs.subjects import stream_of

from . import queries, queries_window
from .handoff import Handoff, Publisher, hand_off_again

MAX_REPAIRS = 3
_PAGE = 20
_POLL_SECONDS = 0.25
_STAGES: tuple[Literal["DISPATCH", "SEND", "OUTCOME"], ...] = ("DISPATCH", "SEND", "OUTCOME")
_log = telemetry.logger("reconcile")


class Reconciler:
    def __init__(self, pool: Pool, bus: Bus, publisher: Publisher, lane: Lane, after: float) -> None:
        self._pool = pool
        self._bus = bus
        self._publisher = publisher
        self._lane = lane
        self._after_ms = int(after * 1000)
        self._open = telemetry.gauge("handoffs_open", lane=lane)

    async def round(self) -> bool:
        """Forget what is through, look for the rest. True when there may be more at once."""
        async with self._pool.connection() as c:
            self._open.set(await queries.count_handoffs(c, self._lane))
            old = await queries.old_handoffs(c, self._lane, self._after_ms, _PAGE)
            if not old:
                return False
            repairs = {str(row["id"]): int(row["repairs"]) for row in old}
            unfinished = {str(row["handoff_id"]) for row in await queries.open_messages(c, list(repairs))}
            through = [i for i in repairs if i not in unfinished]
            if through:
                await queries.delete_handoffs(c, through)
        if unfinished:
            await self._pass_streams()
            await self._repair({i: repairs[i] for i in unfinished})
        return len(old) == _PAGE

    async def _pass_streams(self) -> None:
        """Each stream twice: an envelope that is split meanwhile goes on under new sequence numbers."""
        for stage in _STAGES:
            await passed(self._bus, stream_of(stage, self._lane))
            await passed(self._bus, stream_of(stage, self._lane))

    async def _repair(self, repairs: dict[str, int]) -> None:
        """Those that are still open after all streams were passed were lost."""
        async with self._pool.transaction() as c:
            since = asyncio.get_running_loop().time()
            lost = await queries.open_messages(c, list(repairs))
            locked = {str(row["id"]): row for row in await queries.lock_messages(c, [str(row["id"]) for row in lost])}
            groups: dict[int, list[Row]] = defaultdict(list)
            for row in await queries.open_messages(c, list(repairs)):
                groups[repairs[str(row["handoff_id"])]].append(locked[str(row["id"])])
            handoffs: list[Handoff] = []
            for count, members in groups.items():
                handoffs += await self._again(c, members, count)
            await queries.delete_handoffs(c, list(repairs))
        self._publisher.publish(handoffs, since)

    async def _again(self, c: Connection, members: list[Row], count: int) -> list[Handoff]:
        ids = [str(message["id"]) for message in members]
        _log.warning("lost_work_found", lane=self._lane, messages=len(ids), repairs=count)
        telemetry.counter("reconciled_total", lane=self._lane).inc(len(ids))
        if count >= MAX_REPAIRS:
            data: dict[str, object] = {"repairs": count}
            await queries.append(c, [_fact(m, "failed", "lost", "dead_letter", data) for m in members])
            await queries.update_projection(c, ids)
            return []
        handoffs = await hand_off_again(c, ids, count + 1)
        by_id = {item.message_id: handoff.id for handoff in handoffs for item in handoff.items}
        data = {"repair": count + 1}
        routed = [(m, by_id[i]) for m in members if (i := str(m["id"])) in by_id]
        await queries.append(c, [_fact(m, "routed", key, "handed_off_again", data) for m, key in routed])
        return handoffs


def _fact(message: Row, kind: str, key: str, reason: str, data: dict[str, object]) -> tuple[object, ...]:
    ids = str(message["id"]), str(message["application_id"])
    return (ids[0], kind, message["attempt"], key, ids[1], message["now_ms"], reason, data)


async def not_counted(pool: Pool, handoff: Handoff) -> None:
    """Of a hand-off that could not be published: a repair that never left is none. While NATS refuses what it is given
    (its disk is full), work is handed off again and again, and not one message given up."""
    if handoff.repairs:
        with contextlib.suppress(ServiceUnavailable):
            async with pool.connection() as c:
                await queries_window.not_published(c, handoff.id)


async def passed(bus: Bus, stream: str) -> None:
    """Wait until all that the work-queue stream holds now was acknowledged.

    A store that was recreated meanwhile counts as passed; an unreachable NATS means wait.
    """
    try:
        noted = await bus.stream_state(stream)
        while True:
            found = await bus.stream_state(stream)
            recreated = found.created != noted.created or found.state.last_seq < noted.state.last_seq
            if recreated or found.state.messages == 0 or found.state.first_seq > noted.state.last_seq:
                return
            await asyncio.sleep(_POLL_SECONDS)
    except ResourceNotFound:
        await bus.ensure_streams()
