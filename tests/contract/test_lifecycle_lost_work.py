"""What could get lost, or be given up for no reason: NATS refuses, facts come twice, hand-offs are held up by few."""

import asyncio
import time
from datetime import timedelta
from functools import partial

from nats.js.api import StreamConfig

from libs.bus import Bus
from libs.envelope import DispatchEnvelope, Outcome
from libs.ids import new_id
from libs.pg import Pool
from libs.subjects import dispatch, stream_of
from services.lifecycle import queries_window
from services.lifecycle.expiry import Expiry
from services.lifecycle.handoff import Publisher
from services.lifecycle.reconcile import MAX_REPAIRS, Reconciler, not_counted
from services.lifecycle.record import Facts, Recorder
from tests.contract.aged_log import APPLICATION, AgedLog, now
from tests.contract.streams_harness import impatient, tapped, until

pytest_plugins = ["tests.contract.lifecycle_fixtures"]

DAY = timedelta(days=1)
DISPATCH = stream_of("DISPATCH", "normal")


async def handed_off(log: AgedLog, count: int = 3, *, published: bool = True) -> tuple[str, list[str]]:
    handoff_id = new_id()
    ids = [await log.message(handoff_id=handoff_id) for _ in range(count)]
    await log.handoff(handoff_id, ids, now() + DAY, published=published)
    return handoff_id, ids


async def statuses(log: AgedLog, ids: list[str]) -> set[str]:
    return {await log.status(i) for i in ids}


# NATS refuses ---------------------------------------------------------------------------------------------------------


async def accepts(bus: Bus, largest: int) -> None:
    """The stream takes messages of so many bytes; -1: of any size."""
    config: StreamConfig = (await bus.stream_state(DISPATCH)).config
    config.max_msg_size = largest
    await bus.js.update_stream(config)


async def test_while_nats_refuses_what_it_is_given_no_message_is_given_up(bus: Bus, log: AgedLog, pool: Pool) -> None:
    """As it does on a full disk: it answers questions, and stores nothing."""
    _, ids = await handed_off(log)
    publisher = Publisher(bus, 0.3, partial(not_counted, pool))
    reconciler = Reconciler(pool, bus, publisher, "normal", 0)
    await accepts(bus, 1)
    with impatient():
        for _ in range(MAX_REPAIRS + 2):
            await reconciler.round()
            await until(lambda: not publisher._tasks)
    assert await statuses(log, ids) == {"pending"}
    await accepts(bus, -1)
    async with tapped(bus, DISPATCH, dispatch("normal")) as tap:
        async with asyncio.timeout(10):
            await reconciler.round()
            envelope = await tap.next(DispatchEnvelope)
    assert envelope.marked
    assert {item.message_id for item in envelope.items} == set(ids)


async def test_what_is_lost_again_and_again_is_given_up_in_one_step(bus: Bus, log: AgedLog, pool: Pool) -> None:
    """However many they are: nobody reads the log while a transaction is open."""
    handoff_id, ids = await handed_off(log, 200)
    await log.owner(f"UPDATE lifecycle.handoffs SET repairs = {MAX_REPAIRS}")
    began = time.perf_counter()
    with impatient():
        await Reconciler(pool, bus, Publisher(bus, 1), "normal", 0).round()
    assert time.perf_counter() - began < 2
    assert await statuses(log, ids) == {"failed"}
    assert await log.fetchval("SELECT count(*) FROM lifecycle.handoffs WHERE id = $1", handoff_id) == 0
    (event,) = await log.events(ids[0], "failed")
    assert (event["reason"], event["key"], event["data"]) == ("dead_letter", "lost", {"repairs": MAX_REPAIRS})


# facts that come twice ------------------------------------------------------------------------------------------------


async def test_a_failure_that_is_told_twice_ends_nothing_that_is_to_be_tried_again(log: AgedLog, pool: Pool) -> None:
    """The second time the jitter would put the next attempt behind the deadline."""
    message_id = await log.message(ttl=timedelta(seconds=33))
    spreads = iter((-1.0, 1.0))
    recorder = Recorder(pool, 1, 1.0, spread=lambda: next(spreads))
    fact = Facts(APPLICATION, [Outcome(message_id, "errored", 1, "call", 0, "Reset", "network")])
    for _ in range(2):
        await recorder.record("normal", fact)
    assert await log.status(message_id) == "errored"
    assert await log.fetchval("SELECT reason FROM lifecycle.due WHERE message_id = $1", message_id) == "retry:network"
    assert await log.events(message_id, "expired") == []


# hand-offs ------------------------------------------------------------------------------------------------------------


async def test_hand_offs_of_which_nothing_is_left_do_not_take_the_room_of_others(log: AgedLog, pool: Pool) -> None:
    """A campaign that waited until it expired: what comes after it is not published in turns behind empty envelopes."""
    _, ids = await handed_off(log, published=False)
    await log.owner("UPDATE lifecycle.messages SET created_at = now() - interval '2 days'")
    await log.owner("UPDATE lifecycle.handoffs SET expires_at = now() - interval '1 day'")
    await Expiry(pool).round()
    assert await statuses(log, ids) == {"failed"}
    async with pool.transaction() as c:
        new = queries_window.NewHandoff(new_id(), APPLICATION, "normal", [new_id()], 0, 2**42)
        assert await queries_window.insert_handoffs(c, [new], 4_000) == {new.id}
