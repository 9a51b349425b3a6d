"""R11: one tenant's many do not stand before another's few; on a real database and a real NATS."""

from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.bus import Bus
from libs.envelope import DispatchEnvelope, Outcome
from libs.errors import MessageAlreadyProcessed
from libs.ids import new_id
from libs.pg import single_connection
from libs.rpc import Accept, AcceptReply, Cancelled, CancelMessage
from libs.subjects import dispatch, stream_of
from libs.waits import TURN
from services.lifecycle import handoff, window
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.contract.streams_harness import Tap, tapped, until
from tests.databases import Database

WINDOW = 20
OTHER = new_id()


@pytest.fixture(autouse=True)
def small_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handoff, "WINDOW", WINDOW)
    monkeypatch.setattr(window, "WINDOW", WINDOW)


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    async with lifecycle(database, bus, key_ring_file, scale=1) as harness:
        yield harness


@pytest.fixture
async def dispatched(bus: Bus) -> AsyncIterator[Tap]:
    async with tapped(bus, stream_of("DISPATCH", "normal"), dispatch("normal")) as tap:
        yield tap


async def accept(service: LifecycleHarness, count: int, application_id: str = APPLICATION) -> list[str]:
    """One request: one hand-off."""
    messages = [service.message() for _ in range(count)]
    request = Accept(application_id, "batch", "key:test", messages)
    await service.bus.call("lifecycle", "accept", request, AcceptReply)
    return [message.message_id for message in messages]


async def sent(service: LifecycleHarness, ids: list[str], application_id: str = APPLICATION) -> None:
    await service.report(*(Outcome(i, "sent", 1, "call", 0) for i in ids), application_id=application_id)


async def counts(service: LifecycleHarness) -> Counter[bool]:
    """How many hand-offs are published, and how many wait."""
    async with single_connection(service.database.dsn("lifecycle")) as c:
        rows = await c.fetch("SELECT published FROM lifecycle.handoffs")
    return Counter(row["published"] for row in rows)


async def arrived(tap: Tap, count: int) -> list[DispatchEnvelope]:
    return [await tap.next(DispatchEnvelope) for _ in range(count)]


def ids_of(envelope: DispatchEnvelope) -> list[str]:
    return [item.message_id for item in envelope.items]


async def test_beyond_the_window_hand_offs_wait_until_others_are_through(
    service: LifecycleHarness, dispatched: Tap
) -> None:
    requests = [await accept(service, 10) for _ in range(5)]
    first = await arrived(dispatched, 2)
    assert [ids_of(envelope) for envelope in first] == requests[:2]
    assert await counts(service) == {True: 2, False: 3}
    reasons = [(await service.get(ids[0])).next_attempt_reason for ids in requests]
    assert reasons == [None, None, TURN, TURN, TURN], "the timeline tells why not now"
    await sent(service, requests[0])
    third = await dispatched.next(DispatchEnvelope)
    assert ids_of(third) == requests[2], "the oldest goes first"
    assert third.items[0].sealed, "with its content, from the log"
    await sent(service, requests[1] + requests[2])
    assert [ids_of(envelope) for envelope in await arrived(dispatched, 2)] == requests[3:]
    await sent(service, requests[3] + requests[4])
    for ids in requests:
        for message_id in ids:
            assert (await service.get(message_id)).status == "successful"
    await until(lambda: _none_left(service))


async def _none_left(service: LifecycleHarness) -> bool:
    return not await counts(service)


async def test_another_application_does_not_wait(service: LifecycleHarness, dispatched: Tap) -> None:
    for _ in range(5):
        await accept(service, 10)
    theirs = await accept(service, 5, OTHER)
    envelopes = await arrived(dispatched, 3)
    assert envelopes[-1].application_id == OTHER
    assert ids_of(envelopes[-1]) == theirs


async def test_within_one_request_the_window_is_kept(
    service: LifecycleHarness, dispatched: Tap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "MAX_ITEMS", 10)
    ids = await accept(service, 45)
    assert [ids_of(e) for e in await arrived(dispatched, 2)] == [ids[:10], ids[10:20]]
    assert await counts(service) == {True: 2, False: 3}


async def test_what_waits_can_be_cancelled_and_is_not_sent(service: LifecycleHarness, dispatched: Tap) -> None:
    requests = [await accept(service, 10) for _ in range(3)]
    await arrived(dispatched, 2)
    gone, left = requests[2][:4], requests[2][4:]
    for message_id in gone:
        request = CancelMessage(APPLICATION, message_id, "key:k")
        await service.bus.call("lifecycle", "cancel", request, Cancelled)
    request = CancelMessage(APPLICATION, requests[0][0], "key:k")
    with pytest.raises(MessageAlreadyProcessed):
        await service.bus.call("lifecycle", "cancel", request, Cancelled)
    await sent(service, requests[0] + requests[1])
    assert ids_of(await dispatched.next(DispatchEnvelope)) == left
    view = await service.get(gone[0])
    assert (view.status, view.next_attempt_reason) == ("cancelled", None)
    assert (await service.get(left[0])).status == "pending"


async def test_what_was_lost_between_commit_and_publishing_is_found(service: LifecycleHarness, dispatched: Tap) -> None:
    requests = [await accept(service, 10) for _ in range(3)]
    await arrived(dispatched, 2)
    async with single_connection(service.database.dsn("lifecycle")) as c:
        await c.execute("UPDATE lifecycle.handoffs SET published = true, created_at = now() WHERE NOT published")
    await sent(service, requests[0] + requests[1])
    again = await dispatched.next(DispatchEnvelope)
    assert ids_of(again) == requests[2]
    assert again.marked


async def test_what_a_rate_sent_back_counts_as_unfinished(service: LifecycleHarness, dispatched: Tap) -> None:
    first = await accept(service, WINDOW)
    await dispatched.next(DispatchEnvelope)
    held = [
        Outcome(i, "held", 1, "rate", 0, reason="rate_limit", hold_until_ms=2**42, data={"rate": 5.0}) for i in first
    ]
    await service.report(*held)

    async def waits() -> bool:
        return (await service.get(first[-1])).next_attempt_reason == "rate_limit"

    await until(waits)
    await accept(service, 1)
    assert (await counts(service))[False] == 1
