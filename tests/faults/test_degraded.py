"""A server is down for a while: refusals come at once, what is in hand is finished, what was accepted arrives."""

import time

import pytest

from libs.subjects import stream_of
from tests.faults import evidence
from tests.faults.load import Flow
from tests.faults.plan import Shape
from tests.faults.story import Story, hold
from tests.faults.system import System

pytestmark = pytest.mark.faults

SECONDS = 16.0
DOWN_SECONDS = 8.0
"""Longer than the gateway remembers a key (4 s)."""
AT_ONCE = 1.0
# Less than what counts as a provider that hangs: those messages would wait in `due`.
SLOW = [{"provider": provider, "latency_ms": 700} for provider in ("apns", "fcm")]


async def test_while_postgres_is_down_senders_finish_and_outcomes_wait(story: Story) -> None:
    system = story.system
    await evidence.put_faults(system, SLOW)
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.3)
        await system.stop("postgres")
        sent = await evidence.sandbox_count(system, "accepted")
        await _refused_at_once(story, flow)
        assert await evidence.sandbox_count(system, "accepted") > sent
        assert await _outcomes(system) > 0
        await system.start("postgres")
        story.notes["accepted_after_seconds"] = await flow.until_accepted()
    await evidence.put_faults(system, [])
    await story.check("postgres-down")


async def test_while_nats_is_down_what_was_accepted_waits(story: Story) -> None:
    system = story.system
    await evidence.put_faults(system, SLOW)
    story.kills += 1  # deliveries stored before a restart are suspect, and asked about
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.3)
        await system.stop("nats")
        left = await evidence.left(system)
        assert left.unfinished > 0
        await _refused_at_once(story, flow)
        await system.start("nats")
        story.notes["accepted_after_seconds"] = await flow.until_accepted()
    await evidence.put_faults(system, [])
    await story.check("nats-down")


async def _refused_at_once(story: Story, flow: Flow) -> None:
    slowest = 0.0
    until_then = time.monotonic() + DOWN_SECONDS
    while time.monotonic() < until_then:
        await hold(0.1)
        answer = await flow.probe()
        assert (answer.answer, answer.retry_after) == ("503", "1")
        assert answer.seconds < AT_ONCE
        slowest = max(slowest, answer.seconds)
    story.notes["slowest_503_seconds"] = slowest


async def _outcomes(system: System) -> int:
    """Messages that wait in the streams OUTCOME."""
    client = await evidence.connect_nats(system)
    try:
        js = client.jetstream()
        states = [await js.stream_info(stream_of("OUTCOME", lane)) for lane in ("critical", "normal", "bulk")]
    finally:
        await client.close()
    return sum(stream.state.messages for stream in states)
