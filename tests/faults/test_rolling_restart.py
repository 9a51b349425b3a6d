"""Every service is restarted in turn as by a deployment while messages flow: nothing is lost, or repeated."""

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


async def test_and_in_the_opposite_order(story: Story) -> None:
    """Whoever starts finds the others as they are: there is no right order."""
    for service in reversed(SERVICES):
        await story.system.stop(service)
    async with story.flow(Shape(story.messages, seconds=8.0)) as flow:
        for service in SERVICES[::-1]:
            await story.system.start(service)
        await flow.reached(0.5)
    await story.check("start-in-any-order")
