"""The reconciler finds lost work by sequence numbers, not clocks (R6).

A hand-off older than the publish timeout is looked for: once everything that DISPATCH, then SEND, then OUTCOME held is
through, what is still neither final, nor in `due`, nor handed off again was lost, and is handed off again, marked.
How far a search came is kept: waits may take longer than a process lives.
"""

import asyncio
import contextlib
import itertools
from collections import defaultdict
from typing import Literal

from libs import telemetry
from libs.bus import Bus
from libs.envelope import Lane
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.ids import new_id
from libs.leftovers import sweep
from libs.pg import Connection, Pool, Row
from libs.subjects import stream_of

from . import queries, queries_handoff, queries_reconcile, queries_window
from .handoff import Handoff, Publisher, hand_off_again
from .queries_reconcile import Note, Search

MAX_REPAIRS = 3
_PAGE = 20
_POLL_SECONDS = 0.25
_SWEEP_EVERY = 20
"""Polls."""
_WAITS: tuple[Literal["DISPATCH", "SEND", "OUTCOME"], ...] = (
    "DISPATCH",
    "DISPATCH",
    "SEND",
    "SEND",
    "OUTCOME",
    "OUTCOME",
)
"""Each stream twice: an envelope that is split meanwhile goes on under new sequence numbers."""
_log = telemetry.logger("reconcile")


class Reconciler:
    """Of one lane. Where two believe that they lead, one of them ends a search, and only that one repairs."""

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
            self._open.set(await queries_reconcile.count_handoffs(c, self._lane))
            search, more = await self._kept(c), True
            if search is None:
                search, more = await self._begin(c)
        if search is not None and await self._pass_streams(search):
            await self._repair(search)
        return more

    async def _kept(self, c: Connection) -> Search | None:
        """Where it was left, by whomever; unless all of it came through meanwhile."""
        search = await queries_reconcile.search(c, self._lane)
        if search is None or await queries_handoff.open_messages(c, search.handoff_ids):
            return search
        await queries_reconcile.end_search(c, self._lane, search.id)
        return None

    async def _begin(self, c: Connection) -> tuple[Search | None, bool]:
        """What is to be looked for, if anything; and whether that was not all."""
        old = await queries_reconcile.old_handoffs(c, self._lane, self._after_ms, _PAGE)
        if not old:
            return None, False
        unfinished = {str(row["handoff_id"]) for row in await queries_handoff.open_messages(c, old)}
        through = [i for i in old if i not in unfinished]
        if through:
            await queries_handoff.delete_handoffs(c, through)
        more = len(old) == _PAGE
        search = Search(new_id(), sorted(unfinished))
        if not unfinished or not await queries_reconcile.begin_search(c, self._lane, search.id, search.handoff_ids):
            return None, more
        return search, more

    async def _pass_streams(self, search: Search) -> bool:
        """False: another process is further. Notes are taken when the search is committed, never before."""
        noted = search.noted
        for stage in range(search.stage, len(_WAITS)):
            stream = stream_of(_WAITS[stage], self._lane)
            if noted is None:
                noted = await _note(self._bus, stream)
                async with self._pool.connection() as c:
                    if not await queries_reconcile.note_wait(c, self._lane, search.id, stage, noted):
                        return False
            await _reached(self._bus, stream, noted, sweeps=True)
            noted = None
        return True

    async def _repair(self, search: Search) -> None:
        """Those that are still open after all streams were passed were lost."""
        async with self._pool.transaction() as c:
            since = asyncio.get_running_loop().time()
            if not await queries_reconcile.end_search(c, self._lane, search.id):
                return
            lost = await queries_handoff.open_messages(c, search.handoff_ids)
            locked = {str(row["id"]): row for row in await queries.lock_messages(c, [str(row["id"]) for row in lost])}
            groups: dict[int, list[Row]] = defaultdict(list)
            for row in await queries_handoff.open_messages(c, search.handoff_ids):
                groups[row["repairs"]].append(locked[str(row["id"])])
            handoffs: list[Handoff] = []
            for count, members in groups.items():
                handoffs += await self._again(c, members, count)
            await queries_handoff.delete_handoffs(c, search.handoff_ids)
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
            async with pool.of(handoff.lane).connection() as c:
                await queries_window.not_published(c, handoff.id)


async def passed(bus: Bus, stream: str) -> None:
    """Wait until all that the work-queue stream holds now was acknowledged.

    A store that was recreated meanwhile counts as passed; an unreachable NATS means wait.
    """
    await _reached(bus, stream, await _note(bus, stream))


async def _note(bus: Bus, stream: str) -> Note:
    try:
        found = await bus.stream_state(stream)
    except ResourceNotFound:
        await bus.ensure_streams()
        found = await bus.stream_state(stream)
    return Note(found.created, found.state.last_seq)


async def _reached(bus: Bus, stream: str, noted: Note, *, sweeps: bool = False) -> None:
    """Wait until all was acknowledged that the stream held when that was noted. One who waits long `sweeps` it."""
    try:
        for polls in itertools.count(1):
            found = await bus.stream_state(stream)
            recreated = found.created != noted.created or found.state.last_seq < noted.last_seq
            if recreated or found.state.messages == 0 or found.state.first_seq > noted.last_seq:
                return
            if sweeps and polls % _SWEEP_EVERY == 0:
                await sweep(bus, stream)
            await asyncio.sleep(_POLL_SECONDS)
    except ResourceNotFound:
        await bus.ensure_streams()
