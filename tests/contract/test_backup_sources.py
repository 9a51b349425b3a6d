"""What a backup and a restore ask of what runs: who was erased, how far readers were, how far back EVENTS reaches."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from libs.bus import Bus
from libs.config import Nats
from libs.events import EventBatch, PublishedEvent, encode_batch
from libs.ids import new_id
from libs.pg import single_connection
from libs.subjects import ERASURES, EVENTS, events
from services.cli import backup
from services.cli.archive import Erasures, Manifest, Position
from services.cli.datadir import DataDir, Runtime
from services.cli.failure import Failure
from services.cli.old_streams import completeness
from services.cli.progress import Terminal
from services.cli.restoring import Restored, Restoring, Wanted
from tests.databases import Database

APPLICATION = new_id()


def runtime(database: Database, nats: Nats) -> Runtime:
    return Runtime("", "", "", "", database.admin_dsn, nats.url, {})


async def tell(bus: Bus, size: int = 0) -> None:
    event = PublishedEvent(1, "7", 1, new_id(), "sent", 1, "x" * size, datetime.now(UTC))
    await bus.publish(events(APPLICATION), encode_batch(EventBatch(APPLICATION, [event])), msg_id=new_id())


async def test_an_erasure_is_kept_as_soon_as_it_is_committed_and_although_its_stream_was_lost(
    database: Database, nats_settings: Nats, bus: Bus, tmp_path: Path
) -> None:
    await bus.js.delete_stream(ERASURES)
    target, erased, key = tmp_path / "erasures.json", new_id(), new_id()
    async with single_connection(database.admin_dsn) as c:
        await c.execute(
            "INSERT INTO subscription.erasures (id, application_id, user_id, subscriptions, key_ids, actor)"
            " VALUES ($1, $2, $3, '{}', ARRAY[$4::uuid], 'test')",
            erased,
            APPLICATION,
            new_id(),
            key,
        )
    taken = await backup._write_erasures(runtime(database, nats_settings), target)
    kept = msgspec.json.decode(target.read_bytes(), type=Erasures)
    assert (taken.erasures, [record.request_id for record in kept.records]) == (1, [erased])
    assert [each.hex() for each in kept.records[0].key_ids] == [key.replace("-", "")]
    assert target.stat().st_mode & 0o777 == 0o600


async def test_where_readers_have_read_all_the_relay_goes_back_to_where_it_was_before_the_copy(
    database: Database, nats_settings: Nats, bus: Bus
) -> None:
    """What it publishes while the database is copied may be read after the copy, and its effect is not in it."""
    async with single_connection(database.admin_dsn) as c:
        await c.execute("DELETE FROM lifecycle.cursors")
        await c.execute("INSERT INTO lifecycle.cursors (name, epoch, txid, position) VALUES ('relay', 3, '77', 5)")
    assert await backup._readers_at(runtime(database, nats_settings)) == Position(3, "77", 5)


async def test_a_stream_that_dropped_what_came_after_the_backup_does_not_tell_all(bus: Bus) -> None:
    await tell(bus)
    before = datetime.now(UTC)
    manifest = Manifest(1, "", "", before, before, 1)
    assert await completeness(bus, manifest) == "whole"
    await asyncio.gather(*(tell(bus, 50_000) for _ in range(4)))
    assert await completeness(bus, manifest) == "whole"
    config = (await bus.stream_state(EVENTS)).config
    config.max_bytes = 120_000
    await bus.js.update_stream(config)
    assert await completeness(bus, manifest) == "part"


async def test_no_moment_is_left_in_which_old_and_new_could_both_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new directory appears last: with its report, and when the old one is marked already."""
    old, new = DataDir(tmp_path / "old"), DataDir(tmp_path / "new")
    old.create()
    now = datetime.now(UTC)
    restored = Restored("", now, 2, "whole", 0, 0, 0, 0, now, 0, 0)
    found: list[bool] = []

    async def prepare(self: Restoring, _: Wanted) -> Restored:
        self._draft.create()
        return restored

    def replace(draft: Path, target: Path) -> None:
        if target == new.path:
            found.extend((old.superseded_file.exists(), (draft / "restored.json").exists()))
            raise OSError(28, "No space left on device")
        rename(draft, target)

    rename = Path.rename
    monkeypatch.setattr(Restoring, "_unpack", lambda _: None)
    monkeypatch.setattr(Restoring, "_prepare", prepare)
    monkeypatch.setattr(Path, "replace", replace)
    restoring = Restoring(tmp_path, Manifest(1, "", "", now, now, 1), new, Terminal(Console(quiet=True)))
    with pytest.raises(Failure):
        await restoring.run(Wanted(old=old))
    assert found == [True, True]
    assert not old.superseded_file.exists()
