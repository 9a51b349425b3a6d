"""Single `POST /messages` from many connections for a while, counted on outcomes committed meanwhile."""

import asyncio
import itertools
import time
from array import array
from collections import Counter
from collections.abc import Sequence

import msgspec

from tests.bench.generator import Connection
from tests.bench.processes import Meter, Usage, own_cpu
from tests.bench.progress import Progress
from tests.bench.recipients import Recipients
from tests.bench.system import System


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds."""

    p50: float
    p95: float
    p99: float
    worst: float


class SingleResult(msgspec.Struct, frozen=True):
    connections: int
    seconds: float
    accepted: int
    accepted_per_second: float
    committed_per_second: float
    """Outcomes committed within `seconds`, divided by them."""
    backlog: int
    """Accepted and without an outcome at the end."""
    backlog_seconds: float
    """How long the work left takes at the rate at which outcomes came."""
    latency: Latency
    """Of the answer to the request."""
    answers: dict[str, int]
    """By HTTP status."""
    statuses: dict[str, int]
    """By SQL, after the backlog was worked off."""
    usage: dict[str, Usage]
    generator_cpu_seconds: float
    machine_cpu_seconds: float


class _Load:
    """`connections` clients, each with one request under way, until `until` (monotonic seconds)."""

    def __init__(self, url: str, requests: Sequence[bytes]) -> None:
        self._url = url
        self._requests = itertools.cycle(requests)
        self.latencies = array("d")
        self.answers: Counter[int] = Counter()

    async def run(self, connections: int, until: float) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(self._client(until))

    async def _client(self, until: float) -> None:
        clock = time.perf_counter
        async with await Connection.open(self._url) as connection:
            while time.monotonic() < until:
                began = clock()
                answer = await connection.exchange(next(self._requests))
                self.latencies.append(clock() - began)
                self.answers[answer.status] += 1
                if answer.retry_after is not None:
                    await asyncio.sleep(answer.retry_after)


async def run(system: System, recipients: Recipients, connections: int, seconds: float) -> SingleResult:
    """Raises `RuntimeError` when nothing was accepted, `Stalled` when the backlog is not worked off."""
    await system.forget_deliveries()
    load, since = _Load(system.api, recipients.singles()), time.time()
    async with Progress(system) as progress, Meter(system.pids) as meter:
        cpu, started = own_cpu(), time.monotonic()
        await load.run(connections, started + seconds)
        elapsed, cpu = time.monotonic() - started, own_cpu() - cpu
        accepted, committed = load.answers[201], await system.ended() - progress.base
        if not accepted or not committed:
            raise RuntimeError(f"POST /messages: answers {dict(load.answers)}, {committed} outcomes")
        await progress.reached(accepted)
    rate = committed / elapsed
    return SingleResult(
        connections=connections,
        seconds=elapsed,
        accepted=accepted,
        accepted_per_second=accepted / elapsed,
        committed_per_second=rate,
        backlog=accepted - committed,
        backlog_seconds=(accepted - committed) / rate,
        latency=latency_of(load.latencies),
        answers={str(status): count for status, count in load.answers.items()},
        statuses=await system.by_status(since),
        usage=meter.usage,
        generator_cpu_seconds=cpu,
        machine_cpu_seconds=meter.machine_seconds,
    )


def latency_of(seconds: Sequence[float]) -> Latency:
    ordered = sorted(seconds)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000

    return Latency(at(0.50), at(0.95), at(0.99), ordered[-1] * 1000)
