"""Envelopes are held, acknowledged, given back, split and buried as R5, R7 and R11 say, on a real NATS."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import msgspec
import pytest

from libs import consume
from libs.bus import Bus, PublishFailed
from libs.config import Nats
from libs.errors import ServiceUnavailable
from libs.ids import new_id
from libs.subjects import DEAD
from tests.contract.reader_harness import DURABLE, STREAM, SUBJECT, Reader, envelope, give, reading
from tests.contract.streams_harness import (
    ACK_WAIT,
    connected,
    consumer_of,
    dead_letters,
    deliver_to_the_dying,
    drained,
    impatient,
    quick,
    stored,
    until,
)


@pytest.fixture
async def hasty(nats_settings: Nats) -> AsyncIterator[Bus]:
    async with connected(quick(nats_settings), "reader") as bus:
        yield bus


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    with impatient():
        yield


# holding --------------------------------------------------------------------------------------------------------------


async def test_an_envelope_is_acknowledged_after_its_handler_and_not_before(hasty: Bus) -> None:
    reader = Reader(hasty)
    gate = reader.waits("a")
    async with reading(reader):
        await give(hasty, envelope("a"))
        await until(lambda: bool(reader.handled))
        assert await stored(hasty, STREAM) == 1
        gate.set()
        await drained(hasty, STREAM)
    assert reader.finished == ["a"]


async def test_no_more_envelopes_are_taken_than_there_are_slots(hasty: Bus) -> None:
    reader = Reader(hasty, slots=2)
    gates = [reader.waits(name) for name in "abc"]
    async with reading(reader):
        await give(hasty, envelope("a"), envelope("b"), envelope("c"))
        await until(lambda: len(reader.handled) == 2)
        info = await consumer_of(hasty, STREAM, DURABLE)
        assert (info.num_ack_pending, info.num_pending) == (2, 1)
        for gate in gates:
            gate.set()
        await drained(hasty, STREAM)


async def test_an_envelope_in_hand_stays_ours_however_long_it_takes(hasty: Bus) -> None:
    reader = Reader(hasty)
    gate = reader.waits("a")
    loop = asyncio.get_running_loop()
    async with reading(reader):
        await give(hasty, envelope("a"))
        await until(lambda: bool(reader.handled))
        end = loop.time() + 2 * ACK_WAIT
        await until(lambda: loop.time() > end)
        assert reader.held("a").is_mine()
        gate.set()
        await drained(hasty, STREAM)
    assert reader.deliveries_of("a") == [1]


@pytest.mark.parametrize("error", [ServiceUnavailable(service="postgres"), PublishFailed("TimeoutError")])
async def test_a_dependency_that_is_away_is_waited_for_without_another_delivery(hasty: Bus, error: Exception) -> None:
    reader = Reader(hasty)
    reader.fails("a", error)
    async with reading(reader):
        await give(hasty, envelope("a"))
        await until(lambda: len(reader.handled) >= 3)
        assert await stored(hasty, STREAM) == 1
        del reader.scripts["a"]
        await drained(hasty, STREAM)
    assert set(reader.deliveries_of("a")) == {1}
    assert reader.finished == ["a"]


async def test_an_envelope_without_messages_is_done(hasty: Bus) -> None:
    reader = Reader(hasty)
    async with reading(reader):
        await give(hasty, envelope())
        await until(lambda: bool(reader.handled))
        await drained(hasty, STREAM)


# suspicion ------------------------------------------------------------------------------------------------------------


async def test_what_was_stored_before_we_came_may_have_been_worked_on(hasty: Bus) -> None:
    await give(hasty, envelope("before"))
    reader = Reader(hasty, slots=1)
    async with reading(reader):
        await until(lambda: "before" in reader.finished)
        await give(hasty, envelope("after"))
        await until(lambda: "after" in reader.finished)
    assert reader.held("before").suspect
    assert not reader.held("after").suspect


async def test_a_second_delivery_is_suspect(hasty: Bus) -> None:
    reader = Reader(hasty, slots=1)
    async with reading(reader):
        await give(hasty, envelope("first"))
        await until(lambda: "first" in reader.finished)
        reader.fails("a", ValueError())
        await give(hasty, envelope("a"))
        await until(lambda: len(reader.deliveries_of("a")) == 2)
    assert [held.suspect for found, held in reader.handled if found == ["a"]][:2] == [False, True]


# failing --------------------------------------------------------------------------------------------------------------


async def test_a_message_that_defeats_its_handler_is_buried_and_its_siblings_flow(hasty: Bus) -> None:
    reader = Reader(hasty)
    reader.fails("bad", ValueError("cannot"))
    async with reading(reader):
        await give(hasty, envelope("a", "bad", "b"))
        await drained(hasty, STREAM)
    assert reader.deliveries_of("a", "bad", "b") == [1, 2]
    assert sorted(reader.finished) == ["a", "b"]
    assert reader.marked == {"a", "bad", "b"}, "single copies are asked about before they are sent"
    assert reader.buried == ["bad"]
    (note,) = await dead_letters(hasty)
    assert (note.reason, note.message_id, note.deliveries) == ("dead_letter", "bad", 3)


async def test_a_message_whose_holders_were_killed_is_still_tried(hasty: Bus) -> None:
    await give(hasty, envelope("a"))
    await deliver_to_the_dying(hasty, STREAM, SUBJECT, DURABLE, consume.GIVE_UP_AT - 2)
    reader = Reader(hasty)
    async with reading(reader):
        await drained(hasty, STREAM)
    assert (reader.finished, reader.buried) == (["a"], [])


async def test_a_message_that_kills_whoever_takes_it_is_buried_untried(hasty: Bus) -> None:
    await give(hasty, envelope("killer"))
    await deliver_to_the_dying(hasty, STREAM, SUBJECT, DURABLE, consume.GIVE_UP_AT - 1)
    reader = Reader(hasty)
    async with reading(reader):
        await drained(hasty, STREAM)
    assert (reader.handled, reader.buried) == ([], ["killer"])


@pytest.mark.parametrize("error", [ServiceUnavailable(), PublishFailed("TimeoutError")])
async def test_a_burial_waits_for_its_dependency(hasty: Bus, error: Exception) -> None:
    reader = Reader(hasty)
    reader.fails("bad", ValueError())
    reader.burial = error
    async with reading(reader):
        await give(hasty, envelope("bad"))
        await until(lambda: len(reader.buried) >= 2)
        assert await stored(hasty, STREAM) == 1
        reader.burial = None
        await drained(hasty, STREAM)
    assert len(await dead_letters(hasty)) == 1


async def test_what_cannot_even_be_buried_ends_in_dead(hasty: Bus) -> None:
    reader = Reader(hasty)
    reader.fails("bad", ValueError())
    reader.burial = TypeError("no such message")
    async with reading(reader):
        await give(hasty, envelope("bad"), envelope("good"))
        await drained(hasty, STREAM)
    assert (reader.finished, reader.buried) == (["good"], ["bad"])
    assert [note.message_id for note in await dead_letters(hasty)] == ["bad"]


async def test_a_cancellation_that_leaks_out_of_a_handler_is_a_failure(hasty: Bus) -> None:
    reader = Reader(hasty, slots=1)
    reader.fails("bad", asyncio.CancelledError())
    async with reading(reader):
        await give(hasty, envelope("bad"), envelope("good"))
        await drained(hasty, STREAM)
    assert (reader.finished, reader.buried) == (["good"], ["bad"])


DEEP = b"\x82\xa1v\xa8dispatch\xa1x" + b"\x91" * 200_000 + b"\xc0"
"""Lists in lists in an unknown field."""


@pytest.mark.parametrize("payload", [b"\xc1 no msgpack begins so", b"", msgspec.msgpack.encode({"v": "send"}), DEEP])
async def test_bytes_that_are_no_envelope_are_set_aside_and_siblings_flow(hasty: Bus, payload: bytes) -> None:
    reader = Reader(hasty, slots=1)
    async with reading(reader):
        await hasty.publish(SUBJECT, payload, msg_id=new_id())
        await give(hasty, envelope("good"))
        await drained(hasty, STREAM)
    assert reader.finished == ["good"]
    (note,) = await dead_letters(hasty)
    assert (note.reason, note.stream, note.bytes, note.message_id) == ("undecodable", STREAM, len(payload), None)


async def test_garbage_while_dead_is_gone_stops_nobody(hasty: Bus) -> None:
    reader = Reader(hasty, slots=1)
    await hasty.js.delete_stream(DEAD)
    async with reading(reader) as task:
        await hasty.publish(SUBJECT, b"\xc1", msg_id=new_id())
        await drained(hasty, STREAM)
        assert not task.done()
    assert len(await dead_letters(hasty)) == 1


async def test_garbage_while_dead_refuses_it_waits(hasty: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = 0
    publish = hasty.publish

    async def refuse(subject: str, payload: bytes, *, msg_id: str) -> None:
        nonlocal refusals
        if refusals < 2:
            refusals += 1
            raise PublishFailed("APIError")
        await publish(subject, payload, msg_id=msg_id)

    reader = Reader(hasty, slots=1)
    await give(hasty, envelope("good"))
    await hasty.publish(SUBJECT, b"\xc1", msg_id=new_id())
    monkeypatch.setattr(hasty, "publish", refuse)
    async with reading(reader) as task:
        await drained(hasty, STREAM)
        assert not task.done()
    assert refusals == 2
    assert len(await dead_letters(hasty)) == 1
