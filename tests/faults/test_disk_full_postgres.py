"""No room under Postgres: nothing is answered 201 that is not kept, and all goes on by itself once there is room."""

import contextlib
import time
from collections.abc import Iterator

import asyncpg
import pytest

from tests.faults.cluster import ClusterSystem, Layout
from tests.faults.conftest import run_story
from tests.faults.disk import SmallDisk
from tests.faults.load import Flow
from tests.faults.plan import Shape
from tests.faults.story import Story, writing_connection

pytestmark = pytest.mark.faults

SECONDS = 24.0
FULL_SECONDS = 8.0
DISK = 512 * 1024**2
SEGMENTS = 64
"""More than Postgres keeps ready."""


@pytest.fixture(scope="module")
def system() -> ClusterSystem:
    return ClusterSystem(Layout(disks={"postgres-1": DISK}))


@pytest.fixture(scope="module")
def module_story(request: pytest.FixtureRequest, system: ClusterSystem) -> Iterator[Story]:
    yield from run_story(request, system, int(request.config.getoption("--messages")))


async def test_no_room_for_tables_loses_nothing(story: Story, system: ClusterSystem) -> None:
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.2)
        await _refused_while_full(story, flow, system.disks["postgres-1"])
    await story.check("disk-full-postgres")
    system.databases[0].check_for_damage()


async def test_no_room_for_the_wal_loses_nothing(story: Story, system: ClusterSystem) -> None:
    """Postgres ends itself then, and cannot start again before there is room."""
    disk, database = system.disks["postgres-1"], system.databases[0]
    async with story.flow(Shape(story.messages, SECONDS)) as flow:
        await flow.reached(0.2)
        story.kills += 1
        async with writing_connection(database.dsn) as connection:
            disk.fill()
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                for _ in range(SEGMENTS):
                    await connection.execute("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
        await _refused_while_full(story, flow, disk)
    await story.check("disk-full-wal")
    assert any("PANIC" in path.read_text() for path in system.logs() if path.name.startswith("postgres"))
    database.check_for_damage()


async def _refused_while_full(story: Story, flow: Flow, disk: SmallDisk) -> None:
    full_until = float("inf")
    while time.monotonic() < full_until:
        disk.fill()  # also what a checkpoint has given back
        answer = await flow.probe()
        assert (answer.answer, answer.retry_after) in (("201", None), ("503", "1"))
        if answer.answer == "503":
            full_until = min(full_until, time.monotonic() + FULL_SECONDS)
            story.notes["slowest_503_seconds"] = max(answer.seconds, story.notes.get("slowest_503_seconds", 0.0))
    disk.clear()
    story.notes["accepted_after_seconds"] = await flow.until_accepted()
