"""A responder that stops answers all it was given; whoever asks then gets another, or hears at once that there is none.

Real NATS, constant calls, twenty restarts.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from libs import bus as libs_bus
from libs.bus import Bus
from libs.config import Nats
from libs.errors import ServiceUnavailable
from tests.contract.streams_harness import until

RESTARTS = 20
VERBS = [f"say{number}" for number in range(8)]
CALLERS = 64
QUICK = 2.0
"""Seconds, on a busy machine; a request that was dropped is waited for 5."""


class Question(msgspec.Struct):
    number: int


class Callers:
    """They ask again as soon as they were answered."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.answered = 0
        self.refused = 0
        self.slowest = 0.0
        self.wrong: list[int] = []
        self.enough = False

    async def ask(self, number: int) -> None:
        while not self.enough:
            number += CALLERS + 1
            started = time.monotonic()
            try:
                answer = await self._bus.call("echo", VERBS[number % len(VERBS)], Question(number), Question)
            except ServiceUnavailable:
                self.refused += 1
                await asyncio.sleep(0.002)
            else:
                self.answered += 1
                self.wrong += [number] if answer.number != number else []
            self.slowest = max(self.slowest, time.monotonic() - started)

    async def progress(self, answers: int) -> None:
        wanted = self.answered + answers
        await until(lambda: self.answered >= wanted)


@contextlib.asynccontextmanager
async def responder(settings: Nats) -> AsyncIterator[None]:
    """A moment of work and a moment of waiting for each answer, as in a service with a database that is busy: some
    requests have arrived when it is told to stop, and nobody has looked at them yet."""

    async def say(question: Question) -> Question:
        time.sleep(0.0003)  # noqa: ASYNC251 - work, not waiting
        await asyncio.sleep(0.003)
        return question

    bus = await Bus.connect(settings, "responder")
    await bus.serve("echo", dict.fromkeys(VERBS, (Question, say)))
    try:
        yield
    finally:
        await bus.close()


@contextlib.asynccontextmanager
async def calling(settings: Nats) -> AsyncIterator[Callers]:
    bus = await Bus.connect(settings, "callers")
    callers = Callers(bus)
    tasks = [asyncio.create_task(callers.ask(number)) for number in range(CALLERS)]
    try:
        yield callers
    finally:
        callers.enough = True
        await asyncio.gather(*tasks)
        await bus.close()


async def test_while_another_replica_lives_no_call_fails(nats_settings: Nats) -> None:
    async with responder(nats_settings), calling(nats_settings) as callers:
        for _ in range(RESTARTS):
            async with responder(nats_settings):
                await callers.progress(100)
        await callers.progress(100)
    assert (callers.refused, callers.wrong) == (0, [])
    assert callers.slowest < QUICK


async def test_while_none_lives_callers_hear_it_at_once(nats_settings: Nats) -> None:
    async with calling(nats_settings) as callers:
        for _ in range(RESTARTS):
            refused = callers.refused
            async with responder(nats_settings):
                await callers.progress(100)
            await until(lambda before=refused: callers.refused > before)
    assert callers.wrong == []
    assert callers.slowest < QUICK


async def test_a_handler_that_hangs_delays_the_end_by_the_bound(
    nats_settings: Nats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libs_bus, "LEAVE_SECONDS", 0.2)
    asked = asyncio.Event()

    async def hang(question: Question) -> Question:
        asked.set()
        await asyncio.Event().wait()
        return question

    bus, caller = await Bus.connect(nats_settings, "hangs"), await Bus.connect(nats_settings, "caller")
    await bus.serve("echo", {"say": (Question, hang)})
    call = asyncio.create_task(caller.call("echo", "say", Question(1), Question, timeout=1.0))
    await asked.wait()
    async with asyncio.timeout(QUICK):
        await bus.close()
    with pytest.raises(ServiceUnavailable):
        await call
    await caller.close()


async def test_leaving_twice_is_leaving_once(nats_settings: Nats) -> None:
    async with responder(nats_settings):
        bus = await Bus.connect(nats_settings, "twice")
        await bus.serve("other", {})
        await bus.leave()
        await bus.leave()
        await bus.close()
