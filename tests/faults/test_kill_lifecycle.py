"""`kill -9` of the one writer: while it accepts, records, relays, reconciles (I1, I2, I4)."""

import pytest

from tests.faults.story import Story, kill_at, sent_some
from tests.faults.system import until

pytestmark = [pytest.mark.faults, pytest.mark.kills]

LOGGED = "SELECT count(*) FROM lifecycle.message_events"
OLDEST = "SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 AS seconds FROM lifecycle.handoffs"


async def test_killed_while_accepting(story: Story) -> None:
    async with story.flow() as flow:
        await kill_at(story, flow, "lifecycle", (0.1, 0.45))
    await story.check("kill-lifecycle-accepting")


async def test_killed_while_recording(story: Story) -> None:
    """The sandbox is answering, so outcomes are being recorded."""
    async with story.flow() as flow:
        for part in (0.3, 0.7):
            await flow.reached(part)
            await sent_some(story, 50)
            await story.kill("lifecycle")
    await story.check("kill-lifecycle-recording")


async def test_killed_as_relay(story: Story) -> None:
    """Facts have just been committed, and are on their way to EVENTS."""
    async with story.flow() as flow:
        for part in (0.3, 0.7):
            await flow.reached(part)
            await log_grows(story)
            await story.kill("lifecycle")
    await story.check("kill-lifecycle-relay")


async def test_killed_as_reconciler(story: Story) -> None:
    """Hand-offs are old enough to be looked at, and cannot be found through: the process that looks dies, twice."""
    async with story.flow() as flow:
        await flow.reached(0.3)
        await story.system.stop("dispatcher")
    for seconds in (3.0, 9.0):
        await oldest_handoff(story, seconds)
        await story.kill("lifecycle")
    await story.system.start("dispatcher")
    await story.check("kill-lifecycle-reconciler")


async def log_grows(story: Story) -> None:
    [before] = await story.system.fetch(LOGGED)

    async def more() -> bool:
        [now] = await story.system.fetch(LOGGED)
        return bool(now["count"] > before["count"])

    await until(more, "the log grows", 20, every=0.01)


async def oldest_handoff(story: Story, seconds: float) -> None:
    async def old() -> bool:
        [row] = await story.system.fetch(OLDEST)
        return bool(row["seconds"] >= seconds)

    await until(old, f"a hand-off is open for {seconds} s", 20)
