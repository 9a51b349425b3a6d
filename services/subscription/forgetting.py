"""What is left to do once a person's keys are destroyed; each step may be done again, after a crash or by two at once.

The erasure is put on ERASURES, lifecycle forgets what it keeps beside the log, and then everything that was opened
before the keys went has to leave SEND: only then the erasure counts as completed.
"""

import asyncio
import contextlib
from typing import Literal, NamedTuple

import msgspec

from libs import telemetry
from libs.bus import Bus, PublishFailed
from libs.envelope import LANES
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.pg import Pool, Row
from libs.rpc import Empty, ForgetSubjects
from libs.subjects import erasures, stream_of
from services.subscription import queries_erasure
from services.subscription.erasure import Erasures, record_of

PAGE = 200
"""Erasures in hand at once."""
IDLE_SECONDS = 5.0
"""Between looks for what another process left undone."""
BUSY_SECONDS = 0.2
FORGET_SECONDS = 60.0
"""That lifecycle may take for one person."""

Stage = Literal["DISPATCH", "SEND"]
_encode = msgspec.msgpack.Encoder().encode
_log = telemetry.logger("forgetting")


class Reach(NamedTuple):
    """How far a work-queue stream reaches."""

    made: str
    """When the stream was made: one that was lost holds nothing of what was in it."""
    first: int
    last: int
    empty: bool


Reaches = dict[str, Reach]
"""By stream; one that is not there is absent."""


class Mark(NamedTuple):
    stage: Stage
    reaches: Reaches
    """Where the streams of the stage ended when this erasure came to it: all of that has to be through."""


class Forgetting:
    def __init__(self, pool: Pool, bus: Bus, erasures: Erasures) -> None:
        self._pool = pool
        self._bus = bus
        self._asked = erasures.asked
        self._marks: dict[str, Mark] = {}
        """By request id, of those that lifecycle has forgotten."""
        self._failures = telemetry.counter("background_failures_total", part="forgetting")

    async def run(self) -> None:
        """For ever; woken by each new request."""
        while True:
            self._asked.clear()
            busy = True
            try:
                busy = await self.round()
            except ServiceUnavailable:
                _log.debug("forgetting_waits")
            except Exception as error:
                self._fail(error)
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._asked.wait(), BUSY_SECONDS if busy else IDLE_SECONDS)

    async def round(self) -> bool:
        """A step for each erasure that is open. True while there are any."""
        async with self._pool.connection() as c:
            rows = await queries_erasure.open_erasures(c, PAGE)
        forgotten = [row for row in rows if row["id"] in self._marks or await self._forgotten(row)]
        self._marks = {row["id"]: self._marks[row["id"]] for row in forgotten if row["id"] in self._marks}
        if forgotten:
            # In this order: what has left DISPATCH by now is in SEND by then.
            dispatch, send = await self._reaches("DISPATCH"), await self._reaches("SEND")
            for row in forgotten:
                await self._advance(row, dispatch, send)
        return bool(rows)

    async def _forgotten(self, row: Row) -> bool:
        record = record_of(row)
        wanted = ForgetSubjects(record.application_id, record.user_id, record.subscription_ids, record.key_ids)
        try:
            await self._bus.publish(erasures(record.application_id), _encode(record), msg_id=record.request_id)
            await self._bus.call("lifecycle", "forget", wanted, Empty, timeout=FORGET_SECONDS)
        except (ServiceUnavailable, PublishFailed):
            return False
        except Exception as error:  # the others go on
            self._fail(error)
            return False
        return True

    async def _advance(self, row: Row, dispatch: Reaches, send: Reaches) -> None:
        mark = self._marks.get(row["id"]) or Mark("DISPATCH", dispatch)
        if mark.stage == "DISPATCH" and passed(mark.reaches, dispatch):
            mark = Mark("SEND", send)
        if mark.stage == "SEND" and passed(mark.reaches, send):
            async with self._pool.connection() as c:
                await queries_erasure.complete_erasure(c, row["application_id"], row["id"])
        self._marks[row["id"]] = mark

    async def _reaches(self, stage: Stage) -> Reaches:
        found: Reaches = {}
        for name in (stream_of(stage, lane) for lane in LANES):
            with contextlib.suppress(ResourceNotFound):
                info = await self._bus.stream_state(name)
                state = info.state
                found[name] = Reach(str(info.created), state.first_seq, state.last_seq, state.messages == 0)
        return found

    def _fail(self, error: Exception) -> None:
        self._failures.inc()
        _log.error("round_failed", part="forgetting", exc_info=error)


def passed(then: Reaches, now: Reaches) -> bool:
    """Whether all that the streams held then was acknowledged by now."""
    return all(
        reach.empty
        or (found := now.get(name)) is None
        or found.made != reach.made
        or found.empty
        or found.first > reach.last
        for name, reach in then.items()
    )
