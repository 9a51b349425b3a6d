"""Every service is restarted in turn as by a deployment while messages flow: nothing is lost, or repeated."""

import asyncio

import pytest

from tests.faults.plan import Shape
from tests.faults.story import Story

pytestmark = pytest.mark.faults

SERVICES = (
    "application",
    "subscription",
    "templating",
    "lifecycle",
    "dispatcher",
    "sender-apns",
    "sender-fcm",
    "ingest",
)
SECONDS_EACH = 5.0


async def test_a_rolling_restart_loses_and_repeats_nothing(story: Story) -> None:
    shape = Shape(story.messages, seconds=SECONDS_EACH * (len(SERVICES) + 2))
    async with story.flow(shape) as flow:
        for n, service in enumerate(SERVICES, start=1):
            await flow.reached(n / (len(SERVICES) + 2))
            await story.system.stop(service)
            await story.system.start(service)
    await story.check("rolling-restart")


async def test_services_start_in_any_order(story: Story) -> None:
    """Whoever comes first waits for the others: the gateway before all, those that own data last."""
    for service in reversed(SERVICES):
        await story.system.stop(service)
    for service in reversed(SERVICES):
        await asyncio.to_thread(story.system.cli, "start", service)
    for service in SERVICES:
        await story.system.ready(service)
    async with story.flow():
        pass
    await story.check("start-in-any-order")
