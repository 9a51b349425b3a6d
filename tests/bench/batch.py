"""End to end by `POST /messages/batch`: accepted → provider answered → outcome committed."""

import asyncio
import time

import msgspec

from tests.bench.delivery import send_batches
from tests.bench.processes import Meter, Usage, own_cpu
from tests.bench.progress import Progress
from tests.bench.recipients import Recipients
from tests.bench.system import System

REQUEST_ITEMS = 1000
SETTLING_SECONDS = 30.0
WINDOW = 100_000
"""Messages of a long run's beginning and end whose rates are compared."""


class BatchResult(msgspec.Struct, frozen=True):
    messages: int
    seconds: float
    """From the first request to the last outcome committed."""
    per_second: float
    accepted_per_second: float
    """Of the acceptance alone, while the senders were at work too."""
    first_per_second: float
    last_per_second: float
    window: int
    """Messages over which `first_per_second` and `last_per_second` were taken."""
    put_off: int
    """Requests answered 429 or 503, and repeated."""
    statuses: dict[str, int]
    """By SQL, at the end."""
    logged: dict[str, int]
    """Messages that have an event of each kind, by SQL."""
    sandbox_accepted: int
    sandbox_repeated: int
    usage: dict[str, Usage]
    generator_cpu_seconds: float
    machine_cpu_seconds: float
    """All cores, whoever used them: what is beyond the sum of the parts belongs to others on the machine."""

    @property
    def growth(self) -> float:
        """Rate at the end ÷ rate at the beginning."""
        return self.last_per_second / self.first_per_second


async def run(system: System, recipients: Recipients, messages: int, connections: int) -> BatchResult:
    """Raises `Stalled`, and `RuntimeError` where the log does not say what the counters say."""
    await system.forget_deliveries()
    sandbox_before = await system.sandbox()
    since, requests = time.time(), recipients.batches(messages, REQUEST_ITEMS)
    async with Progress(system) as progress, Meter(system.pids) as meter:
        cpu, started = own_cpu(), time.monotonic()
        sent = await send_batches(f"{system.api}/messages/batch", requests, connections)
        accepted_at = time.monotonic()
        await progress.reached(sent.accepted)
        cpu = own_cpu() - cpu
    statuses, sandbox = await _settled(system, since), await system.sandbox()
    seconds = progress.moment_of(sent.accepted) - started
    first, last, window = _rates(progress, started, sent.accepted)
    result = BatchResult(
        messages=sent.accepted,
        seconds=seconds,
        per_second=sent.accepted / seconds,
        accepted_per_second=sent.accepted / (accepted_at - started),
        first_per_second=first,
        last_per_second=last,
        window=window,
        put_off=sent.put_off,
        statuses=statuses,
        logged=await system.by_kind(since),
        sandbox_accepted=sandbox.accepted - sandbox_before.accepted,
        sandbox_repeated=sandbox.repeated - sandbox_before.repeated,
        usage=meter.usage,
        generator_cpu_seconds=cpu,
        machine_cpu_seconds=meter.machine_seconds,
    )
    _verify(result, messages, sent.refused)
    return result


async def _settled(system: System, since: float) -> dict[str, int]:
    """Messages by status, at rest: lifecycle counts a repeated fact twice, so the last outcomes may be on their way."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        statuses = await system.by_status(since)
        if not statuses.keys() & {"pending", "errored"} or time.monotonic() > deadline:
            return statuses
        await asyncio.sleep(0.5)


def _rates(progress: Progress, started: float, messages: int) -> tuple[float, float, int]:
    window = WINDOW if messages >= 2 * WINDOW else max(1, messages // 10)
    first = window / (progress.moment_of(window) - started)
    last = window / (progress.moment_of(messages) - progress.moment_of(messages - window))
    return first, last, window


def _verify(result: BatchResult, asked: int, refused: int) -> None:
    """The counters are only believed where the log says the same."""
    stored = sum(result.statuses.values())
    sent = result.logged.get("sent", 0)
    if refused or stored != asked or sent != asked or result.statuses.get("successful", 0) != asked:
        raise RuntimeError(
            f"{asked} messages asked for, {result.messages} accepted, {refused} refused, {sent} sent by the log, "
            f"statuses {result.statuses}"
        )
