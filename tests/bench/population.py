"""`python -m tests.bench.population`: load millions of subscriptions, then ask for them as applications do.

The load is one import over REST with all indexes in place. The mix is open loop: a request that is late counts from the
moment at which it was due.
"""

import asyncio
import itertools
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import click
import msgspec
import uvloop
from rich.table import Table

from libs.ids import new_id
from tests.bench import report
from tests.bench.generator import Connection, prepare
from tests.bench.processes import Meter, Usage
from tests.bench.single import Latency, latency_of
from tests.bench.system import Running, System

SCRATCH = Path(".run")
LINES = 500
"""Lines that the generator hands over at once."""
CONNECTIONS = 64
SAMPLE = 20_000
"""Subscriptions that the mix asks for."""
MIX = {"read": 40, "tag": 20, "create": 20, "list": 12, "list by type": 4, "list by cursor": 4}
"""Percent of the requests."""
BAR_ROWS = 20_000
BAR_MS = 50.0
_SAMPLE = "SELECT id::text FROM subscription.subscriptions TABLESAMPLE SYSTEM ($1) LIMIT $2"


class Loaded(msgspec.Struct, frozen=True):
    rows: int
    seconds: float
    per_second: float
    first_tenth_per_second: float
    last_tenth_per_second: float
    database_bytes: int
    usage: dict[str, Usage]


class Mixed(msgspec.Struct, frozen=True):
    per_second: float
    latency: dict[str, Latency]
    statuses: dict[str, int]
    usage: dict[str, Usage]


class Population(msgspec.Struct, frozen=True):
    loaded: Loaded
    mixed: Mixed


async def load(system: System, rows: int) -> Loaded:
    """Raises `RuntimeError` when a line is refused."""
    marks: list[float] = []
    url = f"{system.api}/subscriptions/imports/{new_id()}"
    headers = {**system.headers, "Content-Type": "application/x-ndjson"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with Meter(system.pids) as meter, aiohttp.ClientSession(timeout=timeout) as session:
        started = time.monotonic()
        async with session.put(url, data=_lines(rows, marks), headers=headers) as answer:
            told = await answer.json()
        seconds = time.monotonic() - started
    if answer.status != 200 or told["data"]["created"] != rows:
        raise RuntimeError(f"import: {answer.status} {told}")
    async with system.database() as c:
        await c.execute("ANALYZE subscription.subscriptions")
        size = await c.fetchval("SELECT pg_database_size(current_database())")
    tenth = rows // 10
    return Loaded(
        rows,
        seconds,
        rows / seconds,
        tenth / (marks[1] - marks[0]),
        tenth / (marks[10] - marks[9]),
        size,
        meter.usage,
    )


async def _lines(rows: int, marks: list[float]) -> AsyncIterator[bytes]:
    """As an exporting system writes them. `marks`: when each tenth began, and the end."""
    tiers = itertools.cycle(("free", "silver", "gold"))
    for start in range(0, rows, LINES):
        if start * 10 // rows >= len(marks):
            marks.append(time.monotonic())
        yield b"".join(_line(number, next(tiers)) for number in range(start, min(start + LINES, rows)))
    marks.append(time.monotonic())


def _line(number: int, tier: str) -> bytes:
    device = '{"device_model":"Pixel 9","device_os":"Android 16","device_language":"ko","country_code":"KR"}'
    token = f"population-{number:012x}:{'A' * 120}"
    return f'{{"type":"AndroidPush","token":"{token}","tags":{{"tier":"{tier}"}},"device_info":{device}}}\n'.encode()


async def mix(system: System, per_second: int, seconds: float) -> Mixed:
    async with system.database() as c:
        ids = [row[0] for row in await c.fetch(_SAMPLE, 1.0, SAMPLE)]
    requests = _requests(system, ids)
    latencies: dict[str, list[float]] = defaultdict(list)
    statuses: Counter[str] = Counter()
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.open(system.api))

    async def ask(kind: str, due: float) -> None:
        connection = await free.get()
        answer = await connection.exchange(requests[kind]())
        latencies[kind].append(time.monotonic() - due)
        statuses[f"{kind} {answer.status}"] += 1
        free.put_nowait(connection)

    kinds = random.Random(7).choices(list(MIX), list(MIX.values()), k=int(per_second * seconds))
    async with Meter(system.pids) as meter, asyncio.TaskGroup() as group:
        started = time.monotonic()
        for number, kind in enumerate(kinds):
            due = started + number / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(ask(kind, due))
    achieved = len(kinds) / (time.monotonic() - started)
    return Mixed(achieved, {kind: latency_of(latencies[kind]) for kind in MIX}, dict(statuses), meter.usage)


def _requests(system: System, ids: list[str]) -> dict[str, Callable[[], bytes]]:
    url, headers, choose = f"{system.api}/subscriptions", system.headers, random.Random(3).choice
    numbers = itertools.count()
    run = new_id()

    def tag() -> bytes:
        body = msgspec.json.encode({"tags": {"tier": choose(("free", "silver", "gold")), "seen": str(next(numbers))}})
        return prepare("POST", f"{url}/{choose(ids)}/tags", headers, body)

    def create() -> bytes:
        token = f"mix-{run}-{next(numbers):08x}:{'A' * 100}"
        body = {"type": "AndroidPush", "token": token, "device_info": {"country_code": "KR"}}
        return prepare("POST", url, headers, msgspec.json.encode(body))

    return {
        "read": lambda: prepare("GET", f"{url}/{choose(ids)}", headers),
        "tag": tag,
        "create": create,
        "list": lambda: prepare("GET", f"{url}?per_page=20", headers),
        "list by type": lambda: prepare("GET", f"{url}?per_page=20&type=AndroidPush&status=1", headers),
        "list by cursor": lambda: prepare("GET", f"{url}?per_page=20&page={choose(range(1, 50))}", headers),
    }


async def measure(rows: int, per_second: int, seconds: float, output: Path) -> bool:
    """True when the bars of the product are met."""
    out = report.console()
    async with Running(None, (), SCRATCH, keep=False) as system:
        loaded = await load(system, rows)
        out.print(f"{rows:,} subscriptions in {loaded.seconds:.0f} s: {loaded.per_second:,.0f}/s (bar {BAR_ROWS:,})")
        out.print(f"  first tenth {loaded.first_tenth_per_second:,.0f}/s, last {loaded.last_tenth_per_second:,.0f}/s")
        await mix(system, per_second, 5)  # caches and plans, not counted
        mixed = await mix(system, per_second, seconds)
    written = msgspec.json.format(msgspec.json.encode(Population(loaded, mixed)), indent=2)
    await asyncio.to_thread(output.write_bytes, written)
    table = Table("request", "p50 ms", "p95 ms", "p99 ms", title=f"{mixed.per_second:.0f} requests/s, p95 bar {BAR_MS}")
    for kind, found in mixed.latency.items():
        table.add_row(kind, f"{found.p50:.1f}", f"{found.p95:.1f}", f"{found.p99:.1f}")
    out.print(table, mixed.statuses)
    slow = [kind for kind, found in mixed.latency.items() if found.p95 >= BAR_MS]
    wrong = [status for status in mixed.statuses if status.rsplit(" ", 1)[1] not in ("200", "201")]
    return loaded.per_second >= BAR_ROWS and not slow and not wrong


@click.command()
@click.option("--rows", default=10_000_000, show_default=True)
@click.option("--per-second", default=500, show_default=True, help="Requests of the mix.")
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=SCRATCH / "population.json", show_default=True)
def main(rows: int, per_second: int, seconds: float, output: Path) -> None:
    """Load ROWS subscriptions by one import, then measure reading, creating, tagging and listing among them."""
    SCRATCH.mkdir(mode=0o700, exist_ok=True)
    sys.exit(0 if uvloop.run(measure(rows, per_second, seconds, output)) else 1)


if __name__ == "__main__":
    main()
