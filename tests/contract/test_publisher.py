"""Hand-offs are published in time or not at all: the reconciler must not have looked for them before (R5, R6)."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from libs.bus import Bus
from libs.config import Nats
from libs.envelope import Accepted, DispatchEnvelope
from libs.ids import new_id
from libs.subjects import dispatch, stream_of
from services.lifecycle.handoff import Handoff, Publisher
from tests.contract.streams_harness import APPLICATION, connected, frozen, impatient, tapped, until
from tests.servers import NatsServer

STREAM = stream_of("DISPATCH", "bulk")


@pytest.fixture
async def fragile(own_nats: NatsServer) -> AsyncIterator[Bus]:
    async with connected(Nats(url=own_nats.url, max_stream_bytes=64 * 1024**2), "lifecycle") as bus:
        yield bus


def handoff() -> Handoff:
    return Handoff(new_id(), APPLICATION, "bulk", [Accepted(new_id(), new_id(), 1, b"", 0)])


async def test_a_handoff_is_published_unmarked_and_a_repair_marked(fragile: Bus) -> None:
    first = handoff()
    repair = Handoff(new_id(), APPLICATION, "bulk", first.items, repairs=1)
    Publisher(fragile, 5.0).publish([first, repair])
    async with tapped(fragile, STREAM, dispatch("bulk")) as tap:
        found = {envelope.handoff_id: envelope for envelope in [await tap.next(DispatchEnvelope) for _ in range(2)]}
    assert (found[first.id].marked, found[repair.id].marked) == (False, True)
    assert found[first.id].items == first.items


async def test_what_found_no_room_in_time_is_left_to_the_reconciler(fragile: Bus, own_nats: NatsServer) -> None:
    publisher = Publisher(fragile, 0.5)
    with impatient(), frozen(own_nats):
        publisher.publish([handoff() for _ in range(200)])
        await until(lambda: not publisher._tasks)
    late = handoff()
    publisher.publish([late])
    async with tapped(fragile, STREAM, dispatch("bulk")) as tap:
        found = await tap.next(DispatchEnvelope)
        while found.handoff_id != late.id:
            found = await tap.next(DispatchEnvelope)
    assert (await fragile.stream_state(STREAM)).state.last_seq <= 64 + 1, "only what was on its way when time was up"


async def test_acceptance_waits_while_too_much_is_unpublished(fragile: Bus, own_nats: NatsServer) -> None:
    publisher = Publisher(fragile, 1.0)
    with impatient(), frozen(own_nats):
        publisher.publish([handoff() for _ in range(64)])
        await asyncio.sleep(0)
        for lanes in (("bulk",), ()):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(publisher.room(*lanes), 0.1)
        assert publisher.full() == ["bulk"]
        await asyncio.wait_for(publisher.room("critical"), 0.1)
        await asyncio.wait_for(publisher.room(), 5)
