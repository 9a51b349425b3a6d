"""The public REST gateway. It owns no data: it authenticates, checks, and asks the other services."""

from aiohttp import web

from libs.bus import Bus
from libs.policies import PolicyBoard
from libs.reference_time import follow, reference_clock
from libs.service import Runtime, main
from services.ingest.acceptor import Acceptor
from services.ingest.auth import Keys
from services.ingest.exchange import Gateway
from services.ingest.leaving import finish_on_stop
from services.ingest.recipients import Recipients
from services.ingest.routes import application, runner_of
from services.ingest.schedule import Schedules
from services.ingest.settings import Settings
from services.ingest.templated import Renderer
from services.ingest.tls import context_of


async def start(settings: Settings, runtime: Runtime) -> None:
    bus = await Bus.join(runtime, settings.nats, runtime.name)
    clock = reference_clock(bus, runtime.clock)
    runtime.spawn(follow(clock), "clock")
    schedules = Schedules(clock, PolicyBoard(bus, runtime.clock))
    gateway = Gateway(bus, Keys(bus, runtime.clock), Recipients(bus), Acceptor(bus), Renderer(bus), schedules)
    http = settings.http
    runner = runner_of(application(gateway, http, runtime), http)
    await runner.setup()
    finish_on_stop(runtime, runner, http.leave_after)
    site = web.TCPSite(runner, http.host, http.port, reuse_port=http.reuse_port, ssl_context=context_of(http))
    await site.start()


if __name__ == "__main__":
    main("ingest", Settings, start)
