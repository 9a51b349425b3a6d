"""After a rebuild somebody works on all that is unfinished: what had lost its hand-off has one again."""

import pytest

from libs.envelope import Outcome
from libs.ids import new_id
from services.lifecycle import queries_rebuild
from services.lifecycle.rebuild import rebuild
from services.lifecycle.window import Window
from tests.contract.aged_log import AgedLog
from tests.contract.test_lifecycle_turns import Collected
from tests.contract.test_rebuild import LATER, rows_of
from tests.databases import Database

pytest_plugins = ["tests.contract.lifecycle_fixtures"]
WORKED_ON = """
SELECT m.id::text, h.published, h.repairs FROM lifecycle.messages AS m
JOIN lifecycle.handoffs AS h ON h.id = m.handoff_id AND m.id = ANY (h.message_ids)
"""


@pytest.fixture
def dsn(database: Database) -> str:
    return database.dsn("lifecycle")


async def handed_off(log: AgedLog) -> str:
    handoff_id = new_id()
    message_id = await log.message(handoff_id=handoff_id)
    await log.handoff(handoff_id, [message_id], LATER)
    return message_id


async def test_a_row_that_was_final_by_mistake_has_lost_its_handoff(log: AgedLog, dsn: str) -> None:
    message_id = await handed_off(log)
    await log.owner("UPDATE lifecycle.messages SET status = 'failed', failed_at = now()")
    await Window(log.pool, Collected(), "normal").round()
    assert await rows_of(log, WORKED_ON) == [], "through, as far as anybody could see"
    assert (await rebuild(dsn)).changed == 1
    assert await rows_of(log, WORKED_ON) == [{"id": message_id, "published": True, "repairs": 1}]


async def test_a_handoff_that_is_forgotten_meanwhile_has_no_message(
    log: AgedLog, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handoff_id = new_id()
    lost, through = [await log.message(handoff_id=handoff_id) for _ in range(2)]
    await log.handoff(handoff_id, [lost, through], LATER)
    await log.owner(f"DELETE FROM lifecycle.messages WHERE id = '{lost}'")
    adoptable = queries_rebuild.adoptable

    async def and_then_it_is_forgotten(*found: object) -> dict[str, str]:
        pairs = await adoptable(*found)  # type: ignore[arg-type]  # passed on as they come
        await log.report(Outcome(through, "sent", 1, "", 0))
        await Window(log.pool, Collected(), "normal").round()
        return pairs

    monkeypatch.setattr(queries_rebuild, "adoptable", and_then_it_is_forgotten)
    await rebuild(dsn)
    assert [row["id"] for row in await rows_of(log, WORKED_ON)] == [lost]


async def test_what_is_handed_off_again_is_the_reconcilers_however_full_its_window(log: AgedLog, dsn: str) -> None:
    """Published at once, it would overtake what may still be on its way (R6)."""
    await handed_off(log)
    await log.owner("UPDATE lifecycle.handoffs SET size = 4000")
    message_id = await handed_off(log)
    await log.owner(f"DELETE FROM lifecycle.messages WHERE id = '{message_id}'")
    published = Collected()
    window = Window(log.pool, published, "normal")
    await window.round()
    await rebuild(dsn)
    found = {row["id"]: (row["published"], row["repairs"]) for row in await rows_of(log, WORKED_ON)}
    assert found[message_id] == (True, 1)
    await log.owner("UPDATE lifecycle.handoffs SET size = 1")
    await window.round()
    assert published.ids() == []
