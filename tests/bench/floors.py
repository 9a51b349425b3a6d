"""The floors of ARCHITECTURE §4, measured on the running system's own Postgres and NATS while it is idle."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.bench import floors_http, floors_nats, floors_postgres
from tests.bench.floor import Floor
from tests.bench.system import System

FSYNCS = 200


async def run(system: System, scratch: Path) -> AsyncIterator[Floor]:
    """Each floor as soon as it is known."""
    yield await asyncio.to_thread(_fsync, system.data.path if system.owned else scratch)
    async for floor in floors_nats.run(system.runtime.nats_url):
        yield floor
    async for floor in floors_postgres.run(system.runtime.postgres_dsn):
        yield floor
    async for floor in floors_http.run(scratch):
        yield floor


def _fsync(directory: Path) -> Floor:
    """Appending 8 KiB and waiting for the disk, as a commit does."""
    path = directory / f".fsync-{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        cpu, began = time.process_time(), time.perf_counter()
        for _ in range(FSYNCS):
            os.write(descriptor, b"\0" * 8192)
            os.fdatasync(descriptor)
        elapsed, cpu = time.perf_counter() - began, time.process_time() - cpu
    finally:
        os.close(descriptor)
        path.unlink()
    return Floor("fdatasync of 8 KiB", FSYNCS / elapsed, cpu * 1e6 / FSYNCS)
