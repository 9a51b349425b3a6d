"""R11 in figures: a tenant's few behind another's many, and beside tenants whose provider hangs or refuses them."""

import asyncio
import time

import msgspec

from tests.bench import generator
from tests.bench.critical import SATURATED_AFTER, SENDERS
from tests.bench.delivery import send_batches
from tests.bench.generator import Connection, prepare
from tests.bench.progress import Progress
from tests.bench.recipients import Recipients
from tests.bench.single import Latency, latency_of
from tests.bench.system import System
from tests.bench.tenants import Tenant, ios_devices, tenant

FEW = 1_000
ROUNDS = 3
"""Of the few, alone and behind the many; medians are judged."""
PER_SECOND = 50
"""Single messages of the tenant that nobody shall delay."""
NOISE_PER_SECOND = 200
NOISE_BATCH = 50
"""Of the tenant that is in trouble: in batches, because so many single requests a second, of whomever, would fill the
cores, and only that would be measured."""
PATIENCE = 120.0
DEVICES = 200
HANGING = "cafe"
"""How tokens begin whose provider never answers."""

_ENDED = """
SELECT count(*) AS ended, extract(EPOCH FROM max(sent_at))::float8 AS last FROM lifecycle.messages
WHERE application_id = $1 AND id >= lifecycle.first_id_at(to_timestamp($2) - interval '2 seconds')
    AND created_at >= to_timestamp($2) AND status = 'successful'
"""
_UNFINISHED = """
SELECT count(*) AS unfinished FROM lifecycle.messages WHERE application_id = $1 AND status IN ('pending', 'errored')
"""
_LATENCIES = """
SELECT extract(EPOCH FROM sent_at - created_at)::float8 AS seconds FROM lifecycle.messages
WHERE application_id = $1 AND id >= lifecycle.first_id_at(to_timestamp($2) - interval '2 seconds')
    AND created_at >= to_timestamp($2) AND created_at < to_timestamp($3) AND sent_at IS NOT NULL
"""


class Beside(msgspec.Struct, frozen=True):
    """Latency from acceptance to the provider's answer, of a healthy tenant."""

    trouble: str
    alone: Latency
    beside: Latency

    @property
    def ratio(self) -> float:
        return self.beside.p95 / self.alone.p95


class FairnessResult(msgspec.Struct, frozen=True):
    few: int
    many: int
    alone_seconds: list[float]
    behind_seconds: list[float]
    beside: list[Beside]


async def run(system: System, recipients: Recipients, many: int, seconds: float) -> FairnessResult:
    """`recipients` are the application's that sends the many."""
    other = await tenant(system, "bench: few")
    few = await ios_devices(other, DEVICES, "a1")
    await _time_of_few(system, other, few)  # warms its connections up
    alone = [await _time_of_few(system, other, few) for _ in range(ROUNDS)]
    beside = [await _beside(system, other, few, trouble, seconds) for trouble in ("refused", "hangs")]
    behind = await _behind(system, recipients, many, other, few)
    return FairnessResult(FEW, many, alone, behind, beside)


async def _behind(system: System, recipients: Recipients, many: int, other: Tenant, few: Recipients) -> list[float]:
    """The many are accepted while the senders are held; the few come when the senders are busy with them."""
    async with Progress(system) as progress:
        await system.hold(SENDERS)
        try:
            await send_batches(f"{system.api}/messages/batch", recipients.batches(many, 1_000), 4)
        finally:
            await system.release(SENDERS)
        await progress.reached(SATURATED_AFTER)
        return [await _time_of_few(system, other, few) for _ in range(ROUNDS)]


async def _time_of_few(system: System, other: Tenant, few: Recipients) -> float:
    """Seconds from the request to the last provider's answer."""
    started = time.time()
    sent = await send_batches(f"{other.api}/messages/batch", few.batches(FEW, FEW), 1)
    if sent.accepted != FEW:
        raise RuntimeError(f"{sent.accepted} of {FEW} accepted")
    async with system.database() as connection:
        while True:
            [row] = await connection.fetch(_ENDED, other.application_id, started)
            if row["ended"] == FEW:
                return float(row["last"]) - started
            if time.time() - started > PATIENCE:
                raise RuntimeError(f"{row['ended']} of {FEW} sent within {PATIENCE:.0f} s")
            await asyncio.sleep(0.1)


async def _beside(system: System, other: Tenant, few: Recipients, trouble: str, seconds: float) -> Beside:
    noisy = await tenant(system, f"bench: {trouble}", broken=trouble == "refused")
    crowd = await ios_devices(noisy, DEVICES, HANGING if trouble == "hangs" else "a2")
    alone = await _paced(system, other, few, seconds)
    rules = [{"provider": "apns", "token_prefix": HANGING, "hang": True}] if trouble == "hangs" else []
    await _faults(system, rules)
    try:
        noise = asyncio.create_task(_make_noise(noisy, crowd, seconds + 5))
        await asyncio.sleep(5)
        beside = await _paced(system, other, few, seconds)
        await noise
    finally:
        await _faults(system, [])
    if trouble == "hangs":  # what waited comes through now, and shall not be in the way of what is measured next
        await _through(system, noisy)
    return Beside(trouble, alone, beside)


async def _through(system: System, noisy: Tenant) -> None:
    deadline = time.monotonic() + PATIENCE
    async with system.database() as connection:
        while time.monotonic() < deadline:
            [row] = await connection.fetch(_UNFINISHED, noisy.application_id)
            if not row["unfinished"]:
                return
            await asyncio.sleep(0.5)
    raise RuntimeError("what hung does not come through")


async def _paced(system: System, other: Tenant, few: Recipients, seconds: float) -> Latency:
    began = time.time()
    count = await _pace(few, PER_SECOND, seconds)
    ended, deadline = time.time(), time.monotonic() + PATIENCE
    async with system.database() as connection:
        while True:
            rows = await connection.fetch(_LATENCIES, other.application_id, began, ended)
            if len(rows) >= count or time.monotonic() > deadline:
                return latency_of([row["seconds"] for row in rows])
            await asyncio.sleep(0.2)


async def _pace(recipients: Recipients, per_second: int, seconds: float) -> int:
    """An open loop over a few connections. Raises `RuntimeError` for a message that is refused."""
    requests, free = recipients.singles(), asyncio.Queue[Connection]()
    for _ in range(16):
        free.put_nowait(await Connection.open(recipients.api))

    async def send(number: int) -> None:
        connection = await free.get()
        answer = await connection.exchange(requests[number % len(requests)])
        free.put_nowait(connection)
        if answer.status != 201:
            raise RuntimeError(f"POST /messages: {answer.status} {answer.body[:300].decode()}")

    started = time.monotonic()
    count = int(per_second * seconds)
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
            group.create_task(send(number))
    return count


async def _make_noise(noisy: Tenant, crowd: Recipients, seconds: float) -> None:
    started = time.monotonic()
    for number in range(int(seconds * NOISE_PER_SECOND / NOISE_BATCH)):
        await asyncio.sleep(max(0.0, started + number * NOISE_BATCH / NOISE_PER_SECOND - time.monotonic()))
        await send_batches(f"{noisy.api}/messages/batch", crowd.batches(NOISE_BATCH, NOISE_BATCH), 1)


async def _faults(system: System, rules: list[dict[str, object]]) -> None:
    url = f"{system.runtime.sandbox_url}/v1/faults"
    async with await generator.Connection.open(url) as connection:
        body = msgspec.json.encode(rules)
        answer = await connection.exchange(prepare("PUT" if rules else "DELETE", url, {}, body if rules else b""))
    if answer.status >= 300:
        raise RuntimeError(f"faults: {answer.status}")
