"""Circuit breakers (R11): what the senders learn of an application's way to a provider, shared by all of them."""

import msgspec

from libs import telemetry
from libs.alerts import Alert, encode_alert
from libs.bus import Bus, PublishFailed
from libs.errors import ResourceNotFound, ServiceUnavailable
from libs.ids import is_id
from libs.pg import Connection, Pool, Row
from libs.rpc import Empty, ListBreakers, OpenBreakers, ReportBreaker
from libs.subjects import alerts

from . import queries_breakers as queries

SETTLED_SECONDS = 2.0
"""After this every sender has heard of a change: that a breaker closed, or when it is to be probed."""
_MAX_REASON = 200
_PAGE = 100
_log = telemetry.logger("breakers")


class Breakers:
    """`seconds` from opening to the first probe; each one that fails doubles the pause, up to ten times as much."""

    def __init__(self, pool: Pool, seconds: float) -> None:
        self._pool = pool
        self._seconds = seconds

    async def report(self, request: ReportBreaker) -> Empty:
        """Whoever reports a change first makes it: it is alerted once. Raises `ResourceNotFound`."""
        if not is_id(request.application_id):
            raise ResourceNotFound(application_id=request.application_id[:64])
        async with self._pool.transaction() as c:
            alert = await self._change(c, request)
        if alert is not None:
            _log.warning(
                alert.kind,
                application_id=alert.application_id,
                channel=alert.channel,
                reason=alert.reason,
                retry_class=alert.retry_class,
                failures=alert.failures,
            )
        return Empty()

    async def _change(self, c: Connection, request: ReportBreaker) -> Alert | None:
        match request.verdict:
            case "failed":
                return await self._fail(c, request)
            case "healed":
                return await self._close(c, request)
            case "renewed":
                await queries.renew(c, (request.application_id, request.channel), SETTLED_SECONDS)
                return None

    async def _fail(self, c: Connection, request: ReportBreaker) -> Alert | None:
        reason = request.reason.replace("\0", "")[:_MAX_REASON]
        way = request.application_id, request.channel
        found = await queries.fail(c, way, reason, request.retry_class, self._seconds, request.opened_at_ms)
        return await _alert(c, "breaker_opened", found) if found is not None and found["failures"] == 1 else None

    async def _close(self, c: Connection, request: ReportBreaker) -> Alert | None:
        found = await queries.close(c, (request.application_id, request.channel), request.opened_at_ms)
        return None if found is None else await _alert(c, "breaker_closed", found)

    async def list(self, request: ListBreakers) -> OpenBreakers:
        if request.application_id is not None and not is_id(request.application_id):
            return OpenBreakers([])
        limit = queries.MOST_COUNTED if request.count_waiting else queries.MOST
        async with self._pool.connection() as c:
            found = await queries.open_breakers(c, request.application_id, request.channel, limit)
            if not request.count_waiting:
                return OpenBreakers(found)
            waiting = await queries.count_waiting(c, [(each.application_id, each.channel) for each in found])
        counted = [(each, waiting[each.application_id, each.channel]) for each in found]
        return OpenBreakers([msgspec.structs.replace(each, waiting=count) for each, count in counted])


async def _alert(c: Connection, kind: str, row: Row) -> Alert:
    """Within the transaction that makes it true."""
    way = str(row["application_id"]), row["channel"]
    alert = msgspec.convert(
        {
            "kind": kind,
            "application_id": way[0],
            "opened_at": row["opened_at"],
            "occurred_at": row["at"],
            "waiting": (await queries.count_waiting(c, [way]))[way],
            **{name: row[name] for name in ("channel", "reason", "retry_class", "failures")},
        },
        Alert,
    )
    await queries.insert_alert(c, alert)
    return alert


class Alerts:
    """Puts committed alerts on ALERTS, at least once, in their order; and measures what they tell of."""

    def __init__(self, pool: Pool, bus: Bus) -> None:
        self._pool = pool
        self._bus = bus
        self._channels: set[str] = set()

    async def round(self) -> bool:
        async with self._pool.connection() as c:
            found = await queries.oldest_alerts(c, _PAGE)
        for _, msg_id, alert in found:
            await self._publish(msg_id, alert)
        if found:
            async with self._pool.connection() as c:
                await queries.delete_alerts(c, [number for number, _, _ in found])
        return len(found) == _PAGE

    async def _publish(self, msg_id: str, alert: Alert) -> None:
        try:
            await self._bus.publish(alerts(alert.application_id), encode_alert(alert), msg_id=msg_id)
        except PublishFailed:
            raise ServiceUnavailable(service="nats", retry_after=1) from None

    async def measure(self) -> bool:
        async with self._pool.connection() as c:
            is_open, waiting = await queries.count_open(c), await queries.count_all_waiting(c)
        self._channels |= is_open.keys() | waiting.keys()
        for channel in self._channels:
            telemetry.gauge("breaker_open", channel=channel).set(is_open.get(channel, 0))
            telemetry.gauge("breaker_waiting", channel=channel).set(waiting.get(channel, 0))
        return False
