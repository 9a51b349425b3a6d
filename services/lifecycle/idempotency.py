"""The same request under the same Idempotency-Key is written once; key and messages commit together."""

from libs.errors import IdempotencyKeyReused, ServiceUnavailable
from libs.pg import Connection, Pool, Row
from libs.rpc import Accept, AcceptReply, LookUpIdempotency, Remember, Replay

from . import queries_accept as queries
from .queries_accept import Key


async def answered_before(c: Connection, batch: list[Accept]) -> dict[int, AcceptReply | Exception]:
    """By place in `batch`: what requests whose key was used before are answered. The keys of the others are taken."""
    first: dict[Key, int] = {}
    for index, request in enumerate(batch):
        if request.idempotency is not None:
            first.setdefault((request.application_id, request.idempotency.key), index)
    if not first:
        return {}
    rows: list[tuple[str, str, bytes, bytes, list[str]]] = [
        (*key, given.fingerprint, given.answer, []) for key, i in first.items() if (given := batch[i].idempotency)
    ]
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


async def keep(pool: Pool, batch: list[Remember]) -> list[Replay | Exception]:
    """Many answers at once. Whoever comes second is told the answer of the first, also within the batch."""
    first: dict[Key, int] = {}
    for index, each in enumerate(batch):
        first.setdefault((each.application_id, each.idempotency.key), index)
    rows = [(*key, (g := batch[i].idempotency).fingerprint, g.answer, batch[i].subjects) for key, i in first.items()]
    async with pool.connection() as c:
        claimed = await queries.claim_idempotency_keys(c, rows)
        found = await queries.idempotency_keys(c, list(first)) if len(claimed) < len(batch) else {}
    kept = {first[key] for key in claimed}
    return [
        Replay() if index in kept else _kept(each, found.get((each.application_id, each.idempotency.key)))
        for index, each in enumerate(batch)
    ]


def _kept(request: Remember, row: Row | None) -> Replay | Exception:
    given = request.idempotency
    if row is None:  # it grew too old between two statements
        return ServiceUnavailable(reason="idempotency_key_expired", retry_after=1)
    return _replay(LookUpIdempotency(request.application_id, given.key, given.fingerprint), row)


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
