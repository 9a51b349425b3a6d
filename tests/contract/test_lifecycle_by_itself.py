"""What nobody asks for: the running service makes weeks, puts them away, and gives up waiting for receipts."""

from datetime import timedelta
from pathlib import Path

import pytest

from libs.bus import Bus
from services.lifecycle import parts
from services.lifecycle.settings import Lifecycle
from tests.contract.aged_log import APPLICATION, AgedLog, monday, now
from tests.contract.lifecycle_harness import lifecycle
from tests.contract.test_receipt_timeouts import ASKED, Applicants
from tests.contract.test_weeks_of_the_log import LOG, PUT_AWAY, old_week
from tests.databases import Database
from tests.waiting import until

pytest_plugins = ["tests.contract.lifecycle_fixtures"]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_HOUSEKEEPING_SECONDS", "_RECEIPTS_SECONDS"):
        monkeypatch.setattr(parts, name, 0.2)


async def test_weeks_are_made_and_put_away(log: AgedLog, database: Database, bus: Bus, key_ring_file: Path) -> None:
    missing = monday(3)
    await log.forget_week(missing)
    over, _ = await old_week(log)
    async with lifecycle(database, bus, key_ring_file, own=Lifecycle(reconcile_after=60)):

        async def done() -> bool:
            return (await log.where(missing), await log.where(over)) == (LOG, PUT_AWAY)

        await until(done, "one week is made, another put away")


async def test_a_receipt_is_not_awaited_for_ever(
    log: AgedLog, database: Database, bus: Bus, key_ring_file: Path
) -> None:
    applicants = Applicants()
    applicants.settings[APPLICATION] = {"receipt_timeout_hours": ASKED}
    await bus.serve("application", applicants.verbs())
    async with lifecycle(database, bus, key_ring_file, own=Lifecycle(reconcile_after=60)):
        at = now() - timedelta(hours=ASKED, minutes=30)
        message_id = await log.message(at, ("sent", at))

        async def given_up() -> bool:
            await log.owner(
                "UPDATE lifecycle.receipt_cursors SET last_id = lifecycle.first_id_at(now() - interval '30 days')"
            )
            return await log.status(message_id) == "failed"

        await until(given_up, "no receipt is expected any more")
