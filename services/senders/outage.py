"""When a provider, or the way to it, is out for an application: found from what its own calls came to (R11)."""

from collections import OrderedDict, deque

from libs.clock import Clock

RECENT = 100
"""Calls that a share of failures is taken of."""
RECENT_SECONDS = 30.0
ENOUGH = 50
"""Fewer recent calls have no share of failures."""
SHARE = 0.5
FEW = 10
LONG_SECONDS = 9.0
"""So many failures in a row, and nothing else for so long, are enough: who waits for timeouts makes few calls."""
_APPLICATIONS = 1_000


class _Calls:
    """What one application's calls came to."""

    __slots__ = ("failed", "in_a_row", "lost_at", "recent", "since")

    def __init__(self) -> None:
        self.in_a_row = 0
        self.since = 0.0
        self.lost_at = float("-inf")
        self.recent: deque[tuple[float, bool]] = deque()
        self.failed = 0

    def note(self, now: float, failed: bool) -> None:
        recent = self.recent
        recent.append((now, failed))
        self.failed += failed
        while len(recent) > RECENT or recent[0][0] <= now - RECENT_SECONDS:
            self.failed -= recent.popleft()[1]


class OutageDetector:
    """An outage is `failures` failed calls in a row, fewer where that took long, or half of the recent ones. No
    application counts for another."""

    def __init__(self, clock: Clock, failures: int) -> None:
        self._clock = clock
        self._failures = failures
        self._calls: OrderedDict[str, _Calls] = OrderedDict()

    def succeeded(self, application_id: str) -> None:
        calls = self._of(application_id)
        calls.in_a_row = 0
        calls.note(self._clock.monotonic(), False)

    def failed(self, application_id: str, began_at: float, lost: bool) -> bool:
        """True: that is an outage. `began_at` is when the call was made, monotonic; `lost`: its connection ended.

        A connection takes all calls on it along: what was lost together is one failure.
        """
        calls, now = self._of(application_id), self._clock.monotonic()
        if lost and began_at <= calls.lost_at:
            return False
        calls.lost_at = now if lost else calls.lost_at
        calls.since = calls.since if calls.in_a_row else began_at
        calls.in_a_row += 1
        calls.note(now, True)
        many = len(calls.recent) >= ENOUGH and calls.failed >= SHARE * len(calls.recent)
        long = calls.in_a_row >= FEW and now - calls.since >= LONG_SECONDS
        return many or long or calls.in_a_row >= self._failures

    def forget(self, application_id: str) -> None:
        """What comes after a breaker has nothing to do with what came before."""
        self._calls.pop(application_id, None)

    def _of(self, application_id: str) -> _Calls:
        calls = self._calls.get(application_id)
        if calls is None:
            calls = self._calls[application_id] = _Calls()
            if len(self._calls) > _APPLICATIONS:
                self._calls.popitem(last=False)
        else:
            self._calls.move_to_end(application_id)
        return calls
