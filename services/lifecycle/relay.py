"""The relay puts committed events on EVENTS, without gaps, at least once, in log order (R13)."""

from datetime import UTC, datetime

from libs import telemetry
from libs.bus import Bus, PublishFailed
from libs.errors import ServiceUnavailable
from libs.events import EventBatch, PublishedEvent, encode_batch, kinds_header
from libs.pg import Pool, Row
from libs.subjects import events as events_subject

from . import queries_tail as queries

_PAGE = 2_000
_BATCH = 500
_NAME = "relay"


class Relay:
    def __init__(self, pool: Pool, bus: Bus) -> None:
        self._pool = pool
        self._bus = bus
        self._at: queries.Cursor | None = None
        self._published = telemetry.counter("events_published_total")
        self._lag = telemetry.gauge("relay_lag_seconds")

    async def round(self) -> bool:
        """Publish one page and remember where it ended. True when there may be more at once."""
        async with self._pool.connection() as c:
            if self._at is None:
                self._at = await queries.cursor(c, _NAME)
            rows = await queries.tail(c, self._at, _PAGE)
        if not rows:
            return False
        for batch in _batches(rows):
            await self._publish(batch)
        last = rows[-1]
        self._at = (last["epoch"], last["xid"], last["position"])
        async with self._pool.connection() as c:
            await queries.save_cursor(c, _NAME, self._at)
        self._published.inc(len(rows))
        return len(rows) == _PAGE

    async def measure(self) -> bool:
        """The lag as a metric: it grows while any writing transaction of the cluster is left open."""
        async with self._pool.connection() as c:
            at = await queries.cursor(c, _NAME)
            self._lag.set(await queries.tail_lag_ms(c, at) / 1000)
        return False

    async def _publish(self, batch: EventBatch) -> None:
        first, last = batch.events[0], batch.events[-1]
        msg_id = f"{batch.application_id}:{first.epoch}:{first.txid}:{first.position}:{last.txid}:{last.position}"
        try:
            await self._bus.publish(
                events_subject(batch.application_id),
                encode_batch(batch),
                msg_id=msg_id,
                headers={"Kinds": kinds_header(batch)},
            )
        except PublishFailed:
            raise ServiceUnavailable(service="nats", retry_after=1) from None


def _batches(rows: list[Row]) -> list[EventBatch]:
    groups: dict[str, list[PublishedEvent]] = {}
    for row in rows:
        groups.setdefault(str(row["application_id"]), []).append(_published(row))
    return [
        EventBatch(application_id=application_id, events=found[start : start + _BATCH])
        for application_id, found in groups.items()
        for start in range(0, len(found), _BATCH)
    ]


def _published(row: Row) -> PublishedEvent:
    return PublishedEvent(
        epoch=row["epoch"],
        txid=row["xid"],
        position=row["position"],
        message_id=str(row["message_id"]),
        kind=row["kind"],
        attempt=row["attempt"],
        key=row["key"],
        occurred_at=datetime.fromtimestamp(row["occurred_at_ms"] / 1000, UTC),
        reason=row["reason"],
        data=row["data"] or {},
    )
