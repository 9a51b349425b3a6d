"""Following EVENTS: what a handler may do, and what becomes of a batch that defeats it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import msgspec
import pytest

from libs import subscribe
from libs.bus import Bus
from libs.errors import ServiceUnavailable
from libs.events import KINDS_HEADER, EventBatch, PublishedEvent, encode_batch, kinds_header
from libs.subjects import DEAD
from libs.subjects import events as events_of
from libs.subscribe import MAX_DELIVERIES, Subscriber
from tests.waiting import until

SHOP = "01990000-0000-7000-8000-00000000000a"


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribe, "AGAIN_AFTER", 0.01)


async def tell(bus: Bus, *message_ids: str) -> None:
    now = datetime.now(UTC)
    for message_id in message_ids:
        batch = EventBatch(SHOP, [PublishedEvent(1, "7", 1, message_id, "failed", 1, "k", now)])
        headers = {KINDS_HEADER: kinds_header(batch)}
        await bus.publish(events_of(SHOP), encode_batch(batch), msg_id=message_id, headers=headers)


@contextlib.asynccontextmanager
async def following(bus: Bus, handle: Callable[[EventBatch], Awaitable[None]]) -> AsyncIterator[Subscriber]:
    subscriber = Subscriber(bus, durable="test", kinds=frozenset({"failed"}), handle=handle)
    task = asyncio.create_task(subscriber.run())
    try:
        yield subscriber
    finally:
        await subscriber.stop()
        await asyncio.wait_for(task, 5)


class Handler:
    """Fails `failures` times for the message `bad`, and notes what it was given."""

    def __init__(self, failures: int = 0, error: Exception | None = None) -> None:
        self.seen: list[str] = []
        self._failures = failures
        self._error = error or ValueError("broken")

    async def __call__(self, batch: EventBatch) -> None:
        message_id = batch.events[0].message_id
        self.seen.append(message_id)
        if message_id == "bad" and self._failures > 0:
            self._failures -= 1
            raise self._error

    async def saw_good(self) -> bool:
        return "good" in self.seen


async def test_batches_come_in_order(bus: Bus) -> None:
    handler = Handler()
    await tell(bus, "a", "b", "good")
    async with following(bus, handler):
        await until(handler.saw_good, "all were handled")
    assert handler.seen == ["a", "b", "good"]


async def test_what_failed_comes_again(bus: Bus) -> None:
    handler = Handler(failures=MAX_DELIVERIES - 1)
    await tell(bus, "bad")

    async def succeeded() -> bool:
        return len(handler.seen) == MAX_DELIVERIES

    async with following(bus, handler):
        await until(succeeded, "the last delivery was handled")
    assert (await bus.stream_state(DEAD)).state.messages == 0


async def test_what_always_fails_is_put_aside_and_holds_nobody_up(bus: Bus) -> None:
    handler = Handler(failures=1000)
    await tell(bus, "bad", "good")

    async def put_aside() -> bool:
        return (await bus.stream_state(DEAD)).state.messages == 1

    async with following(bus, handler):
        await until(handler.saw_good, "the neighbour was handled")
        await until(put_aside, "the batch is in DEAD")
    note = msgspec.json.decode((await bus.js.get_msg(DEAD, 1)).data or b"")
    assert (note["reason"], note["reader"], note["sequence"]) == ("dead_letter", "test", 1)
    assert handler.seen.count("bad") == MAX_DELIVERIES


async def test_a_database_that_is_away_costs_no_delivery(bus: Bus) -> None:
    handler = Handler(failures=2, error=ServiceUnavailable(service="postgres"))
    await tell(bus, "bad", "good")
    async with following(bus, handler):
        await until(handler.saw_good, "all were handled")
    assert handler.seen == ["bad", "bad", "bad", "good"]


async def test_two_readers_of_one_name_share_the_work(bus: Bus) -> None:
    first, second = Handler(), Handler()
    names = [f"{n}" for n in range(20)]
    async with following(bus, first), following(bus, second):
        await tell(bus, *names)

        async def all_seen() -> bool:
            return len(first.seen) + len(second.seen) >= len(names)

        await until(all_seen, "all were handled")
    assert sorted(first.seen + second.seen) == sorted(names)
