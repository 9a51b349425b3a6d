"""The application service: who may do what, how often, and with which provider credentials; and who did what."""

from libs.bus import Bus
from libs.pg import connect_pool
from libs.ring import follow
from libs.seal import KeyRing
from libs.service import Runtime, main
from services.application.access import Access
from services.application.applications import Tenants
from services.application.audit import Audit
from services.application.handlers import Handlers
from services.application.last_used import LastUsed
from services.application.limits import Limits
from services.application.policy import Policies
from services.application.rewrap import Rewrapper
from services.application.settings import Settings
from services.application.stops import EmergencyStops
from services.application.vault import Vault


async def start(settings: Settings, runtime: Runtime) -> None:
    ring = KeyRing.load(settings.keys.ring_file)
    pool = await connect_pool(settings.database)
    runtime.on_stop(pool.close)
    last_used = LastUsed(pool)
    runtime.serve(last_used, "last_used")
    runtime.readiness("postgres", pool.is_ready)
    bus = await Bus.join(runtime, settings.nats, runtime.name)
    access, limits = Access(pool, ring, last_used), Limits(pool, runtime.clock)
    vault, stops, rewrapper = Vault(pool, ring, bus), EmergencyStops(pool), Rewrapper(pool, ring)
    handlers = Handlers(Tenants(pool), access, vault, limits, Audit(pool), stops, rewrapper, Policies(pool))
    runtime.spawn(follow(ring, bus, runtime.name), "ring")
    await bus.serve("application", handlers.verbs())


if __name__ == "__main__":
    main("application", Settings, start)
