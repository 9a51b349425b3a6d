"""`kill -9` of a sender in the middle of provider calls (I2, I3)."""

import pytest

from tests.faults.evidence import put_faults
from tests.faults.story import Story, sent_some

pytestmark = [pytest.mark.faults, pytest.mark.kills]

SLOW = [{"provider": "apns", "latency_ms": 50}, {"provider": "fcm", "latency_ms": 50}]
"""Keeps calls in flight, so that a kill hits some."""


@pytest.mark.parametrize("sender", ["sender-apns", "sender-fcm"])
async def test_killed_sender_repeats_no_more_than_its_window(story: Story, sender: str) -> None:
    await put_faults(story.system, SLOW)
    async with story.flow() as flow:
        for part in (0.2, 0.6):
            await flow.reached(part)
            await sent_some(story, 10)
            await story.kill(sender)
    await put_faults(story.system, [])
    await story.check(f"kill-{sender}")
