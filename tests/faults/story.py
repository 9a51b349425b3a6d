"""One run: messages flow, a fault happens in the middle, everything settles, the outside checker looks."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator

import asyncpg

from services.senders.settings import Sender
from tests.faults import evidence as gathering
from tests.faults.checker import check
from tests.faults.evidence import Left
from tests.faults.ledger import Allowance, Client, Place
from tests.faults.load import Flow, flowing
from tests.faults.plan import Shape, shape_of
from tests.faults.report import Report, failure_text, report_on, summary, write
from tests.faults.system import System, until

_DEFAULTS = Sender(channel="apns")
CONCURRENCY = _DEFAULTS.concurrency
"""Calls that one sender has in flight at most, in a lane."""
OUTCOME_BATCH = _DEFAULTS.outcome_batch
"""Outcomes that a sender may hold back before it publishes them."""
SETTLE_SECONDS = 90.0
TIDY_SECONDS = 60.0
"""How long the reconciler may take to know that every hand-off is through."""


class Story:
    """The system under test and all that happened to it. Several faults may follow each other on one system."""

    def __init__(self, system: System, messages: int) -> None:
        self.system = system
        self.client = Client()
        self.kills = 0
        self.foreign: set[str] = set()
        self.published_after: Place | None = None
        self.notes: dict[str, float] = {}
        self.messages = messages
        self._began = time.monotonic()
        self._load_ended = self._began

    @property
    def short(self) -> bool:
        return self.messages < 10_000

    @contextlib.asynccontextmanager
    async def flow(self, shape: Shape | None = None) -> AsyncIterator[Flow]:
        """Messages flow while the body does its worst."""
        self._began = time.monotonic()
        flow = self.new_flow(shape)
        async with flowing(flow):
            yield flow
        self._load_ended = time.monotonic()

    def new_flow(self, shape: Shape | None = None) -> Flow:
        """A client that has not begun; it can send single messages beside its plan."""
        runtime = self.system.runtime
        shape = shape or shape_of(self.messages)
        return Flow(runtime.api_url, runtime.api_key, self.client, shape, random.Random())

    async def kill(self, name: str) -> None:
        """SIGKILL now, and wait until it is back."""
        self.kills += 1
        await self.system.back(name, self.system.kill(name))

    async def settled(self) -> Left:
        """Wait until every message is final and nothing is due, then until the reconciler has tidied up."""

        async def finished() -> bool:
            rest = await gathering.left(self.system)
            return rest.unfinished == 0 and rest.due == 0

        async def tidy() -> bool:
            return await finished() and (await gathering.left(self.system)).handoffs == 0

        with contextlib.suppress(TimeoutError):
            await until(finished, "every message is final", SETTLE_SECONDS)
            self.notes["settled_after_seconds"] = time.monotonic() - self._load_ended
            await until(tidy, "no hand-off is open", TIDY_SECONDS, every=0.3)
        return await gathering.left(self.system)

    async def check(self, fault: str) -> Report:
        """Settle, gather, judge, report. Raises `AssertionError` with timelines where an invariant is broken."""
        await self.settled()
        settle = self.notes.pop("settled_after_seconds", SETTLE_SECONDS)
        found = await gathering.gather(self.system, self.client, published_after=self.published_after)
        allowance = Allowance(
            repeats=self.kills * (CONCURRENCY + OUTCOME_BATCH),
            published_after=self.published_after,
            foreign=frozenset(self.foreign),
        )
        findings = check(found, allowance)
        seconds = (settle, time.monotonic() - self._began)
        report = report_on(fault, found, allowance, findings, seconds, self.notes)
        self.notes = {}
        print(f"\n{summary(report)}\n  written to {write(report)}")
        if findings:
            raise AssertionError(f"{failure_text(report, found)}\n\n{self.system.complaints()}")
        return report


async def kill_at(story: Story, flow: Flow, name: str, parts: tuple[float, ...]) -> None:
    """One kill as soon as each of these parts of the items is answered, with requests under way."""
    for part in parts:
        await flow.reached(part)
        await flow.volley()
        await story.kill(name)


async def sent_some(story: Story, more: int) -> None:
    """Wait until the sandbox was asked `more` times than now: calls are being made at this moment."""
    before = await gathering.sandbox_count(story.system, "requests")

    async def moved() -> bool:
        return await gathering.sandbox_count(story.system, "requests") >= before + more

    await until(moved, f"the sandbox sees {more} more calls", 30, every=0.02)


async def hold(seconds: float) -> None:
    """The fault itself lasts this long."""
    await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def writing_connection(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        yield connection
    finally:
        await connection.close()
