"""Many single calls become one batch: when it goes, how large it is, and whose an error is."""

import asyncio
from collections.abc import Sequence

import pytest

from libs.coalesce import Coalescer
from libs.errors import ServiceUnavailable


class Recorder:
    """Batches it was given; each waits until `release` lets it through."""

    def __init__(self, *, open_: bool = True) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        if open_:
            self.gate.set()

    async def handle(self, items: list[int]) -> Sequence[int | Exception]:
        self.batches.append(items)
        await self.gate.wait()
        return [ValueError(item) if item < 0 else item * 10 for item in items]


def submit(coalescer: Coalescer[int, int], *items: int) -> list[asyncio.Task[int]]:
    return [asyncio.create_task(coalescer.submit(item)) for item in items]


async def turn() -> None:
    """Let everything that is ready run."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_idle_system_adds_no_delay() -> None:
    recorder = Recorder()
    coalescer = Coalescer[int, int](recorder.handle, max_wait=3600)
    assert await coalescer.submit(1) == 10
    assert await coalescer.submit(2) == 20
    assert recorder.batches == [[1], [2]]


async def test_what_comes_in_one_turn_goes_together() -> None:
    recorder = Recorder()
    coalescer = Coalescer[int, int](recorder.handle, max_wait=3600)
    assert await asyncio.gather(*submit(coalescer, 1, 2, 3)) == [10, 20, 30]
    assert recorder.batches == [[1, 2, 3]]


async def test_what_comes_while_a_batch_is_under_way_goes_together_after_it() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, 3, 4)
    await turn()
    assert recorder.batches == [[1]]
    recorder.gate.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30, 40]
    assert recorder.batches == [[1], [2, 3, 4]]


async def test_a_second_batch_goes_beside_the_first_once_it_gathered_long_enough() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle, concurrency=2, max_wait=0.001)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, 3)
    while len(recorder.batches) < 2:
        await asyncio.sleep(0.001)
    assert recorder.batches == [[1], [2, 3]]
    tasks += submit(coalescer, 4)
    await turn()
    assert len(recorder.batches) == 2
    recorder.gate.set()
    await asyncio.gather(*tasks)
    assert recorder.batches == [[1], [2, 3], [4]]


async def test_a_full_batch_goes_without_waiting() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle, concurrency=2, max_items=3, max_wait=3600)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, 3, 4)
    await turn()
    assert recorder.batches == [[1], [2, 3, 4]]
    recorder.gate.set()
    await asyncio.gather(*tasks)


async def test_a_batch_closes_before_the_item_that_would_overfill_it_and_never_splits_one() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle, max_items=10, weight=lambda item: item)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 4, 5, 2, 30, 3)
    await turn()
    recorder.gate.set()
    await asyncio.gather(*tasks)
    assert recorder.batches == [[1], [4, 5], [2], [30], [3]]


async def test_one_items_error_is_its_own() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, -3, 4)
    await turn()
    recorder.gate.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [results[0], results[1], results[3]] == [10, 20, 40]
    assert isinstance(results[2], ValueError)


async def test_a_failing_batch_fails_all_its_items_and_nothing_else() -> None:
    async def handle(items: list[int]) -> Sequence[int | Exception]:
        if 2 in items:
            raise ServiceUnavailable(service="postgres")
        return items

    coalescer = Coalescer[int, int](handle)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, 3)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[0] == 1
    assert [type(result) for result in results[1:]] == [ServiceUnavailable, ServiceUnavailable]
    assert await coalescer.submit(4) == 4


async def test_too_much_waiting_is_refused_at_once() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle, max_pending=2)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, 3)
    await turn()
    with pytest.raises(ServiceUnavailable):
        await coalescer.submit(4)
    recorder.gate.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30]
    assert await coalescer.submit(5) == 50


async def test_a_caller_who_gave_up_takes_nothing_from_the_others() -> None:
    recorder = Recorder(open_=False)
    coalescer = Coalescer[int, int](recorder.handle)
    tasks = submit(coalescer, 1)
    await turn()
    tasks += submit(coalescer, 2, 3)
    await turn()
    tasks[0].cancel()
    tasks[1].cancel()
    await turn()
    recorder.gate.set()
    assert await tasks[2] == 30
    assert recorder.batches[0] == [1]
