"""How much may be under way at once, and how long it took."""

from prometheus_client import Counter

from libs import telemetry
from libs.errors import ServiceUnavailable


class Budget:
    """How many requests of one size may be under way."""

    def __init__(self, limit: int) -> None:
        self._left = limit

    def __enter__(self) -> None:
        if self._left <= 0:
            raise ServiceUnavailable(reason="overloaded", retry_after=1)
        self._left -= 1

    def __exit__(self, *_: object) -> None:
        self._left += 1


class Meter:
    """Counts and times the answers of one route."""

    def __init__(self, route: str) -> None:
        self._route = route
        self._duration = telemetry.histogram("http_request_duration_seconds", route=route)
        self._by_status: dict[int, Counter] = {}

    def observe(self, status: int, seconds: float) -> None:
        self._duration.observe(seconds)
        if status not in self._by_status:
            self._by_status[status] = telemetry.counter("http_requests_total", route=self._route, status=str(status))
        self._by_status[status].inc()
