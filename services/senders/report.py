"""Outcomes travel in small, frequent batches; what is called but not yet reported is bounded (R7, I3)."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import msgspec

from libs import telemetry
from libs.bus import Bus, PublishFailed
from libs.envelope import Lane, Outcome, OutcomeEnvelope, encode
from libs.ids import new_id
from libs.subjects import outcome

MOST_WAITING = 1_000
"""Outcomes of calls that were never made: they take no place in the lane, but memory."""
_UNENCODABLE = (TypeError, ValueError, OverflowError, RecursionError)
_log = telemetry.logger("report")


class _Entry(msgspec.Struct):
    outcome: Outcome
    reported: Callable[[], None]


class Reporter:
    """Publishes the outcomes of one lane until the stream has them: an application's in order, all of them at once."""

    def __init__(self, bus: Bus, lane: Lane, channel: str, region: str, batch: int, wait: float) -> None:
        self._bus = bus
        self._lane = lane
        self._subject = outcome(lane, channel, region)
        self._batch = batch
        self._wait = wait
        self._waiting: dict[str, deque[_Entry]] = {}
        self._count = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._under_way = 0
        self._taken = asyncio.Event()

    async def room(self) -> None:
        """Lets others have their turn, and waits while very many outcomes wait for the stream."""
        await asyncio.sleep(0)
        while self._count >= MOST_WAITING:
            self._taken.clear()
            await self._taken.wait()

    def count(self, calls: int) -> None:
        """So many more calls (or fewer) are about to be answered: without any, nothing is gained by waiting."""
        self._under_way += calls

    def add(self, application_id: str, item: Outcome, reported: Callable[[], None]) -> None:
        """`reported` is called once the outcome is stored in the stream."""
        waiting = self._waiting.get(application_id)
        if waiting is None:
            waiting = self._waiting[application_id] = deque()
        waiting.append(_Entry(item, reported))
        self._count += 1
        self._wake.set()
        if self._count >= self._batch or self._under_way == 0:
            self._full.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            if not self._full.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._wait)
            await asyncio.gather(*(self._publish(application_id, part) for application_id, part in self._take()))

    def _take(self) -> list[tuple[str, list[_Entry]]]:
        """The next entries of each application: an envelope holds one application."""
        taken = []
        for application_id, waiting in list(self._waiting.items()):
            part = [waiting.popleft() for _ in range(min(len(waiting), self._batch))]
            if not waiting:
                del self._waiting[application_id]
            taken.append((application_id, part))
            self._count -= len(part)
        self._taken.set()
        if not self._count:
            self._wake.clear()
        if self._count < self._batch and (self._count == 0 or self._under_way):
            self._full.clear()
        return taken

    async def _publish(self, application_id: str, entries: list[_Entry]) -> None:
        """Under a name of its own: told twice costs nothing (R4), another batch taken for this one would be lost."""
        payload = self._encode(application_id, [entry.outcome for entry in entries])
        msg_id = new_id()
        while True:
            try:
                await self._bus.publish(self._subject, payload, msg_id=msg_id)
                break
            except PublishFailed:
                continue
        for entry in entries:
            entry.reported()

    def _encode(self, application_id: str, items: list[Outcome]) -> bytes:
        try:
            return encode(OutcomeEnvelope(application_id, self._lane, items))
        except _UNENCODABLE as error:
            _log.error("outcome_without_details", exc_info=error)
            return encode(OutcomeEnvelope(application_id, self._lane, [_encodable(item) for item in items]))


def _encodable(item: Outcome) -> Outcome:
    """A fact whose details cannot travel, such as a provider's number of more than 64 bits, goes without them."""
    try:
        msgspec.msgpack.encode(item)
    except _UNENCODABLE:
        return msgspec.structs.replace(item, reason="unreadable_answer", data={})
    return item
