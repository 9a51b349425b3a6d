"""The subscription service: who can be reached, and how."""

from libs.bus import Bus
from libs.pg import connect_pool
from libs.seal import KeyRing
from libs.service import Runtime, main
from services.subscription import queries
from services.subscription.handlers import Handlers
from services.subscription.recipients import Recipients
from services.subscription.registration import Registrar
from services.subscription.rejections import Rejections
from services.subscription.settings import Settings


async def start(settings: Settings, runtime: Runtime) -> None:
    ring = KeyRing.load(settings.keys.ring_file)
    pool = await connect_pool(settings.database, prepare=queries.INDEXES_ONLY)
    runtime.on_stop(pool.close)
    bus = await Bus.connect(settings.nats, runtime.name)
    runtime.on_stop(bus.close)
    runtime.readiness("postgres", pool.is_ready)
    runtime.readiness("nats", bus.is_ready)
    await bus.ensure_streams()
    runtime.serve(Rejections(pool, bus).subscriber, "rejections")
    handlers = Handlers(pool, Registrar(pool, ring), Recipients(pool))
    await bus.serve("subscription", handlers.verbs())


if __name__ == "__main__":
    main("subscription", Settings, start)
