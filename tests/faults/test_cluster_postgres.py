"""The primary is lost with everything under way: the standby has all that was answered, and services find it (R1)."""

import time
from collections.abc import Iterator

import aiohttp
import pytest

from tests.faults import evidence
from tests.faults.cluster import ClusterSystem, Layout
from tests.faults.conftest import run_story
from tests.faults.load import Flow
from tests.faults.pauses import longest_pause, longest_refusal
from tests.faults.plan import Shape
from tests.faults.postgres_pair import promotion
from tests.faults.probe import ask
from tests.faults.story import Story
from tests.faults.system import until

pytestmark = pytest.mark.faults

SECONDS = 20.0
EPOCHS = "SELECT array_agg(DISTINCT epoch ORDER BY epoch) AS found FROM lifecycle.message_events"


@pytest.fixture(scope="module")
def system() -> ClusterSystem:
    return ClusterSystem(Layout(standby=True, replicas={"lifecycle": 2}))


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest, system: ClusterSystem) -> Iterator[Story]:
    yield from run_story(request, system, int(request.config.getoption("--messages")))


async def test_a_lost_primary_loses_nothing_that_was_answered(story: Story, system: ClusterSystem) -> None:
    primary, standby = system.databases
    began = time.time()
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.3)
        await flow.volley()
        story.kills += 1
        system.kill_for_good(primary.name)
        lost_at = time.time()
        for _ in range(5):
            answer = await ask(flow)
            assert (answer.status, answer.retry_after) == (503, "1")
            assert answer.seconds < 1.0
            story.notes["slowest_503_seconds"] = max(answer.seconds, story.notes.get("slowest_503_seconds", 0.0))
        promoted_at = time.time()
        await standby.execute(*promotion())
        story.notes["promotion_seconds"] = time.time() - promoted_at
        await until(lambda: _accepted(flow), "messages are accepted again", 20)
        story.notes["accepted_after_promotion_seconds"] = time.time() - promoted_at
        story.notes["accepted_after_loss_seconds"] = time.time() - lost_at
    now = time.time()
    story.notes["longest_pause_seconds"] = longest_pause(await evidence.calls(system), began, now)
    story.notes["longest_refusal_seconds"] = longest_refusal(story.client, began, now)
    await story.check("cluster-postgres-failover")
    [row] = await system.fetch(EPOCHS)
    assert row["found"] == [1, 2]


async def _accepted(flow: Flow) -> bool:
    return (await ask(flow)).status == 201
