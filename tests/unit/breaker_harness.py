"""A sender process' breakers, and a lifecycle that answers as it is told."""

from typing import Any

import msgspec

from libs import errors
from libs.clock import FakeClock, ReferenceClock
from libs.rpc import Empty, ListBreakers, OpenBreaker, OpenBreakers, ReportBreaker
from services.senders.breaker import BreakerBoard
from services.senders.contract import Accepted, Postponed, Rejected, Result, TryLater
from services.senders.settings import Sender

A, B = "019aa000-0000-7000-8000-00000000000a", "019aa000-0000-7000-8000-00000000000b"
SECONDS = 30.0
REFUSED = TryLater("InvalidProviderToken", "credentials")
DOWN = TryLater("ServiceUnavailable", "outage", data={"status": 503})
TIMEOUT = TryLater("timeout", "network", unknown=True)
LOST = TryLater("connection_lost", "network", unknown=True)
THROTTLED = TryLater("TooManyRequests", "throttled", data={"status": 429})
TAKEN = Accepted("1")
ANSWERED = Rejected("BadDeviceToken", -10, {"status": 400})
NEVER_LEFT = Rejected("invalid_message")


class Lifecycle:
    """A bus on which nobody but lifecycle answers, if it does."""

    def __init__(self) -> None:
        self.is_away = False
        self.refuses: type[errors.SignalError] | None = None
        self.open: list[OpenBreaker] = []
        self.told: list[ReportBreaker] = []
        self.asked = 0

    async def call(self, service: str, verb: str, request: Any, reply: type[Any], timeout: float) -> msgspec.Struct:
        assert service == "lifecycle"
        if self.is_away:
            raise errors.ServiceUnavailable(service=service)
        if isinstance(request, ListBreakers):
            assert request.channel == "apns"
            self.asked += 1
            return OpenBreakers(self.open)
        if self.refuses is not None:
            raise self.refuses
        self.told.append(request)
        return Empty()


class Process:
    """One sender process' board, and calls made through it."""

    def __init__(self, clock: FakeClock, lifecycle: Lifecycle) -> None:
        async def nobody() -> int:
            raise errors.ServiceUnavailable

        own = Sender("apns", breaker_seconds=SECONDS)
        self.clock = clock
        self.board = BreakerBoard(lifecycle, clock, ReferenceClock(clock, nobody), own)  # type: ignore[arg-type]
        self._number = 0

    def call(self, result: Result, application: str = A) -> Postponed | None:
        """None: it was made."""
        name = self.begin(application)
        if isinstance(name, str):
            self.board.learn(application, name, result, self.clock.monotonic())
            return None
        return name

    def begin(self, application: str = A) -> str | Postponed:
        self._number += 1
        return self.board.admit(application, str(self._number)) or str(self._number)

    def fail(self, times: int, result: Result = DOWN, application: str = A) -> None:
        for _ in range(times):
            assert self.call(result, application) is None

    def is_open(self, application: str = A) -> bool:
        """Without making a call."""
        return application in self.board._open


def shared(clock: FakeClock, *, probe_in: float = SECONDS) -> OpenBreaker:
    now = int(clock.time() * 1000)
    return OpenBreaker(A, "apns", "ServiceUnavailable", "outage", now, now + int(probe_in * 1000), 1)
