"""SQL of the reconciler: which hand-offs are old, what is looked for in each lane, and how far that came (R6)."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from libs.envelope import Lane
from libs.pg import Connection

COUNT_HANDOFFS = "SELECT count(*) FROM lifecycle.handoffs WHERE lane = $1"
OLD_HANDOFFS = """
SELECT id FROM lifecycle.handoffs
WHERE lane = $1 AND published AND created_at < now() - $2 * interval '1 millisecond'
ORDER BY created_at
LIMIT $3
"""
# After a failover or a restore the log has another future: what was noted before may be about messages that were
# handed off again since, in what is no longer known.
_IN_FORCE = "epoch = (SELECT max(e.epoch) FROM lifecycle.epochs AS e)"
SEARCH = f"""
SELECT id, handoff_ids, stage, stream_created, last_seq FROM lifecycle.reconciliations
WHERE lane = $1 AND {_IN_FORCE}
"""  # noqa: S608 - made of constants
BEGIN_SEARCH = """
INSERT INTO lifecycle.reconciliations AS r (lane, id, epoch, handoff_ids)
SELECT $1, $2, max(epoch), $3::uuid[] FROM lifecycle.epochs
ON CONFLICT (lane) DO UPDATE
    SET id = excluded.id, epoch = excluded.epoch, handoff_ids = excluded.handoff_ids, stage = 0,
        stream_created = NULL, last_seq = NULL, updated_at = now()
    WHERE r.epoch <> excluded.epoch
RETURNING true
"""
NOTE_WAIT = f"""
UPDATE lifecycle.reconciliations SET stage = $3, stream_created = $4, last_seq = $5, updated_at = now()
WHERE lane = $1 AND id = $2 AND (stage < $3 OR last_seq IS NULL) AND {_IN_FORCE}
RETURNING true
"""  # noqa: S608 - made of constants
END_SEARCH = f"""
DELETE FROM lifecycle.reconciliations WHERE lane = $1 AND id = $2 AND {_IN_FORCE} RETURNING true
"""  # noqa: S608 - made of constants


class Note(NamedTuple):
    """Where a work-queue stream ended. It stays true: whatever is stored later comes behind it."""

    created: datetime | None
    """When the stream was made."""
    last_seq: int


class Search(NamedTuple):
    """Hand-offs that may be lost, and how far they were looked for."""

    id: str
    handoff_ids: list[str]
    stage: int = 0
    """The number of the wait that it is in."""
    noted: Note | None = None
    """As that wait began; None: it has not."""


async def count_handoffs(c: Connection, lane: Lane) -> int:
    return int(await c.fetchval(COUNT_HANDOFFS, lane))


async def old_handoffs(c: Connection, lane: Lane, age_ms: int, limit: int) -> list[str]:
    return [str(row["id"]) for row in await c.fetch(OLD_HANDOFFS, lane, age_ms, limit)]


async def search(c: Connection, lane: Lane) -> Search | None:
    """What this process or another one looks for."""
    row = await c.fetchrow(SEARCH, lane)
    if row is None:
        return None
    noted = None if row["last_seq"] is None else Note(row["stream_created"], row["last_seq"])
    return Search(str(row["id"]), [str(i) for i in row["handoff_ids"]], row["stage"], noted)


async def begin_search(c: Connection, lane: Lane, search_id: str, handoff_ids: Sequence[str]) -> bool:
    """False: another process has begun one."""
    return await c.fetchval(BEGIN_SEARCH, lane, search_id, handoff_ids) is not None


async def note_wait(c: Connection, lane: Lane, search_id: str, stage: int, noted: Note) -> bool:
    """The waits before `stage` are over. False: another process came as far, or ended the search."""
    return await c.fetchval(NOTE_WAIT, lane, search_id, stage, *noted) is not None


async def end_search(c: Connection, lane: Lane, search_id: str) -> bool:
    """False: another process ended it. Waits for one that is about to."""
    return await c.fetchval(END_SEARCH, lane, search_id) is not None
