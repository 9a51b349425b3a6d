"""The primary is lost with everything under way: the standby has all that was answered, and services find it (R1)."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.faults import evidence
from tests.faults.cluster import ClusterSystem, Layout
from tests.faults.conftest import run_story
from tests.faults.load import Flow
from tests.faults.pauses import longest_pause, longest_refusal
from tests.faults.plan import Shape
from tests.faults.postgres_pair import Server, promotion
from tests.faults.story import Story

pytestmark = pytest.mark.faults

SECONDS = 20.0
ALONE_SECONDS = 30.0
"""Longer than a service waits for a statement (15 s): what is then given up is committed all the same."""
LAST_EPOCH = "SELECT max(epoch) AS epoch FROM lifecycle.message_events"


@pytest.fixture(scope="module")
def system() -> ClusterSystem:
    return ClusterSystem(Layout(standby=True, replicas={"lifecycle": 2}))


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest, system: ClusterSystem) -> Iterator[Story]:
    yield from run_story(request, system, int(request.config.getoption("--messages")))


async def test_a_killed_primary_loses_nothing_that_was_answered(story: Story, system: ClusterSystem) -> None:
    primary, standby = await system.roles()
    began = time.time()
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.3)
        await flow.volley()
        epoch = await _epoch(system)
        story.kills += 1
        system.kill_for_good(primary.name)
        for _ in range(5):
            answer = await flow.probe()
            assert (answer.answer, answer.retry_after) == ("503", "1")
            assert answer.seconds < 1.0
            story.notes["slowest_503_seconds"] = max(answer.seconds, story.notes.get("slowest_503_seconds", 0.0))
        await _promote(story, flow, standby)
    await _end(story, system, "cluster-postgres-killed", began, epoch)
    await system.rejoin(primary, standby)


async def test_a_primary_that_falls_silent_loses_nothing_that_was_answered(story: Story, system: ClusterSystem) -> None:
    """Its machine has no power: connections stay open, and nobody answers."""
    primary, standby = await system.roles()
    began = time.time()
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.3)
        epoch = await _epoch(system)
        story.kills += 1
        system.freeze(primary.name)
        await _promote(story, flow, standby)
    await _end(story, system, "cluster-postgres-silent", began, epoch)
    await system.rejoin(primary, standby)


async def test_nothing_is_accepted_that_no_standby_has(story: Story, system: ClusterSystem) -> None:
    """Not when it is repeated either: the first try may have been committed on the primary alone."""
    _, standby = await system.roles()
    async with story.flow() as flow:
        pass
    await system.stop(standby.name)
    sent = asyncio.create_task(flow.until_accepted())
    await asyncio.wait({sent}, timeout=ALONE_SECONDS)
    assert not sent.done()
    await system.start(standby.name)
    story.notes["accepted_after_seconds"] = await sent
    await story.check("cluster-postgres-alone")


async def _promote(story: Story, flow: Flow, standby: Server) -> None:
    began = time.time()
    await standby.execute(*promotion())
    story.notes["promotion_seconds"] = time.time() - began
    story.notes["accepted_after_seconds"] = story.notes["promotion_seconds"] + await flow.until_accepted()


async def _end(story: Story, system: ClusterSystem, fault: str, began: float, epoch: int) -> None:
    now = time.time()
    story.notes["longest_pause_seconds"] = longest_pause(await evidence.calls(system), began, now)
    story.notes["longest_refusal_seconds"] = longest_refusal(story.client, began, now)
    await story.check(fault)
    assert await _epoch(system) == epoch + 1


async def _epoch(system: ClusterSystem) -> int:
    [row] = await system.fetch(LAST_EPOCH)
    return int(row["epoch"])
