"""How much may be under way at once, and how long it took."""

import contextlib
from collections import Counter
from collections.abc import Iterator

import prometheus_client

from libs import telemetry
from libs.errors import ServiceUnavailable


class Budget:
    """How many requests of one size may be under way."""

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._share = max(1, limit // 2)
        self._held = Counter[str]()

    def __enter__(self) -> None:
        if self._left <= 0:
            raise ServiceUnavailable(reason="overloaded", retry_after=1)
        self._left -= 1

    def __exit__(self, *_: object) -> None:
        self._left += 1

    @contextlib.contextmanager
    def share(self, application_id: str) -> Iterator[None]:
        """For requests whose length their caller decides: half of the budget, so that one application's leave room for
        the others'. Raises `ServiceUnavailable`."""
        if self._held[application_id] >= self._share:
            raise ServiceUnavailable(reason="overloaded", retry_after=1)
        self._held[application_id] += 1
        try:
            yield
        finally:
            self._held[application_id] -= 1
            if not self._held[application_id]:
                del self._held[application_id]


class Meter:
    """Counts and times the answers of one route."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._duration = telemetry.histogram("http_request_duration_seconds", route=route)
        self._by_status: dict[int, prometheus_client.Counter] = {}

    def observe(self, status: int, seconds: float) -> None:
        self._duration.observe(seconds)
        if status not in self._by_status:
            self._by_status[status] = telemetry.counter("http_requests_total", route=self._route, status=str(status))
        self._by_status[status].inc()
