"""How the gateway ends: first nobody is sent here any more, then what was asked is answered, then the port closes.

From SIGTERM on `/readyz` says 503 (`libs.service`), and each answer asks its client to connect anew, elsewhere. Who
keeps a connection open without a request loses it when the port closes.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import hdrs, web

from libs.service import Runtime

_LAST_SECONDS = 0.1
"""For the requests of connections that were made in the last moment: the runner closes those without one at once."""


def farewell(runtime: Runtime) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For every answer, before it is sent."""

    async def on_prepare(_: web.Request, response: web.StreamResponse) -> None:
        if runtime.stopping.is_set():
            response.headers[hdrs.CONNECTION] = "close"
            response.force_close()

    return on_prepare


def finish_on_stop(runtime: Runtime, runner: web.AppRunner, leave_after: float) -> None:
    """Requests under way when the port closes are answered, as far as that takes the runner's `shutdown_timeout`."""

    async def finish() -> None:
        await asyncio.sleep(leave_after)
        for site in list(runner.sites):
            await site.stop()
        await asyncio.sleep(_LAST_SECONDS)
        await runner.cleanup()

    runtime.on_stop(finish)
