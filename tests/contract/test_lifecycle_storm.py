"""Everything at once, in any order, twice: whatever happens to a message, it ends, and the log can prove how."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from libs.bus import Bus
from libs.envelope import Accepted, DispatchEnvelope, Outcome
from libs.errors import MessageAlreadyProcessed
from libs.pg import single_connection
from libs.rpc import Cancelled, CancelMessage, NewMessage, Rescheduled, RescheduleMessage, ResendMessage, Resent
from libs.subjects import dispatch, stream_of
from libs.waits import Hold
from services.lifecycle import handoff, window
from services.lifecycle.rebuild import rebuild
from services.lifecycle.settings import Lifecycle
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.contract.streams_harness import Tap, tapped
from tests.databases import Database
from tests.waiting import until

MESSAGES = 150
WINDOW = 20
HOLDS: tuple[Hold, ...] = ("quiet_hours", "frequency_cap", "rate_limit", "provider_slow", "breaker")
# What is not final has to be somewhere: it waits, or somebody has it or will have it in hand.
NOWHERE = """
SELECT m.id, m.status, m.attempt FROM lifecycle.messages AS m
WHERE m.status IN ('pending', 'errored')
    AND NOT EXISTS (SELECT FROM lifecycle.due AS d WHERE d.message_id = m.id)
    AND NOT EXISTS (SELECT FROM lifecycle.handoffs AS h WHERE h.id = m.handoff_id AND m.id = ANY (h.message_ids))
"""
OPEN = "SELECT count(*) FROM lifecycle.messages WHERE status IN ('pending', 'errored')"
LEFT = "SELECT (SELECT count(*) FROM lifecycle.due) + (SELECT count(*) FROM lifecycle.handoffs)"


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "WINDOW", WINDOW)
    monkeypatch.setattr(window, "WINDOW", WINDOW)


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    own = Lifecycle(publish_timeout=0.5, reconcile_after=1.0, breaker_seconds=1.0)
    async with lifecycle(database, bus, key_ring_file, scale=0.002, own=own) as harness:
        yield harness


class Pipeline:
    """Dispatcher, sender and provider, as bad as they can be until they are told to be good."""

    def __init__(self, service: LifecycleHarness, tap: Tap, chance: random.Random) -> None:
        self._service = service
        self._tap = tap
        self._chance = chance
        self._told: list[Outcome] = []
        self.good = False
        self.seen: set[tuple[str, int]] = set()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                envelope = await self._tap.next(DispatchEnvelope)
                self.seen |= {(item.message_id, item.attempt) for item in envelope.items}
                facts = [fact for item in envelope.items for fact in self._facts(item)]
                self._told += facts
                if not self.good and self._told:  # and something of what was said before, once more
                    facts += self._chance.sample(self._told, min(5, len(self._told)))
                self._chance.shuffle(facts)
                if facts:
                    await self._service.report(*facts)

    def _facts(self, item: Accepted) -> list[Outcome]:
        if self.good:
            return [self._fact(item, "sent")]
        match self._chance.random():
            case lost if lost < 0.03:
                return []
            case held if held < 0.45:
                return [self._held(item)]
            case failed if failed < 0.65:
                return [self._fact(item, "errored", "network")]
            case final if final < 0.75:
                return [self._fact(item, "failed")]
            case both if both < 0.85:
                return [self._held(item), self._fact(item, self._chance.choice(("sent", "failed")))]
            case _:
                return [self._fact(item, "sent")]

    def _held(self, item: Accepted) -> Outcome:
        hold = self._chance.choice(HOLDS)
        until_ms = None if hold == "breaker" else int((time.time() + self._chance.uniform(0, 0.6)) * 1000)
        key = f"{hold}:{item.attempt}"
        return Outcome(item.message_id, "held", item.attempt, key, 0, reason=hold, hold_until_ms=until_ms)

    def _fact(self, item: Accepted, kind: str, retry_class: str | None = None) -> Outcome:
        at = int(time.time() * 1000)
        found = Outcome(item.message_id, kind, item.attempt, f"{kind}:{item.attempt}", at, reason="storm")
        return msgspec.structs.replace(found, retry_class=retry_class)


def messages(service: LifecycleHarness, chance: random.Random) -> list[NewMessage]:
    found = []
    for _ in range(MESSAGES):
        message = service.message(collapse_key=chance.choice((None, None, "score")), ttl=chance.choice((3, 60, None)))
        if chance.random() < 0.4:
            due_at_ms = int((time.time() + chance.uniform(0.2, 2)) * 1000)
            message = msgspec.structs.replace(message, due_at_ms=due_at_ms, scheduled={"asked": "soon"})
        found.append(message)
    return found


async def meddle(service: LifecycleHarness, ids: list[str], chance: random.Random, until_at: float) -> int:
    """Somebody cancels, reschedules and resends whatever there is. Returns how much was taken."""
    taken = 0
    while time.monotonic() < until_at:
        message_id = chance.choice(ids)
        with contextlib.suppress(MessageAlreadyProcessed):
            match chance.randrange(3):
                case 0:
                    await service.bus.call(
                        "lifecycle", "cancel", CancelMessage(APPLICATION, message_id, "key:k"), Cancelled
                    )
                case 1:
                    at = int((time.time() + chance.uniform(-1, 1)) * 1000)
                    move = RescheduleMessage(APPLICATION, message_id, "key:k", at, {})
                    await service.bus.call("lifecycle", "reschedule", move, Rescheduled)
                case _:
                    again = ResendMessage(APPLICATION, message_id, "key:k", str(chance.randrange(3)))
                    await service.bus.call("lifecycle", "resend", again, Resent)
            taken += 1
        await asyncio.sleep(chance.uniform(0, 0.02))
    return taken


@pytest.mark.parametrize("seed", [1, 9])
async def test_whatever_happens_to_a_message_it_ends_and_the_log_proves_it(
    service: LifecycleHarness, seed: int
) -> None:
    chance = random.Random(seed)
    ids: list[str] = []
    async with (
        tapped(service.bus, stream_of("DISPATCH", "normal"), dispatch("normal")) as tap,
        single_connection(service.database.admin_dsn) as c,
    ):
        pipeline = Pipeline(service, tap, chance)
        working = asyncio.create_task(pipeline.run())
        for _ in range(3):
            batch = messages(service, chance)
            for start in range(0, MESSAGES, 15):
                await service.accept(*batch[start : start + 15])
            ids += [message.message_id for message in batch]
            until_at = time.monotonic() + 2
            taken = await asyncio.gather(*(meddle(service, ids, chance, until_at) for _ in range(4)))
            assert sum(taken) > 10
            assert await c.fetch(NOWHERE) == []
        pipeline.good = True

        async def all_ended() -> bool:
            return not await c.fetchval(OPEN)

        async def nothing_left() -> bool:
            return not await c.fetchval(LEFT)

        await until(all_ended, "every message ends", 45)
        await until(nothing_left, "nothing waits, and no hand-off is remembered", 20)
        working.cancel()
    rebuilt = await rebuild(service.database.dsn("lifecycle"))
    assert rebuilt.messages == len(ids)
    assert rebuilt.checksum_before == rebuilt.checksum_after
