"""GOAWAY every 500 requests, as Apple does to move its clients: nothing lost, nothing silently repeated (I3)."""

import pytest

from tests.faults.evidence import put_faults
from tests.faults.story import Story

pytestmark = pytest.mark.faults


CUTS = 4
"""Connections of each provider that are cut right after the GOAWAY; more would use up a message's attempts."""


@pytest.mark.parametrize("cut", [False, True], ids=["drained", "cut"])
async def test_connections_that_are_sent_away(story: Story, cut: bool) -> None:
    every = 100 if story.short else 500
    how = {"goaway": every, "close": True, "count": CUTS} if cut else {"goaway": every}
    await put_faults(story.system, [{"provider": provider, **how} for provider in ("apns", "fcm")])
    async with story.flow():
        pass
    await story.settled()
    await put_faults(story.system, [])
    await story.check(f"provider-goaway-{'cut' if cut else 'drained'}")
