"""One floor: the cheapest known way to do a step of the pipeline on this machine, and the clock that measures it."""

import time
from collections.abc import Awaitable, Callable

import msgspec

from tests.bench.processes import cpu_of, own_cpu

SECONDS = 3.0
"""How long each floor is measured."""
PAYLOAD = 200
"""Bytes that a message weighs inside an envelope."""


class Floor(msgspec.Struct, frozen=True):
    step: str
    per_second: float
    client_micros: float
    """CPU of the client, for one item."""
    server_micros: float | None = None
    """CPU of the server, where it is the benchmark's own process."""
    reference: str = ""
    """What ARCHITECTURE §4 has for it."""


async def measure(
    step: str,
    once: Callable[[], Awaitable[int]],
    reference: str,
    *,
    limit: int | None = None,
    server: int | None = None,
) -> Floor:
    """Call `once`, which says how many items it did, for `SECONDS` or `limit` times; the first call is not counted.

    `server` is the process id of the other side.
    """
    await once()
    served = cpu_of(server) if server is not None else 0.0
    done, calls, cpu, began = 0, 0, own_cpu(), time.perf_counter()
    while time.perf_counter() - began < SECONDS and (limit is None or calls < limit):
        done += await once()
        calls += 1
    elapsed, cpu = time.perf_counter() - began, own_cpu() - cpu
    server_micros = (cpu_of(server) - served) * 1e6 / done if server is not None else None
    return Floor(step, done / elapsed, cpu * 1e6 / done, server_micros, reference)
