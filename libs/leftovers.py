"""Messages that are through and stored all the same.

A NATS server that was killed may bring back messages that it had removed, while their consumer knows that they were
acknowledged ("Recovering stream state from index errored: prior state file", server 2.15; seen within 42 kills under
load). Nobody is ever given them, they keep their space, and whoever waits for the stream to pass them (R6, R7) waits
for ever. They can go: a consumer's floor is below all that it was not given, or did not acknowledge.
"""

import asyncio

import nats.errors
import nats.js.errors
from nats.js.api import ConsumerInfo

from libs import telemetry
from libs.bus import Bus
from libs.subjects import STREAMS

_SECONDS = 60.0
"""From one look to the next while the connection holds: in a cluster another server may begin to lead unseen."""
_PAGE = 256
"""Consumers that a server tells of at a time, in the order of their names."""
_PAGES = 16
_log = telemetry.logger("leftovers")


class Leftovers:
    """Looks at all work queues after each connection, and once in a while. Runs in one process at a time."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._connection = -1
        self._looked_at = 0.0

    async def round(self) -> bool:
        now, connection = asyncio.get_running_loop().time(), self._bus.reconnects
        if connection == self._connection and now < self._looked_at + _SECONDS:
            return False
        looked_at = [await sweep(self._bus, stream.name) for stream in STREAMS if stream.retention == "work_queue"]
        if all(looked_at):
            self._connection, self._looked_at = connection, now
        return False


async def sweep(bus: Bus, stream: str) -> bool:
    """Removes from a work queue what was acknowledged. False where that could not be seen: to be asked again.

    Only where something lies at or below a floor: a purge makes the server forget what was given back to it.
    """
    connection = bus.reconnects
    try:
        state = (await bus.js.stream_info(stream)).state
        for consumer in await _consumers(bus, stream) if state.messages else []:
            subject, floor = consumer.config.filter_subject, consumer.ack_floor
            if not subject or floor is None or floor.stream_seq < state.first_seq:
                continue
            if not bus.client.is_connected or bus.reconnects != connection:
                return False  # what we know was true of another life of the server
            await bus.js.purge_stream(stream, seq=floor.stream_seq + 1, subject=subject)
    except (TimeoutError, nats.errors.Error, nats.js.errors.Error, OSError) as error:
        _log.debug("not_swept", stream=stream, error_type=type(error).__name__)
        return False
    return True


async def _consumers(bus: Bus, stream: str) -> list[ConsumerInfo]:
    """Of a stream with several channels and many regions: more than one page. Raises what NATS does."""
    found: list[ConsumerInfo] = []
    for _ in range(_PAGES):
        page = await bus.js.consumers_info(stream, offset=len(found))
        found += page
        if len(page) < _PAGE:
            break
    return found
