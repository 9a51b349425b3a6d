"""`kill -9` of the one writer: while it accepts, records, relays, reconciles (I1, I2, I4)."""

import pytest

from tests.faults.story import Story, hold, kill_at, sent_some
from tests.faults.system import until

pytestmark = [pytest.mark.faults, pytest.mark.kills]

RELAYED = "SELECT count(*) FROM lifecycle.message_events"
OPEN = "SELECT count(*) FROM lifecycle.handoffs"


async def test_killed_while_accepting(story: Story) -> None:
    async with story.flow() as flow:
        await kill_at(story, flow, "lifecycle", (0.1, 0.45))
    await story.check("kill-lifecycle-accepting")


async def test_killed_while_recording(story: Story) -> None:
    """Outcomes come in while the sandbox answers."""
    async with story.flow() as flow:
        await flow.reached(0.3)
        await sent_some(story, 50)
        await story.kill("lifecycle")
    await sent_some_or_done(story)
    await story.check("kill-lifecycle-recording")


async def test_killed_as_relay(story: Story) -> None:
    """Facts have just been committed, and are on their way to EVENTS."""
    async with story.flow() as flow:
        await flow.reached(0.3)
        await grown(story, RELAYED)
        await story.kill("lifecycle")
        await flow.reached(0.8)
        await grown(story, RELAYED)
        await story.kill("lifecycle")
    await story.check("kill-lifecycle-relay")


async def test_killed_as_reconciler(story: Story) -> None:
    """Hand-offs are open, old enough to be looked at, and the process that looks dies."""
    async with story.flow() as flow:
        await flow.reached(0.5)
    await has_some(story, OPEN)
    await story.kill("lifecycle")
    await hold(1.0)
    await story.kill("lifecycle")
    await story.check("kill-lifecycle-reconciler")


async def sent_some_or_done(story: Story) -> None:
    """One more kill if there is still something to record."""
    try:
        await sent_some(story, 1)
    except TimeoutError:
        return
    await story.kill("lifecycle")


async def grown(story: Story, query: str) -> None:
    [row] = await story.system.fetch(query)
    before = row["count"]

    async def more() -> bool:
        [row] = await story.system.fetch(query)
        return bool(row["count"] > before)

    await until(more, "the log has grown", 20, every=0.01)


async def has_some(story: Story, query: str) -> None:
    async def some() -> bool:
        [row] = await story.system.fetch(query)
        return bool(row["count"])

    await until(some, "a hand-off is open", 20, every=0.05)
