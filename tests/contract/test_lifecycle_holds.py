"""What is held again and again: it ends, and delays nobody else."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from libs.bus import Bus
from libs.pg import single_connection
from services.lifecycle.settings import Lifecycle
from tests.contract.lifecycle_harness import APPLICATION, LifecycleHarness, lifecycle
from tests.contract.test_lifecycle_schedule import handed_off, having, same_after_rebuild, told
from tests.databases import Database


@pytest.fixture
async def service(database: Database, bus: Bus, key_ring_file: Path) -> AsyncIterator[LifecycleHarness]:
    own = Lifecycle(publish_timeout=1.0, reconcile_after=60)
    async with lifecycle(database, bus, key_ring_file, scale=1, own=own) as harness:
        yield harness


async def held_for_the(service: LifecycleHarness, attempt: int, message_id: str) -> None:
    """As if all attempts so far had been held, and this one's wait were over."""
    data = f'{{"waited_for": "rate_limit", "waited_ms": 0, "uncounted": {attempt - 1}}}'
    async with single_connection(service.database.admin_dsn) as c, c.transaction():
        await c.execute("SELECT set_config('automata.epoch', '1', true)")
        await c.execute(
            """INSERT INTO lifecycle.message_events (message_id, kind, attempt, key, application_id, data)
            VALUES ($1, 'retried', $2, '', $3, $4::text::jsonb)""",
            message_id,
            attempt,
            APPLICATION,
            data,
        )
        await c.execute(
            "UPDATE lifecycle.messages SET attempt = $2, uncounted = $2 - 1::smallint WHERE id = $1",
            message_id,
            attempt,
        )
        await c.execute(
            """INSERT INTO lifecycle.due (message_id, application_id, lane, due_at, reason)
            VALUES ($1, $2, 'normal', now(), 'rate_limit')""",
            message_id,
            APPLICATION,
        )


async def test_a_message_that_was_held_too_often_fails_and_stops_nobody(service: LifecycleHarness) -> None:
    tired, other = service.message(), service.message()
    await service.accept(tired)
    await service.accept(other)
    await handed_off(service.bus, 2)
    await held_for_the(service, 32_767, tired.message_id)
    await held_for_the(service, 2, other.message_id)
    (envelope,) = await handed_off(service.bus, 1)
    assert [(item.message_id, item.attempt) for item in envelope.items] == [(other.message_id, 3)]
    view = await having(service, tired.message_id, "failed")
    assert (view.status, view.reason, view.next_attempt_at_ms) == ("failed", "too_many_attempts", None)
    assert told(view, "failed")[0].data == {"count": 32_767, "waited_for": "rate_limit"}
    await same_after_rebuild(service)
