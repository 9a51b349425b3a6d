"""How a process ends: what is in hand first, what it used afterwards, and all of it in bounded time."""

import asyncio

import pytest

from libs import service
from libs.service import Runtime


class Worker:
    """Ends some time after it was told to, or never."""

    def __init__(self, story: list[str], name: str, takes: float | None = 0.0) -> None:
        self._story = story
        self._name = name
        self._takes = takes
        self._told = asyncio.Event()

    async def run(self) -> None:
        await self._told.wait()
        await asyncio.sleep(3600 if self._takes is None else self._takes)
        self._story.append(f"{self._name} finished")

    async def stop(self) -> None:
        self._story.append(f"{self._name} told")
        self._told.set()


def closer(story: list[str], name: str, takes: float = 0.0) -> service.Closer:
    async def close() -> None:
        story.append(f"{name} closing")
        await asyncio.sleep(takes)
        story.append(f"{name} closed")

    return close


async def ended(runtime: Runtime) -> float:
    """Seconds that the end takes."""

    async def nothing() -> None:
        """Has started."""

    life = asyncio.create_task(runtime.run(nothing()))
    while not (await runtime.ready())["started"]:
        await asyncio.sleep(0)
    runtime.stopping.set()
    began = asyncio.get_running_loop().time()
    await life
    return asyncio.get_running_loop().time() - began


async def test_workers_are_told_together_and_end_before_what_they_use_is_closed() -> None:
    story: list[str] = []
    runtime = Runtime("test")
    runtime.on_stop(closer(story, "first"))
    runtime.serve(Worker(story, "slow", 0.02), "slow")
    runtime.on_stop(closer(story, "second"))
    runtime.serve(Worker(story, "quick"), "quick")
    await ended(runtime)
    assert story == [
        "slow told", "quick told", "quick finished", "slow finished",
        "second closing", "second closed", "first closing", "first closed",
    ]  # fmt: skip


async def test_a_worker_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DRAIN_SECONDS", 0.1)
    story: list[str] = []
    runtime = Runtime("test")
    runtime.on_stop(closer(story, "bus"))
    for name in ("one", "two", "three"):
        runtime.serve(Worker(story, name, None), name)
    assert await ended(runtime) < 2.0, "side by side, not one after the other"
    assert story == ["one told", "two told", "three told", "bus closing", "bus closed"]


async def test_closing_is_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "DRAIN_SECONDS", 0.1)
    monkeypatch.setattr(service, "CLOSE_SECONDS", 0.2)
    story: list[str] = []
    runtime = Runtime("test")
    for name in ("three", "two", "one"):
        runtime.on_stop(closer(story, name, 3600))
    assert await ended(runtime) < 30, "three times an hour otherwise"
    assert story == ["one closing", "two closing", "three closing"], "each has its chance"


async def test_a_task_that_swallows_its_cancellation_does_not_hold_up_the_end() -> None:
    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if released.is_set():
                    raise

    released = asyncio.Event()
    runtime = Runtime("test")
    task = runtime.spawn(stubborn(), "stubborn")
    assert await ended(runtime) < 3.0
    released.set()
    task.cancel()
    await asyncio.wait({task})


async def test_a_closer_that_fails_does_not_keep_the_others_from_closing() -> None:
    async def fail() -> None:
        raise OSError("gone")

    story: list[str] = []
    runtime = Runtime("test")
    runtime.on_stop(closer(story, "last"))
    runtime.on_stop(fail)
    await ended(runtime)
    assert story == ["last closing", "last closed"]
