"""The same request under the same Idempotency-Key is written once; key and messages commit together."""

from libs.errors import IdempotencyKeyReused
from libs.pg import Connection, Pool, Row
from libs.rpc import Accept, AcceptReply, LookUpIdempotency, Replay

from . import queries
from .queries import Key


async def answered_before(c: Connection, batch: list[Accept]) -> dict[int, AcceptReply | Exception]:
    """By place in `batch`: what requests whose key was used before are answered. The keys of the others are taken."""
    first: dict[Key, int] = {}
    for index, request in enumerate(batch):
        if request.idempotency is not None:
            first.setdefault((request.application_id, request.idempotency.key), index)
    if not first:
        return {}
    rows = [(*key, given.fingerprint, given.answer) for key, i in first.items() if (given := batch[i].idempotency)]
    claimed = await queries.claim_idempotency_keys(c, rows)
    found = await queries.idempotency_keys(c, list(first)) if len(claimed) < _guarded(batch) else {}
    return {
        index: _earlier(request, found)
        for index, request in enumerate(batch)
        if (key := _key(request)) is not None and not (key in claimed and first[key] == index)
    }


async def look_up(pool: Pool, batch: list[LookUpIdempotency]) -> list[Replay | Exception]:
    """The earlier answers of many requests, in one question."""
    async with pool.connection() as c:
        found = await queries.idempotency_keys(c, list({(each.application_id, each.key) for each in batch}))
    return [_replay(each, found.get((each.application_id, each.key))) for each in batch]


def _guarded(batch: list[Accept]) -> int:
    return sum(request.idempotency is not None for request in batch)


def _key(request: Accept) -> Key | None:
    return None if request.idempotency is None else (request.application_id, request.idempotency.key)


def _earlier(request: Accept, found: dict[Key, Row]) -> AcceptReply | Exception:
    given = request.idempotency
    row = found.get((request.application_id, given.key)) if given is not None else None
    if given is None or row is None or row["fingerprint"] != given.fingerprint:
        return IdempotencyKeyReused(key="" if given is None else given.key)
    return AcceptReply(created_at_ms=row["created_at_ms"], replayed=row["answer"])


def _replay(request: LookUpIdempotency, row: Row | None) -> Replay | Exception:
    if row is None:
        return Replay()
    if row["fingerprint"] != request.fingerprint:
        return IdempotencyKeyReused(key=request.key)
    return Replay(created_at_ms=row["created_at_ms"], answer=row["answer"])
