"""The application service: who may do what, and with which provider credentials."""

from libs.bus import Bus
from libs.pg import connect_pool
from libs.seal import KeyRing
from libs.service import Runtime, main
from services.application.handlers import Handlers
from services.application.settings import Settings


async def start(settings: Settings, runtime: Runtime) -> None:
    ring = KeyRing.load(settings.keys.ring_file)
    pool = await connect_pool(settings.database)
    runtime.on_stop(pool.close)
    bus = await Bus.connect(settings.nats, runtime.name)
    runtime.on_stop(bus.close)
    runtime.readiness("postgres", pool.is_ready)
    runtime.readiness("nats", bus.is_ready)
    await bus.serve("application", Handlers(pool, ring).verbs())


if __name__ == "__main__":
    main("application", Settings, start)
