"""What a dead process held is given back by the next one on its machine, and never what may be another's."""

import asyncio
import contextlib
import errno
import fcntl
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest

from libs import holds
from libs.bus import Bus
from libs.config import Nats
from tests.contract.reader_harness import DURABLE, STREAM, Reader, envelope, give
from tests.contract.streams_harness import ACK_WAIT, connected, consumer_of, drained, until
from tests.servers import NatsServer


@pytest.fixture
def noted(nats_settings: Nats, tmp_path: Path) -> Nats:
    return msgspec.structs.replace(nats_settings, holds=str(tmp_path / "holds"))


def notes(settings: Nats) -> list[Path]:
    return sorted(Path(settings.holds).iterdir())


@contextlib.asynccontextmanager
async def holding(bus: Bus, *names: str, again: bool = False) -> AsyncIterator[Reader]:
    """A reader that has an envelope of each name in hand, and does not let go before it dies."""
    reader = Reader(bus)
    for name in names:
        reader.waits(name)
        if not again:
            await give(bus, envelope(name))
    task = asyncio.create_task(reader.consumer.run())
    await until(lambda: len(reader.handled) == len(names))
    yield reader
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def full(*_: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


async def dies(bus: Bus) -> None:
    """As the kernel does it: the notes stay, their lock and the connection go."""
    descriptor, bus.holds._file = bus.holds._file, None
    assert descriptor is not None
    os.close(descriptor)
    await bus.client.close()


async def forgotten(bus: Bus) -> None:
    """Until the server knows that the dead ask for nothing more; what is given back might go to them before."""

    async def nobody_asks() -> bool:
        return not (await consumer_of(bus, STREAM, DURABLE)).num_waiting

    await until(nobody_asks)


async def test_what_a_dead_process_held_goes_to_the_next_one_at_once(noted: Nats) -> None:
    async with connected(noted, "first") as first, connected(noted, "second") as second:
        async with holding(first, "a", "b"):
            pass
        await dies(first)
        await forgotten(second)
        assert await second.holds.give_back() == 2
        reader = Reader(second)
        task = asyncio.create_task(reader.consumer.run())
        await until(lambda: sorted(reader.finished) == ["a", "b"], seconds=noted.ack_wait / 3)
        assert reader.deliveries_of("a") == [2]
        assert all(held.suspect for _, held in reader.handled)
        await drained(second, STREAM)
        await reader.consumer.stop()
        await task


async def test_what_the_living_hold_stays_theirs(noted: Nats) -> None:
    async with connected(noted, "first") as first, connected(noted, "second") as second, holding(first, "a"):
        assert await second.holds.give_back() == 0
        assert len(notes(noted)) == 2


async def test_it_is_given_back_once_however_many_start(noted: Nats) -> None:
    async with contextlib.AsyncExitStack() as stack:
        first, *others = [await stack.enter_async_context(connected(noted, f"{n}")) for n in range(5)]
        async with holding(first, "a"):
            pass
        await dies(first)
        assert sum(await asyncio.gather(*(each.holds.give_back() for each in others))) == 1


async def test_what_another_may_have_been_given_meanwhile_is_left_alone(noted: Nats) -> None:
    hasty = msgspec.structs.replace(noted, ack_wait=ACK_WAIT)
    async with connected(hasty, "first") as first, connected(hasty, "second") as second:
        async with holding(first, "a"):
            pass
        await dies(first)
        await asyncio.sleep(ACK_WAIT)
        assert await second.holds.give_back() == 0
        assert len(notes(noted)) == 1  # its own


async def test_a_lease_that_was_prolonged_counts(noted: Nats) -> None:
    hasty = msgspec.structs.replace(noted, ack_wait=ACK_WAIT)
    async with connected(hasty, "first") as first, connected(hasty, "second") as second:
        async with holding(first, "a"):
            await asyncio.sleep(1.5 * ACK_WAIT)
        await dies(first)
        assert await second.holds.give_back() == 1


async def test_what_was_finished_or_given_back_is_not_given_back_again(noted: Nats) -> None:
    async with connected(noted, "first") as first, connected(noted, "second") as second:
        async with holding(first, "done", "released") as reader:
            await reader.held("done").ack()
            await reader.held("released").release(60)
            await reader.held("released").beat()  # that was under way
        await dies(first)
        assert await second.holds.give_back() == 0


async def test_a_server_that_started_anew_may_have_forgotten_whose_it_was(own_nats: NatsServer, tmp_path: Path) -> None:
    settings = Nats(url=own_nats.url, max_stream_bytes=256 * 1024**2, holds=str(tmp_path))
    async with connected(settings, "first") as first:
        async with holding(first, "a"):
            pass
        await dies(first)
        await asyncio.to_thread(own_nats.end)
        await asyncio.to_thread(own_nats.run)
        async with connected(settings, "second") as second:
            assert await second.holds.give_back() == 0


async def test_notes_are_written_anew_when_they_get_long(noted: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holds, "_MOST_BYTES", 4_000)
    async with connected(noted, "first") as first, connected(noted, "second") as second:
        async with holding(first, "kept"):
            for n in range(500):
                first.holds.note(f"reply.{n}", 10)
                first.holds.forget(f"reply.{n}")
            assert all(path.stat().st_size < 8_000 for path in notes(noted))
        await dies(first)
        assert await second.holds.give_back() == 1


async def test_a_line_that_was_being_written_does_not_count(noted: Nats) -> None:
    async with connected(noted, "first") as first, connected(noted, "second") as second:
        async with holding(first, "a"):
            pass
        assert first.holds._file is not None
        os.write(first.holds._file, b"+ 99999999999.0 $JS.ACK.half")
        await dies(first)
        assert await second.holds.give_back() == 1


async def test_what_was_given_to_several_already_takes_its_time(noted: Nats) -> None:
    """What kills one process after another shall not be buried, with its neighbours, within seconds."""
    async with connected(noted, "first") as first, connected(noted, "second") as second:
        async with holding(first, "a"):
            pass
        await dies(first)
        await forgotten(second)
        assert await second.holds.give_back() == 1
        async with holding(second, "a", again=True):
            pass
        await dies(second)
        async with connected(noted, "third") as third:
            assert await third.holds.give_back() == 0


@pytest.mark.parametrize("notes_of", [b"+ 12", b"\xff\xfe", b"= a b\n+ x y\n", b"+ 12+ 3 $JS.ACK.a+ 4 $JS.ACK.b\n"])
async def test_notes_that_are_none_of_ours_stop_nobody(noted: Nats, notes_of: bytes) -> None:
    async with connected(noted, "first") as first:
        (Path(noted.holds) / "strange.held").write_bytes(notes_of)
        assert await first.holds.give_back() == 0
        assert len(notes(noted)) == 1


async def test_notes_of_who_died_before_the_first_of_them_are_removed(noted: Nats) -> None:
    async with connected(noted, "first") as first:
        (Path(noted.holds) / "dead.new").touch()
        assert await first.holds.give_back() == 0
        assert [path.suffix for path in notes(noted)] == [".held"]


async def test_notes_of_who_is_about_to_begin_stay(noted: Nats) -> None:
    async with connected(noted, "first") as first:
        beginning = Path(noted.holds) / "alive.new"
        with beginning.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            await first.holds.give_back()
            assert beginning in notes(noted)
        await first.holds.give_back()
        assert beginning not in notes(noted)


@contextlib.contextmanager
def taken_for_dead(other: Bus, directory: str, times: int) -> Iterator[None]:
    """Whoever begins, by `other`: between the making of its notes and their lock."""
    left, lock = times, fcntl.flock

    def late(file: int, how: int) -> None:
        nonlocal left
        if how == fcntl.LOCK_EX and left:
            left -= 1
            for path in Path(directory).glob("*.new"):
                holds._take_over(path, other.holds._lives())
        lock(file, how)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(fcntl, "flock", late)
        yield


async def test_who_is_taken_for_dead_before_it_began_begins_anew(noted: Nats) -> None:
    async with connected(noted, "first") as first:
        with taken_for_dead(first, noted.holds, 1):
            second = await Bus.connect(noted, "second")
        async with holding(second, "a"):
            assert len(notes(noted)) == 2
        await dies(second)
        await forgotten(first)
        assert await first.holds.give_back() == 1


async def test_who_cannot_begin_goes_on_without_notes(noted: Nats) -> None:
    async with connected(noted, "first") as first:
        with taken_for_dead(first, noted.holds, 1_000):
            async with connected(noted, "second") as second, holding(second, "a"):
                assert len(notes(noted)) == 1


async def test_a_full_disk_leaves_no_wrong_notes(noted: Nats, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(noted, "first") as first, connected(noted, "second") as second:
        async with holding(first, "a") as reader:
            with monkeypatch.context() as patched:
                patched.setattr(os, "write", full)
                await reader.held("a").release(60)
        await dies(first)
        assert await second.holds.give_back() == 0


async def test_a_directory_that_cannot_be_used_stops_nobody(nats_settings: Nats, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    async with connected(msgspec.structs.replace(nats_settings, holds=str(tmp_path / "file")), "first") as first:
        assert await first.holds.give_back() == 0


async def test_whoever_leaves_in_order_leaves_no_notes(noted: Nats) -> None:
    async with connected(noted, "first"):
        assert len(notes(noted)) == 1
    assert notes(noted) == []


async def test_without_a_directory_nothing_is_noted(nats_settings: Nats) -> None:
    async with connected(nats_settings, "first") as first, holding(first, "a"):
        assert await first.holds.give_back() == 0
