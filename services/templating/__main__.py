"""The templating service: what messages say, in which language and on which channel."""

from libs.bus import Bus
from libs.pg import connect_pool
from libs.service import Runtime, main
from services.templating import queries
from services.templating.handlers import Handlers
from services.templating.rendering import Renderer
from services.templating.settings import Settings
from services.templating.templates import Templates


async def start(settings: Settings, runtime: Runtime) -> None:
    pool = await connect_pool(settings.database, prepare=queries.INDEXES_ONLY)
    runtime.on_stop(pool.close)
    runtime.readiness("postgres", pool.is_ready)
    bus = await Bus.join(runtime, settings.nats, runtime.name)
    await bus.serve("templating", Handlers(Templates(pool), Renderer(pool)).verbs())


if __name__ == "__main__":
    main("templating", Settings, start)
