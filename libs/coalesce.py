"""Many single calls become one batch. An idle system adds no delay: the first item goes at once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from libs.cancellation import being_cancelled
from libs.errors import InternalError, ServiceUnavailable

T = TypeVar("T")
R = TypeVar("R")


class Coalescer(Generic[T, R]):
    """Gathers concurrent `submit` calls and hands them to `handle` in batches, whole items only (R15).

    While `concurrency` batches are under way, items gather for at most one batch's time; a batch closes at `max_items`
    (counted by `weight`). `handle` returns one result an item, in order; an `Exception` in the list is raised to that
    item's caller, an exception of `handle` itself to all of the batch. `submit` raises `ServiceUnavailable` at once
    when `max_pending` weight is waiting.
    """

    def __init__(
        self,
        handle: Callable[[list[T]], Awaitable[Sequence[R | Exception]]],
        *,
        max_items: int = 500,
        max_pending: int = 20_000,
        concurrency: int = 1,
        max_wait: float = 0.002,
        weight: Callable[[T], int] = lambda _: 1,
    ) -> None:
        self._handle = handle
        self._max_items = max_items
        self._max_pending = max_pending
        self._concurrency = concurrency
        self._max_wait = max_wait
        self._weight = weight
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._weight_waiting = 0
        self._running: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._starting = False

    async def submit(self, item: T) -> R:
        weight = self._weight(item)
        if self._waiting and self._weight_waiting + weight > self._max_pending:
            raise ServiceUnavailable(reason="overloaded", retry_after=1)
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        self._weight_waiting += weight
        if not self._running or self._weight_waiting >= self._max_items:
            self._start_with_company()
        elif self._timer is None and len(self._running) < self._concurrency:
            self._timer = asyncio.get_running_loop().call_later(self._max_wait, self._on_timer)
        return await future

    def _start_with_company(self) -> None:
        """At the end of this turn of the loop: what was submitted in the same turn goes along, and nobody waits."""
        if not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start)

    def _on_timer(self) -> None:
        self._timer = None
        self._start()

    def _start(self) -> None:
        self._starting = False
        while self._waiting and len(self._running) < self._concurrency:
            task = asyncio.create_task(self._run(self._take()))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._start()

    def _take(self) -> list[tuple[T, asyncio.Future[R]]]:
        total = count = 0
        for item, _ in self._waiting:
            weight = self._weight(item)
            if count and total + weight > self._max_items:
                break
            total += weight
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self._weight_waiting -= total
        return batch

    async def _run(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        results: Sequence[R | Exception]
        try:
            results = await self._handle([item for item, _ in batch])
            if len(results) != len(batch):
                raise InternalError(reason="a batch of another length came back")
        except Exception as error:
            results = [error] * len(batch)
        except asyncio.CancelledError:
            if being_cancelled():
                raise
            results = [ServiceUnavailable(reason="interrupted", retry_after=1)] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
