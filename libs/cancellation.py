"""Cancelled, or only a `CancelledError` that leaked out of a library: the latter is an error like any other."""

import asyncio


def being_cancelled() -> bool:
    """True where somebody asked the current task to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
