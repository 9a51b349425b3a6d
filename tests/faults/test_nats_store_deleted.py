"""NATS stopped and its JetStream store deleted: JetStream is never the only copy (R1, R6)."""

import shutil

import pytest

from tests.faults.evidence import cursor
from tests.faults.story import Story

pytestmark = pytest.mark.faults


async def test_the_log_survives_the_loss_of_jetstream(story: Story) -> None:
    async with story.flow() as flow:
        await flow.reached(0.4)
        await lose_jetstream(story)
    await story.check("nats-store-deleted")


async def test_a_backlog_that_was_lost_comes_back_from_the_log(story: Story) -> None:
    async with story.flow() as flow:
        await flow.reached(0.2)
        await story.system.stop("dispatcher")
        await flow.reached(0.6)
        await lose_jetstream(story)
        await story.system.start("dispatcher")
    await story.check("nats-backlog-deleted")


async def lose_jetstream(story: Story) -> None:
    await story.system.stop("nats")
    story.kills += 1
    # What the relay noted as published is gone with the stream; everything beyond must still come.
    story.published_after = await cursor(story.system)
    stores = [path for path in story.system.data_dir.rglob("jetstream") if path.is_dir()]
    assert stores, "no JetStream store found under the data directory"
    for store in stores:
        shutil.rmtree(store)
    await story.system.start("nats")
