"""`make burst`: three times the rate that the machine can do, for a minute, whatever the answers are (an open loop).

What is refused is refused politely, what is accepted arrives, and nobody's memory grows without bound.
"""

import asyncio
import itertools
import sys
import time
from collections import Counter

import click
import msgspec

from tests.bench.generator import Connection, prepare
from tests.bench.processes import Meter, Usage
from tests.bench.recipients import device
from tests.bench.recipients import register_all as register
from tests.faults import evidence
from tests.faults.report import RESULTS
from tests.faults.system import System, until

BATCH = 100
DEVICES = 2_000
CONNECTIONS = 2_000
"""At most so many requests wait for an answer; more are not sent, and counted."""
SETTLE_SECONDS = 900.0
MEMORY_MB = 200.0
"""Of one service of ours."""
SERVERS = frozenset({"postgres", "nats", "sandbox"})
SINGLE_SHARE = 0.02
"""Of the messages, by `POST /messages`."""
COUNTS = """
SELECT count(*) AS rows, count(*) FILTER (WHERE status = 'successful') AS successful FROM lifecycle.messages
"""


class Burst(msgspec.Struct):
    """What happened, as it is written to `build/faults/burst.json`."""

    seconds: float
    rate: int
    offered: int = 0
    accepted: int = 0
    answers: Counter[str] = msgspec.field(default_factory=Counter)
    without_retry_after: int = 0
    not_sent: int = 0
    worst_answer_seconds: float = 0.0
    settle_seconds: float = 0.0
    rows: int = 0
    successful: int = 0
    accepted_twice: int = 0
    usage: dict[str, Usage] = {}
    wrong: list[str] = []


class Load:
    def __init__(self, system: System, burst: Burst) -> None:
        runtime = system.runtime
        self._api = f"{runtime.api_url}/api/v1"
        self._headers = {"X-API-Key": runtime.api_key, "Content-Type": "application/json"}
        self._burst = burst
        self._free: list[Connection] = []
        self._under_way = 0

    async def run(self) -> None:
        devices = [device("b0", n, ios=n % 2 == 0) for n in range(DEVICES)]
        ids = await register(self._api, self._headers, devices)
        items = [
            msgspec.json.encode({"subscription_id": i, "title": "burst", "body": "as fast as it goes"}) for i in ids
        ]
        requests = itertools.cycle(self._requests(items))
        burst, began, sent = self._burst, time.monotonic(), 0
        async with asyncio.TaskGroup() as group:
            while time.monotonic() < began + burst.seconds:
                while sent < burst.rate * (time.monotonic() - began):
                    weight, request = next(requests)
                    sent += weight
                    burst.offered += weight
                    group.create_task(self._send(weight, request))
                await asyncio.sleep(0.005)

    def _requests(self, items: list[bytes]) -> list[tuple[int, bytes]]:
        """Batches, and among them as many single messages as make up their share."""
        batch, single = f"{self._api}/messages/batch", f"{self._api}/messages"
        found: list[tuple[int, bytes]] = []
        for start in range(0, len(items), BATCH):
            part = items[start : start + BATCH]
            found.append((BATCH, prepare("POST", batch, self._headers, b'{"messages":[' + b",".join(part) + b"]}")))
            found += [(1, prepare("POST", single, self._headers, item)) for item in part[: int(BATCH * SINGLE_SHARE)]]
        return found

    async def _send(self, weight: int, request: bytes) -> None:
        burst = self._burst
        if self._under_way >= CONNECTIONS:
            burst.not_sent += weight
            return
        self._under_way += 1
        began = time.monotonic()
        try:
            connection = self._free.pop() if self._free else await Connection.open(self._api)
            answer = await asyncio.wait_for(connection.exchange(request), 60)
        except (OSError, TimeoutError) as error:
            burst.answers[type(error).__name__] += 1
            burst.wrong.append(f"no answer: {type(error).__name__}") if len(burst.wrong) < 5 else None
            return
        finally:
            self._under_way -= 1
        self._free.append(connection)
        burst.answers[str(answer.status)] += 1
        burst.worst_answer_seconds = max(burst.worst_answer_seconds, time.monotonic() - began)
        if answer.status == 200:
            burst.accepted += int(msgspec.json.decode(answer.body)["data"]["accepted"])
        elif answer.status == 201:
            burst.accepted += 1
        elif answer.status in (429, 503):
            burst.without_retry_after += answer.retry_after is None
        else:
            burst.wrong.append(f"answered {answer.status}: {answer.body[:200].decode()}")


async def _judge(system: System, burst: Burst) -> None:
    async def settled() -> bool:
        left = await evidence.left(system)
        return left.unfinished == 0 and left.due == 0 and left.handoffs == 0

    began = time.monotonic()
    try:
        await until(settled, "every message is final", SETTLE_SECONDS, every=1.0)
    except TimeoutError as error:
        burst.wrong.append(str(error))
    burst.settle_seconds = time.monotonic() - began
    [row] = await system.fetch(COUNTS)
    burst.rows, burst.successful = row["rows"], row["successful"]
    burst.accepted_twice = await evidence.sandbox_count(system, "accepted_more_than_once")
    if not burst.accepted == burst.rows == burst.successful:
        burst.wrong.append(f"{burst.accepted} accepted, {burst.rows} in the log, {burst.successful} successful")
    if burst.without_retry_after:
        burst.wrong.append(f"{burst.without_retry_after} refusals without Retry-After")
    for name, used in burst.usage.items():
        if name not in SERVERS and used.peak_mb > MEMORY_MB * used.processes:
            burst.wrong.append(f"{name} needed {used.peak_mb:.0f} MB")


async def run(seconds: float, rate: int) -> Burst:
    found, system = Burst(seconds, rate), System()
    system.up()
    try:
        async with Meter(lambda: system.runtime.processes) as meter:
            await Load(system, found).run()
        found.usage = meter.usage
        await _judge(system, found)
    finally:
        system.down()
    return found


@click.command()
@click.option("--seconds", default=60.0, show_default=True)
@click.option("--rate", default=15_000, show_default=True, help="Messages a second: three times what was measured.")
def main(seconds: float, rate: int) -> None:
    """Offer RATE messages a second for SECONDS, and count what becomes of them."""
    found = asyncio.run(run(seconds, rate))
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "burst.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    print(f"{found.offered:,} offered, {found.accepted:,} accepted, answers {dict(found.answers)}")
    print(f"{found.not_sent:,} not sent for want of answers; slowest answer {found.worst_answer_seconds:.1f} s")
    print(f"settled after {found.settle_seconds:.0f} s; {found.accepted_twice} accepted twice by the provider")
    peaks = {name: round(used.peak_mb) for name, used in found.usage.items()}
    print(f"memory peaks, MB: {peaks}\nall figures: {path}")
    for text in found.wrong:
        print(f"WRONG {text}")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
