"""The subscription service: who can be reached, and how."""

from libs.bus import Bus
from libs.pg import connect_pool
from libs.ring import follow
from libs.seal import KeyRing
from libs.service import Runtime, main
from services.subscription import queries
from services.subscription.changes import Changer
from services.subscription.erasure import Erasures
from services.subscription.export import Exports
from services.subscription.forgetting import Forgetting
from services.subscription.handlers import Handlers
from services.subscription.imports import Imports
from services.subscription.lists import Lists
from services.subscription.reading import Reader
from services.subscription.recipients import Recipients
from services.subscription.registration import Registrar
from services.subscription.rejections import Rejections
from services.subscription.rewrap import Rewrapper
from services.subscription.secret import Secrets
from services.subscription.settings import Settings
from services.subscription.tags import Tags
from services.subscription.update import Updates
from services.subscription.users import Users


async def start(settings: Settings, runtime: Runtime) -> None:
    ring = KeyRing.load(settings.keys.ring_file)
    pool = await connect_pool(settings.database, prepare=queries.INDEXES_ONLY)
    runtime.on_stop(pool.close)
    runtime.readiness("postgres", pool.is_ready)
    bus = await Bus.join(runtime, settings.nats, runtime.name)
    await bus.ensure_streams()
    changer = Changer(pool)
    runtime.serve(Rejections(changer, ring, bus).subscriber, "rejections")
    runtime.spawn(follow(ring, bus, runtime.name), "ring")
    erasures = Erasures(pool, ring)
    runtime.spawn(Forgetting(pool, bus, erasures).run(), "forgetting")
    handlers = Handlers(
        Registrar(pool, ring),
        Updates(changer, ring),
        Tags(changer, ring),
        Reader(pool),
        Lists(pool, runtime.clock),
        Secrets(pool, ring),
        Recipients(pool),
        Rewrapper(pool, ring),
        Imports(pool, ring),
        Users(pool, ring),
        erasures,
        Exports(pool),
    )
    await bus.serve("subscription", handlers.verbs())


if __name__ == "__main__":
    main("subscription", Settings, start)
