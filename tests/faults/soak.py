"""`make soak`: messages at a steady rate for a long time, while every few seconds some process is killed.

Counts instead of ledgers: there are millions. Every request is repeated until it is answered, so that what the client
was told must be what the log holds; what the sandbox saw twice must lie within the window of the kills.
"""

import asyncio
import itertools
import random
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import aiohttp
import click
import msgspec
import psutil

from tests.faults import evidence
from tests.faults.load import register
from tests.faults.report import RESULTS
from tests.faults.soak_flat import SIZES, Sample, judge
from tests.faults.story import CONCURRENCY, OUTCOME_BATCH
from tests.faults.system import CommandFailed, System, until

VICTIMS = {
    "ingest": 4,
    "application": 2,
    "subscription": 3,
    "templating": 1,
    "lifecycle": 6,
    "dispatcher": 5,
    "sender-apns": 5,
    "sender-fcm": 5,
    "nats": 2,
    "postgres": 1,
}
"""Process to how often it is chosen."""
SENDERS = ("sender-apns", "sender-fcm")
BATCH = 250
CONNECTIONS = 16
DEVICES = 2_000
SAMPLE_SECONDS = 10.0
ANSWER_SECONDS = 180.0
SETTLE_SECONDS = 900.0
COUNTS = """
SELECT count(*) AS rows, count(*) FILTER (WHERE status = 'successful') AS successful,
    count(*) FILTER (WHERE status IN ('pending', 'errored')) AS unfinished
FROM lifecycle.messages
"""
UNKNOWN = "SELECT count(*) AS errored FROM lifecycle.message_events WHERE kind = 'errored'"


class Soak(msgspec.Struct):
    """What happened, as it is written to `build/faults/soak.json`."""

    minutes: float
    rate: int
    told: int = 0
    answers: Counter[str] = msgspec.field(default_factory=Counter)
    kills: Counter[str] = msgspec.field(default_factory=Counter)
    load_seconds: float = 0.0
    settle_seconds: float = 0.0
    rebuild_seconds: float = 0.0
    counts: dict[str, int] = {}
    checksum_same: bool | None = None
    growth: dict[str, float] = {}
    samples: list[Sample] = []
    wrong: list[str] = []


class Load:
    """Batches at a steady pace; one that is late is sent as soon as it can be."""

    def __init__(self, system: System, soak: Soak) -> None:
        self._system = system
        self._soak = soak
        self.begun = asyncio.Event()
        """All devices are registered: what comes now is repeated until it is answered."""
        self.ended = asyncio.Event()

    async def run(self) -> None:
        runtime = self._system.runtime
        api, headers = f"{runtime.api_url}/api/v1", {"X-API-Key": runtime.api_key}
        timeout = aiohttp.ClientTimeout(total=15)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as session:
            kinds = itertools.cycle(("iOSPush", "AndroidPush"))
            devices = [await register(session, api, next(kinds)) for _ in range(DEVICES)]
            self.begun.set()
            began = time.monotonic()
            numbers = iter(range(int(self._soak.minutes * 60 * self._soak.rate / BATCH)))
            await asyncio.gather(*(self._work(session, api, devices, numbers, began) for _ in range(CONNECTIONS)))
            self._soak.load_seconds = time.monotonic() - began
        self.ended.set()

    async def _work(
        self, session: aiohttp.ClientSession, api: str, devices: list[str], numbers: Iterator[int], began: float
    ) -> None:
        for number in numbers:
            await asyncio.sleep(max(0.0, began + number * BATCH / self._soak.rate - time.monotonic()))
            items = [
                {"subscription_id": devices[(number * BATCH + n) % DEVICES], "title": "soak", "body": f"{number}/{n}"}
                for n in range(BATCH)
            ]
            await self._send(session, f"{api}/messages/batch", msgspec.json.encode({"messages": items}))

    async def _send(self, session: aiohttp.ClientSession, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json", "Idempotency-Key": str(uuid.uuid4())}
        give_up = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < give_up:
            try:
                async with session.post(url, data=body, headers=headers) as response:
                    status, text = response.status, await response.read()
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self._soak.answers[type(error).__name__] += 1
            else:
                self._soak.answers[str(status)] += 1
                if status == 200:
                    self._soak.told += int(msgspec.json.decode(text)["data"]["accepted"])
                    return
                if status not in (429, 503):
                    self._soak.wrong.append(f"a batch was answered {status}: {text[:200].decode()}")
                    return
            await asyncio.sleep(0.3)
        self._soak.wrong.append(f"a batch had no answer within {ANSWER_SECONDS:.0f} s")


async def _kill(system: System, soak: Soak, load: Load, every: float) -> None:
    """One at a time: the next one dies when the last one is back, and `every` seconds are over."""
    dice = random.Random()
    names, weights = list(VICTIMS), list(VICTIMS.values())
    await load.begun.wait()
    while not load.ended.is_set():
        began = time.monotonic()
        [name] = dice.choices(names, weights)
        soak.kills[name] += 1
        try:
            await system.back(name, system.kill(name))
        except TimeoutError as error:
            soak.wrong.append(str(error))
        await asyncio.sleep(max(0.0, began + every - time.monotonic()))


async def _sample(system: System, soak: Soak, load: Load, began: float) -> None:
    while not load.ended.is_set():
        try:
            rows = await system.fetch(SIZES)
        except Exception:
            rows = []  # it was just killed: the next sample comes in a few seconds
        rss, descriptors = _processes(system)
        soak.samples.append(
            Sample(
                seconds=round(time.monotonic() - began, 1),
                answered=soak.told,
                rss_mb=rss,
                descriptors=descriptors,
                table_mb={row["name"]: row["bytes"] / 1e6 for row in rows},
                dead_rows={row["name"]: row["dead"] for row in rows},
            )
        )
        await asyncio.sleep(SAMPLE_SECONDS)


def _processes(system: System) -> tuple[dict[str, float], dict[str, int]]:
    rss: dict[str, float] = {}
    descriptors: dict[str, int] = {}
    for name, pids in system.runtime.processes.items():
        for pid in pids:
            try:
                process = psutil.Process(pid)
                rss[name] = rss.get(name, 0) + process.memory_info().rss / 1e6
                descriptors[name] = descriptors.get(name, 0) + process.num_fds()
            except psutil.Error:
                continue
    return rss, descriptors


async def _judge(system: System, soak: Soak) -> None:
    async def settled() -> bool:
        left = await evidence.left(system)
        return left.unfinished == 0 and left.due == 0 and left.handoffs == 0

    began = time.monotonic()
    try:
        await until(settled, "every message is final", SETTLE_SECONDS, every=1.0)
    except TimeoutError as error:
        soak.wrong.append(str(error))
    soak.settle_seconds = time.monotonic() - began
    [row] = await system.fetch(COUNTS)
    [errored] = await system.fetch(UNKNOWN)
    soak.counts = dict(row) | {
        "errored_events": errored["errored"],
        "sandbox_requests": await evidence.sandbox_count(system, "requests"),
        "sandbox_accepted_twice": await evidence.sandbox_count(system, "accepted_more_than_once"),
    }
    if soak.counts["rows"] != soak.told or soak.counts["successful"] != soak.told:
        soak.wrong.append(f"{soak.told} accepted, {soak.counts}")
    window = sum(soak.kills.values()) * (CONCURRENCY + OUTCOME_BATCH)
    extra = soak.counts["sandbox_requests"] - soak.told - soak.counts["errored_events"]
    if extra > window:
        soak.wrong.append(f"{extra} calls beyond what the log explains, {window} allowed")
    await _compare(system, soak)
    flatness = judge(soak.samples)
    soak.growth = flatness.growth
    soak.wrong += flatness.wrong


async def _compare(system: System, soak: Soak) -> None:
    """I4: every row is what the log says. A comparison that fails takes none of the other figures along."""
    began = time.monotonic()
    try:
        rebuilt = await evidence.rebuild(system)
    except CommandFailed as error:
        soak.wrong.append(str(error))
    else:
        soak.checksum_same = rebuilt.checksum_before == rebuilt.checksum_after
        if rebuilt.messages != soak.told:
            soak.wrong.append(f"{soak.told} accepted, {rebuilt.messages} compared")
    soak.rebuild_seconds = time.monotonic() - began


async def soak(minutes: float, rate: int, every: float) -> Soak:
    found, system = Soak(minutes, rate), System()
    system.up()
    try:
        load, began = Load(system, found), time.monotonic()
        tasks = [load.run(), _sample(system, found, load, began)]
        tasks += [_kill(system, found, load, every)] if every else []
        await asyncio.gather(*tasks)
        await _judge(system, found)
        if found.wrong:
            print(system.complaints())
    finally:
        system.down()
    return found


@click.command()
@click.option("--minutes", default=10.0, show_default=True)
@click.option("--rate", default=2_500, show_default=True, help="Messages a second: half of what the machine can do.")
@click.option("--every", default=5.0, show_default=True, help="Seconds from one kill to the next; 0: nobody is killed.")
def main(minutes: float, rate: int, every: float) -> None:
    """Send messages for MINUTES while processes are killed, and count."""
    try:
        found = asyncio.run(soak(minutes, rate, every))
    except CommandFailed as error:
        sys.exit(str(error))
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "soak.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found)))
    kills, kept = sum(found.kills.values()), found.told / found.load_seconds
    print(f"{found.told:,} messages in {found.load_seconds:.0f} s ({kept:,.0f}/s), {kills} kills")
    print(f"answers {dict(found.answers)}; settled after {found.settle_seconds:.0f} s; {found.counts}")
    same = "the same" if found.checksum_same else "NOT the same"
    print(f"compared with the log in {found.rebuild_seconds:.0f} s: {same}")
    print(f"growth {found.growth}\nall figures: {path}")
    for text in found.wrong:
        print(f"WRONG {text}")
    sys.exit(1 if found.wrong else 0)


if __name__ == "__main__":
    main()
