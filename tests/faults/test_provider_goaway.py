"""GOAWAY every 500 requests, as Apple does to move its clients: nothing lost, nothing silently repeated (I3)."""

import pytest

from tests.faults.evidence import put_faults
from tests.faults.story import Story

pytestmark = pytest.mark.faults


@pytest.mark.parametrize("cut", [False, True], ids=["drained", "cut"])
async def test_connections_that_are_sent_away(story: Story, cut: bool) -> None:
    every = 500 if not story.short else 100
    rules = [{"provider": provider, "goaway": every, "close": cut} for provider in ("apns", "fcm")]
    await put_faults(story.system, rules)
    async with story.flow():
        pass
    await story.settled()
    await put_faults(story.system, [])
    await story.check(f"provider-goaway-{'cut' if cut else 'drained'}")
