"""Services run inside the test's own process, as `libs.service.main` would run them."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from libs.service import Runtime

S = TypeVar("S")


@contextlib.asynccontextmanager
async def running(
    name: str, start: Callable[[S, Runtime], Coroutine[Any, Any, None]], settings: S
) -> AsyncIterator[Runtime]:
    """The service is started on entry, drained on exit. Raises what its start raised."""
    runtime = Runtime(name)
    life = asyncio.create_task(runtime.run(start(settings, runtime)), name=name)
    try:
        while not (await runtime.ready())["started"]:
            if life.done():
                break
            await asyncio.sleep(0.01)
        if life.done():
            await life
        yield runtime
    finally:
        runtime.stopping.set()
        await life
