"""R11: an application has at most a window of unfinished messages in a lane; its other hand-offs wait their turn."""

import asyncio
from collections import defaultdict
from itertools import chain, zip_longest

from libs import telemetry
from libs.envelope import Accepted, Lane
from libs.pg import Connection, Pool

from . import queries_window as queries
from .handoff import WINDOW, Handoff, Publisher, item_of
from .queries_window import Room

_PAGE = 500
"""Hand-offs that one round looks at, whether they are through."""
_APPLICATIONS = 8
"""Served in one round: with the window, the bound of what is in memory."""
_PRESSED = 3 / 4
"""Of the window: whoever has so much in `due` has work enough, and takes long to count: looked at every `_SELDOM`."""
_SELDOM = 5
"""Rounds."""
_LINGERING_SECONDS = 10.0
"""By then a hand-off is through but for some that wait for something: those alone count."""
_RECOUNTED = 50
_FIRST = "00000000-0000-0000-0000-000000000000"


class Window:
    """Of one lane. Runs in one process at a time; what it publishes and then loses is the reconciler's to find."""

    def __init__(self, pool: Pool, publisher: Publisher, lane: Lane) -> None:
        self._pool = pool
        self._publisher = publisher
        self._lane = lane
        self._looked_at = _FIRST
        self._open_at: dict[str, int] = {}
        """Of the last page looked at: hand-off id to the place of its first message that is open."""
        self._recounted = _FIRST
        self._served = _FIRST
        self._full: dict[str, int] = {}
        """Application id to the rounds for which it is not looked at."""
        self._waiting = telemetry.gauge("applications_waiting", lane=lane)

    async def round(self) -> bool:
        """Forget what is through, publish what there is room for. True where there may be more at once."""
        async with self._pool.connection() as c:
            page = await queries.forget_finished(c, self._lane, self._looked_at, _PAGE, self._open_at)
            rooms = await queries.waiting(c, self._lane, WINDOW, list(self._full))
        more = len(page) == _PAGE
        self._looked_at = max(page) if more else _FIRST
        self._open_at = {handoff_id: place for handoff_id, place in page.items() if place is not None}
        self._waiting.set(len(rooms))
        self._remember_full(rooms)
        in_turn = self._in_turn([application_id for application_id, room in rooms.items() if room.messages > 0])
        if in_turn:
            self._served = in_turn[-1]
            await self._publisher.room(self._lane)
            since = asyncio.get_running_loop().time()
            async with self._pool.connection() as c:
                handoffs = await self._take(c, {i: rooms[i].messages for i in in_turn})
            self._publisher.publish(handoffs, since)
        return more or len(in_turn) == _APPLICATIONS

    async def recount(self) -> bool:
        """A few that linger do not keep the room of all that went with them."""
        async with self._pool.connection() as c:
            last = await queries.recount(c, self._lane, self._recounted, _LINGERING_SECONDS, _RECOUNTED)
        self._recounted = last or _FIRST
        return False

    def _remember_full(self, rooms: dict[str, Room]) -> None:
        pressed = {i for i, room in rooms.items() if i not in self._full and room.pressed >= WINDOW * _PRESSED}
        self._full = {i: rounds - 1 for i, rounds in self._full.items() if rounds > 1} | dict.fromkeys(pressed, _SELDOM)

    def _in_turn(self, applications: list[str]) -> list[str]:
        """Some of them, beginning behind the one that was served last."""
        later = [i for i in applications if i > self._served]
        return (later + [i for i in applications if i <= self._served])[:_APPLICATIONS]

    async def _take(self, c: Connection, rooms: dict[str, int]) -> list[Handoff]:
        """Committed before the contents are read, which takes longer: what is lost in between is found."""
        taken = {str(row["id"]): row for row in await queries.publish(c, self._lane, rooms)}
        items: dict[str, list[Accepted]] = defaultdict(list)
        for row in await queries.contents(c, list(taken)):
            items[str(row["handoff_id"])].append(item_of(row))
        of_each: dict[str, list[Handoff]] = {i: [] for i in rooms}
        for handoff_id in sorted(items):
            row = taken[handoff_id]
            application_id = str(row["application_id"])
            of_each[application_id].append(
                Handoff(handoff_id, application_id, self._lane, items[handoff_id], row["repairs"])
            )
        one_of_each = zip_longest(*of_each.values())
        return [handoff for handoff in chain.from_iterable(one_of_each) if handoff is not None]
