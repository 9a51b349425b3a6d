"""The lifecycle service: the one writer of the log (R2)."""

from functools import partial

from libs.bus import Bus
from libs.envelope import LANES
from libs.pg import connect_pool
from libs.ring import follow
from libs.seal import KeyRing
from libs.service import Runtime, main

from . import queries
from .accept import Acceptor
from .breakers import Breakers
from .caps import Caps
from .control import Control
from .export import Exporter
from .forget import Forgetter
from .handlers import Handlers
from .handoff import Publisher
from .outcomes import Outcomes
from .parts import spawn_singletons
from .reconcile import not_counted
from .record import Recorder
from .resend import Resender
from .schedule import Rescheduler
from .seals import Seals
from .settings import Settings
from .views import Views

RESERVE = 4
"""Connections that only critical messages use: whatever holds all others, these are accepted and recorded (R10)."""


async def start(settings: Settings, runtime: Runtime) -> None:
    own = settings.lifecycle
    pool = await connect_pool(settings.database, prepare=queries.SET_EPOCH, reserve=RESERVE)
    runtime.on_stop(pool.close)
    runtime.readiness("postgres", pool.of("critical").is_ready)
    bus = await Bus.join(runtime, settings.nats, "lifecycle")
    await bus.ensure_streams()
    publisher = Publisher(bus, own.publish_timeout, partial(not_counted, pool))
    runtime.on_stop(publisher.drain)
    spawn_singletons(settings, runtime, pool, bus, publisher)
    if own.only not in ("all", "rpc"):
        return
    ring = KeyRing.load(settings.keys.ring_file)
    runtime.spawn(follow(ring, bus, "lifecycle"), "ring")
    recorder = Recorder(pool, own.transactions, settings.retry.scale)
    for lane in LANES:
        outcomes = Outcomes(bus, recorder, lane, own.outcome_slots)
        runtime.serve(outcomes.consumer, f"outcomes_{lane}")
    acceptor = Acceptor(pool, ring, publisher, own.transactions)
    seals = Seals(pool, bus, ring)
    views = Views(pool, seals)
    control = Control(pool, own.transactions)
    sealing = Exporter(pool, seals), seals, Forgetter(pool)
    breakers = Breakers(pool, own.breaker_seconds)
    later = Rescheduler(pool, own.transactions), Resender(pool, publisher, seals), Caps(pool, own.transactions)
    handlers = Handlers(pool, bus, acceptor, recorder, views, runtime.clock, control, *sealing, breakers, *later)
    await bus.serve("lifecycle", handlers.verbs())
    runtime.on_stop(bus.leave)  # the last acceptances are committed before the publisher is drained


if __name__ == "__main__":
    main("lifecycle", Settings, start)
