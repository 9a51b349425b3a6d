"""Outcomes travel in small, frequent batches; what is called but not yet reported is bounded (R7, I3)."""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import msgspec

from libs.bus import Bus, PublishFailed
from libs.envelope import Lane, Outcome, OutcomeEnvelope, encode
from libs.subjects import outcome


class _Entry(msgspec.Struct):
    application_id: str
    outcome: Outcome
    reported: Callable[[], None]


class Reporter:
    """Publishes the outcomes of one lane, one envelope at a time and in order, until the stream has them."""

    def __init__(self, bus: Bus, lane: Lane, channel: str, region: str, batch: int, wait: float) -> None:
        self._bus = bus
        self._lane = lane
        self._subject = outcome(lane, channel, region)
        self._batch = batch
        self._wait = wait
        self._waiting: deque[_Entry] = deque()
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self.calls_under_way = 0
        """Kept by the pipeline: while it is zero nothing is gained by waiting for company."""

    def add(self, application_id: str, item: Outcome, reported: Callable[[], None]) -> None:
        """`reported` is called once the outcome is stored in the stream."""
        self._waiting.append(_Entry(application_id, item, reported))
        self._wake.set()
        if len(self._waiting) >= self._batch or self.calls_under_way == 0:
            self._full.set()

    async def run(self) -> None:
        while True:
            await self._wake.wait()
            if not self._full.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._full.wait(), self._wait)
            await self._publish(self._take())

    def _take(self) -> list[_Entry]:
        """The next entries of one application: an envelope holds one."""
        application_id = self._waiting[0].application_id
        taken: list[_Entry] = []
        while self._waiting and len(taken) < self._batch and self._waiting[0].application_id == application_id:
            taken.append(self._waiting.popleft())
        if not self._waiting:
            self._wake.clear()
        if len(self._waiting) < self._batch:
            self._full.clear()
        return taken

    async def _publish(self, entries: list[_Entry]) -> None:
        items = [entry.outcome for entry in entries]
        payload = encode(OutcomeEnvelope(entries[0].application_id, self._lane, items))
        msg_id = f"{items[0].message_id}:{items[0].kind}:{items[0].attempt}:{items[0].key}:{len(items)}"
        while True:
            try:
                await self._bus.publish(self._subject, payload, msg_id=msg_id)
                break
            except PublishFailed:
                continue
        for entry in entries:
            entry.reported()
