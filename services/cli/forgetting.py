"""Whoever was erased since a backup is forgotten again, by the services themselves: none that sends is started."""

import asyncio
from collections.abc import Sequence

import msgspec

from libs.bus import Bus
from libs.config import Nats
from libs.pg import Connection, single_connection
from libs.rpc import ErasureRecord, ErasuresReapplied, ReapplyErasures
from libs.subjects import erasures
from services.cli import nats_server
from services.cli.datadir import DataDir
from services.cli.failure import Failure
from services.cli.old_streams import running
from services.cli.stack import Stack

_ERASED_SECONDS = 300.0
_CHUNK = 500
_OWNERS = frozenset({"subscription", "lifecycle"})

KEPT_ERASURES = """
SELECT application_id::text AS application_id, id::text AS request_id, user_id::text AS user_id,
    subscriptions::text[] AS subscription_ids,
    ARRAY (SELECT uuid_send(key_id) FROM unnest(key_ids) AS key_id) AS key_ids,
    (extract(EPOCH FROM requested_at) * 1000)::bigint AS requested_at_ms
FROM subscription.erasures ORDER BY requested_at
"""
OPEN_ERASURES = "SELECT count(*) FROM subscription.erasures WHERE completed_at IS NULL"


async def kept_erasures(c: Connection) -> list[ErasureRecord]:
    """All that a database knows of, oldest first."""
    return [msgspec.convert(dict(row), ErasureRecord) for row in await c.fetch(KEPT_ERASURES)]


async def forget_again(data: DataDir, stack: Stack, records: Sequence[ErasureRecord]) -> int:
    """How many were not forgotten in the backup. All that it knows itself go into the new stream ERASURES too: a later
    restore of an older backup asks there. Raises `Failure`."""
    async with single_connection(stack.postgres_dsn) as c:
        kept = await kept_erasures(c)
    if not kept and not records:
        return 0
    owners = [spec for spec in stack.services()[0] if spec.name in _OWNERS]
    nats = [spec for spec in stack.servers()[1] if spec.name == "nats"]
    async with running(data, [nats, owners] if records else [nats]):
        settings = Nats(url=stack.nats_url, max_stream_bytes=nats_server.stream_bytes(data.path))
        bus = await Bus.connect(settings, "restore")
        try:
            await bus.ensure_streams()
            for record in kept:
                payload = msgspec.msgpack.encode(record)
                await bus.publish(erasures(record.application_id), payload, msg_id=record.request_id)
            return await _reapply(bus, stack.postgres_dsn, records)
        finally:
            await bus.close()


async def _reapply(bus: Bus, dsn: str, records: Sequence[ErasureRecord]) -> int:
    applied = 0
    for start in range(0, len(records), _CHUNK):
        request = ReapplyErasures(list(records[start : start + _CHUNK]))
        reply = await bus.call("subscription", "reapply_erasures", request, ErasuresReapplied, timeout=60)
        applied += reply.applied
    if records:
        await _completed(dsn)
    return applied


async def _completed(dsn: str) -> None:
    try:
        async with asyncio.timeout(_ERASED_SECONDS), single_connection(dsn) as c:
            while await c.fetchval(OPEN_ERASURES):
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise Failure("the erasures were not completed in time", "try again; nothing was left behind") from None
