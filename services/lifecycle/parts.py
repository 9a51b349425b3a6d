"""The parts that run in one replica at a time: relay, reconciler, timekeeper. Each can be run apart."""

import asyncio
from collections.abc import Awaitable, Callable

from libs.bus import Bus
from libs.envelope import LANES
from libs.leftovers import Leftovers
from libs.pg import Pool
from libs.service import Runtime

from .breakers import Alerts
from .expiry import Expiry
from .handoff import Publisher
from .leader import every, lead
from .partitions import Partitions
from .receipts import ReceiptTimeouts
from .reconcile import Reconciler
from .relay import Relay
from .release import Release
from .settings import Settings
from .statistics import Statistics
from .timekeeper import Timekeeper
from .window import Window

_RELAY_SECONDS = 0.05
_DUE_SECONDS = 0.2
_RELEASE_SECONDS = 0.5
_WINDOW_SECONDS = 0.1
_ALERTS_SECONDS = 0.5
_BREAKERS_SECONDS = 10.0
_RECONCILE_SECONDS = 1.0
_MEASURE_SECONDS = 2.0
_EXPIRY_SECONDS = 2.0
_RECEIPTS_SECONDS = 10.0
_HOUSEKEEPING_SECONDS = 30.0


def spawn_singletons(settings: Settings, runtime: Runtime, pool: Pool, bus: Bus, publisher: Publisher) -> None:
    async def relay() -> None:
        part = Relay(pool, bus)
        await _all(every(_RELAY_SECONDS, part.round, "relay"), every(_MEASURE_SECONDS, part.measure, "relay_lag"))

    async def reconciler() -> None:
        after = settings.lifecycle.reconcile_after
        parts = [Reconciler(pool.of(lane), bus, publisher, lane, after) for lane in LANES]
        await _all(
            *(every(_RECONCILE_SECONDS, part.round, "reconciler") for part in parts),
            every(_RECONCILE_SECONDS, Leftovers(bus).round, "leftovers"),
        )

    async def timekeeper() -> None:
        part, alerts = Timekeeper(pool, publisher), Alerts(pool, bus)
        windows = [Window(pool.of(lane), publisher, lane) for lane in LANES]
        weeks = Partitions(pool, settings.lifecycle.retention_days)
        release = Release(pool, bus, runtime.clock, settings.lifecycle.breaker_seconds)
        await _all(
            every(_DUE_SECONDS, part.round, "timekeeper"),
            every(_RELEASE_SECONDS, release.round, "release"),
            every(_ALERTS_SECONDS, alerts.round, "alerts"),
            every(_BREAKERS_SECONDS, alerts.measure, "breakers"),
            every(_HOUSEKEEPING_SECONDS, part.housekeeping, "housekeeping"),
            every(_MEASURE_SECONDS, Statistics(pool).round, "statistics"),
            every(_EXPIRY_SECONDS, Expiry(pool).round, "expiry"),
            every(_RECEIPTS_SECONDS, ReceiptTimeouts(pool, bus, runtime.clock).round, "receipts"),
            every(_HOUSEKEEPING_SECONDS, weeks.make_ahead, "weeks_ahead"),
            every(_HOUSEKEEPING_SECONDS, weeks.put_away, "archive"),
            *(every(_WINDOW_SECONDS, each.round, "window") for each in windows),
            *(every(_MEASURE_SECONDS, each.recount, "window_count") for each in windows),
        )

    parts: dict[str, Callable[[], Awaitable[None]]] = {
        "relay": relay,
        "reconciler": reconciler,
        "timekeeper": timekeeper,
    }
    for name, work in parts.items():
        if settings.lifecycle.only in ("all", name):
            runtime.spawn(lead(settings.database.url, name, work, runtime.stopping), name)


async def _all(*loops: Awaitable[None]) -> None:
    await asyncio.gather(*loops)
