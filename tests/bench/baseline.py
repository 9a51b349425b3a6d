"""What people write by hand: a queue table, workers that take one job at a time, aioapns and firebase-admin.

Both libraries are called as documented. Kinder to it than life: no HTTP in front, no polling interval, no retry, no
encryption, connections opened before the clock starts; rows are inserted as fast as eight connections can, while the
workers run.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from tests.bench.baseline_worker import READY, Job
from tests.bench.processes import cpu_of
from tests.bench.provider import own_sandbox
from tests.bench.scratch import scratch_database
from tests.bench.system import System

SHAPES = ((1, 1), (2, 4), (8, 1))
"""(processes, concurrent workers in each)."""
PRODUCERS = 8
POLL = 0.1
PATIENCE = 600.0

_TABLES = """
CREATE TABLE messages (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id uuid NOT NULL UNIQUE, channel text NOT NULL,
    token text NOT NULL, title text NOT NULL, body text NOT NULL, status text NOT NULL DEFAULT 'pending', error text,
    created_at timestamptz NOT NULL DEFAULT now(), started_at timestamptz, sent_at timestamptz);
CREATE INDEX messages_pending ON messages (id) WHERE status = 'pending';
CREATE TABLE message_events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, message_id uuid NOT NULL, kind text NOT NULL, detail text,
    occurred_at timestamptz NOT NULL DEFAULT now());
CREATE INDEX message_events_message ON message_events (message_id);
"""
_INSERT_MESSAGE = "INSERT INTO messages (message_id, channel, token, title, body) VALUES ($1, $2, $3, $4, $5)"
_INSERT_CREATED = "INSERT INTO message_events (message_id, kind) VALUES ($1, 'created')"
_COUNTS = "SELECT status, count(*) FROM messages WHERE status IN ('sent', 'failed') GROUP BY status"


class BaselineResult(msgspec.Struct, frozen=True):
    processes: int
    workers: int
    """In each process, concurrent."""
    messages: int
    seconds: float
    """From the first INSERT to the last UPDATE committed."""
    per_second: float
    cpu_micros: float
    """Of the worker processes, for one message."""


async def run(system: System, scratch: Path, messages: int, ios_share: float) -> AsyncIterator[BaselineResult]:
    """Each shape as soon as it is measured. Raises `RuntimeError` when a message failed or a worker died."""
    with tempfile.TemporaryDirectory(prefix="baseline-", dir=scratch) as name:
        directory = Path(name)
        async with own_sandbox(directory) as provider:
            for processes, workers in SHAPES:
                async with scratch_database(system.runtime.postgres_dsn, "baseline") as dsn:
                    job = Job(dsn, provider, workers)
                    yield await _measure(job, directory, processes, messages, ios_share)


async def _measure(job: Job, directory: Path, processes: int, messages: int, ios_share: float) -> BaselineResult:
    pool = await asyncpg.create_pool(job.dsn, min_size=PRODUCERS, max_size=PRODUCERS)
    await pool.execute(_TABLES)
    started = [await _start(job, directory) for _ in range(processes)]
    try:
        for worker in started:
            await _ready(worker)
        cpu, began = sum(cpu_of(worker.pid) for worker in started), time.perf_counter()
        for worker in started:
            _go(worker)
        await _produce(pool, messages, ios_share)
        await _until_done(pool, messages, started)
        elapsed = time.perf_counter() - began
        cpu = sum(cpu_of(worker.pid) for worker in started) - cpu
    finally:
        for worker in started:
            if worker.returncode is None:
                worker.terminate()
            await worker.wait()
        await pool.close()
    return BaselineResult(processes, job.workers, messages, elapsed, messages / elapsed, cpu * 1e6 / messages)


async def _start(job: Job, directory: Path) -> asyncio.subprocess.Process:
    path = directory / "job.json"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.json.encode(job))
    # The one thing not as documented: both libraries are to trust the sandbox's authority.
    trust = {"SSL_CERT_FILE": job.provider.ca_file, "REQUESTS_CA_BUNDLE": job.provider.ca_file}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-Wignore::DeprecationWarning",  # firebase-admin 7.7 prints one for each message sent to a token
        "-m",
        "tests.bench.baseline_worker",
        str(path),
        env={**os.environ, **trust},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )


async def _ready(worker: asyncio.subprocess.Process) -> None:
    assert worker.stdout is not None
    if (await asyncio.wait_for(worker.stdout.readline(), 60)).strip() != READY:
        raise RuntimeError("a baseline worker did not start")


def _go(worker: asyncio.subprocess.Process) -> None:
    assert worker.stdin is not None
    worker.stdin.write(b"go\n")


async def _produce(pool: "asyncpg.Pool[asyncpg.Record]", messages: int, ios_share: float) -> None:
    """One message at a time and connection, its `created` event in the same transaction."""
    rows = _rows(messages, ios_share)

    async def work() -> None:
        async with pool.acquire() as connection:
            for row in rows:
                async with connection.transaction():
                    await connection.execute(_INSERT_MESSAGE, *row)
                    await connection.execute(_INSERT_CREATED, row[0])

    async with asyncio.TaskGroup() as group:
        for _ in range(PRODUCERS):
            group.create_task(work())


def _rows(messages: int, ios_share: float) -> Iterator[tuple[object, ...]]:
    for number in range(messages):
        ios = int((number + 1) * ios_share) > int(number * ios_share)
        token = f"a{number:063x}" if ios else f"bench-{number:012x}:{'A' * 120}"
        body = "Order 20261123-0042 left our warehouse and will be with you tomorrow between 9 and 12."
        yield uuid7(), "ios" if ios else "android", token, "Your order is on its way", body


async def _until_done(
    pool: "asyncpg.Pool[asyncpg.Record]", messages: int, workers: list[asyncio.subprocess.Process]
) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            counts = {row[0]: row[1] for row in await pool.fetch(_COUNTS)}
            if counts.get("failed"):
                error = await pool.fetchval("SELECT error FROM messages WHERE status = 'failed' LIMIT 1")
                raise RuntimeError(f"the baseline failed {counts['failed']} messages: {error}")
            if counts.get("sent", 0) >= messages:
                return
            if any(worker.returncode is not None for worker in workers):
                raise RuntimeError("a baseline worker died")
            await asyncio.sleep(POLL)
