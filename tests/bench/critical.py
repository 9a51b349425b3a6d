"""Critical messages, 20 a second, while bulk ones wait in hundreds of thousands and the senders are saturated."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from tests.bench.batch import REQUEST_ITEMS
from tests.bench.delivery import send_batches
from tests.bench.generator import Connection
from tests.bench.progress import Progress
from tests.bench.recipients import Recipients
from tests.bench.single import Latency, latency_of
from tests.bench.system import System

SENDERS = ("sender-apns", "sender-fcm")
PER_SECOND = 20
CONNECTIONS = 8
PILING = 4
"""Connections for the bulk messages."""
SATURATED_AFTER = 2000
"""Bulk outcomes after which the senders count as busy."""
ALONE_SECONDS = 20.0
"""In which the bulk messages have the system to themselves, for comparison."""
TAIL_SECONDS = 60.0

# `sent` is dated by the sender when the provider has answered: an upper bound for "reached the provider".
_DELIVERED = """
SELECT extract(EPOCH FROM created.occurred_at)::float8 AS created, extract(EPOCH FROM sent.occurred_at)::float8 AS sent,
       sent.message_id
FROM lifecycle.message_events AS created
JOIN lifecycle.message_events AS sent USING (message_id)
WHERE created.kind = 'created' AND sent.kind = 'sent' AND created.message_id = ANY($1::uuid[])
"""


class CriticalResult(msgspec.Struct, frozen=True):
    messages: int
    delivered: int
    seconds: float
    waiting_at_start: int
    """Bulk messages accepted and without an outcome."""
    waiting_at_end: int
    bulk_alone_per_second: float
    """Outcomes before the first critical message."""
    bulk_per_second: float
    """Outcomes of all lanes meanwhile."""
    to_provider: Latency
    """From `created` to the provider's answer."""
    from_request: Latency
    """From the moment the request was due to the provider's answer."""
    accepting: Latency
    """Of the answer to `POST /messages`, from the moment the request was due."""


class _Identified(msgspec.Struct, frozen=True):
    message_id: str


class _Answer(msgspec.Struct, frozen=True):
    data: _Identified


async def run(system: System, recipients: Recipients, bulk: int, seconds: float) -> CriticalResult:
    """Raises `RuntimeError` for a refused message, `Stalled` when the bulk messages do not move."""
    await system.forget_deliveries()
    async with Progress(system) as progress:
        waiting = await _pile_up(system, recipients, bulk)
        await progress.reached(SATURATED_AFTER)
        alone = await _rate(progress, ALONE_SECONDS)
        waiting_at_start, started = waiting - progress.count, time.monotonic()
        pace = _Pace(system, recipients.singles("critical"))
        await pace.run(seconds)
        elapsed, waiting_at_end = time.monotonic() - started, waiting - progress.count
        delivered = await _delivered(system, list(pace.due))
    if not delivered:
        raise RuntimeError(f"none of {len(pace.due)} critical messages was delivered within {TAIL_SECONDS:.0f} s")
    return CriticalResult(
        messages=len(pace.due),
        delivered=len(delivered),
        seconds=elapsed,
        waiting_at_start=waiting_at_start,
        waiting_at_end=waiting_at_end,
        bulk_alone_per_second=alone,
        bulk_per_second=(waiting_at_start - waiting_at_end) / elapsed,
        to_provider=latency_of([sent - created for created, sent, _ in delivered]),
        from_request=latency_of([sent - pace.due[identifier] for _, sent, identifier in delivered]),
        accepting=latency_of(pace.latencies),
    )


async def _rate(progress: Progress, seconds: float) -> float:
    began, before = time.monotonic(), progress.count
    await asyncio.sleep(seconds)
    return (progress.count - before) / (time.monotonic() - began)


async def _pile_up(system: System, recipients: Recipients, bulk: int) -> int:
    """Have `bulk` messages accepted while the senders are held, then let the senders go; how many were accepted."""
    await system.hold(SENDERS)
    try:
        requests = recipients.batches(bulk, REQUEST_ITEMS)
        return (await send_batches(f"{system.api}/messages/batch", requests, PILING)).accepted
    finally:
        await system.release(SENDERS)


class _Pace:
    """An open loop: a request is sent when it is due, however long the ones before it take."""

    def __init__(self, system: System, requests: Sequence[bytes]) -> None:
        self._url = system.api
        self._requests = requests
        self.due: dict[str, float] = {}
        """By message id, in Unix seconds."""
        self.latencies: list[float] = []

    async def run(self, seconds: float) -> None:
        free: asyncio.Queue[Connection] = asyncio.Queue()
        for _ in range(CONNECTIONS):
            free.put_nowait(await Connection.open(self._url))
        started = time.time()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * PER_SECOND)):
                due = started + number / PER_SECOND
                await asyncio.sleep(max(0.0, due - time.time()))
                group.create_task(self._send(free, number, due))

    async def _send(self, free: "asyncio.Queue[Connection]", number: int, due: float) -> None:
        connection = await free.get()
        answer = await connection.exchange(self._requests[number % len(self._requests)])
        free.put_nowait(connection)
        if answer.status != 201:
            raise RuntimeError(f"POST /messages: {answer.status} {answer.body[:300].decode()}")
        self.latencies.append(time.time() - due)
        self.due[msgspec.json.decode(answer.body, type=_Answer).data.message_id] = due


async def _delivered(system: System, identifiers: list[str]) -> list[tuple[float, float, str]]:
    """(created, provider answered, id) of those that have an outcome, once all have or a minute is over."""
    deadline = time.monotonic() + TAIL_SECONDS
    async with system.database() as connection:
        while True:
            rows = await connection.fetch(_DELIVERED, identifiers)
            if len(rows) >= len(identifiers) or time.monotonic() > deadline:
                return [(row["created"], row["sent"], str(row["message_id"])) for row in rows]
            await asyncio.sleep(0.5)
