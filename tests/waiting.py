"""Tests wait for conditions, never for a time."""

import asyncio
from collections.abc import Awaitable, Callable


async def until(holds: Callable[[], Awaitable[bool]], what: str, seconds: float = 20.0) -> None:
    """Returns as soon as `holds` says yes. Raises `AssertionError` naming `what` after `seconds`."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not await holds():
        assert asyncio.get_running_loop().time() < deadline, f"waited {seconds} s in vain: {what}"
        await asyncio.sleep(0.02)
