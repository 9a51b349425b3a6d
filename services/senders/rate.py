"""Messages a second to the provider, by application: what its knob or the provider allows, over all senders."""

import asyncio
import heapq
import os
from collections import OrderedDict

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock, ReferenceClock
from libs.kv import Bucket
from libs.policies import PolicyBoard
from libs.policy import PushChannel
from libs.rates import BUSIEST, Part, Report, answer

from .contract import Accepted, Rejected, TryLater
from .pace import Allowed, Pace
from .throttle import CUT, Limit, Refusal, Throttles

BUCKET = "RATES"
RECORD_SECONDS = 3_600.0
"""A schedule that nobody needed for so long is forgotten."""
IDLE_SECONDS = 900.0
"""Who has sent nothing for so long has no metrics. What waits for its rate comes back more often."""
_APPLICATIONS = 10_000
_MEASURE_SECONDS = 1.0
_MEASURES = 5
"""What is achieved is told as the mean of so many."""
_QUIET = (0.0,) * _MEASURES
_GAUGES: tuple[telemetry.GaugeName, ...] = ("rate_limit", "rate_effective", "rate_achieved")


class _Traffic(msgspec.Struct, eq=False):
    """What one application sends from this process."""

    began: float
    used: float
    """When something was last to be sent."""
    count: int = 0
    """Answers since the last measure."""
    measured: tuple[float, ...] = ()
    """Answers a second, the last measure first."""
    knob: float | None = None
    pace: Pace | None = None

    @property
    def rate(self) -> float:
        """Answers a second, as measured last."""
        return self.measured[0] if self.measured else 0.0

    @property
    def achieved(self) -> float:
        """Answers a second in the last seconds."""
        return sum(self.measured) / max(1, len(self.measured))


class Rates:
    """One sender process' part of it. An application without a rate costs one look-up a message."""

    def __init__(
        self, bus: Bus, policies: PolicyBoard, channel: PushChannel, clock: Clock, reference: ReferenceClock
    ) -> None:
        self._bus = bus
        self._policies = policies
        self._channel = channel
        self._clock = clock
        self._reference = reference
        self._bucket = Bucket(bus, BUCKET, ttl=RECORD_SECONDS)
        self._member = os.urandom(6).hex()
        self._throttles = Throttles(self._bucket, channel, reference.now_ms, clock.monotonic)
        self._traffic: OrderedDict[str, _Traffic] = OrderedDict()
        self._shown: set[str] = set()
        self._measured_at = clock.monotonic()

    async def run(self) -> None:
        """Measures once a second, and answers who asks for it (`libs.rates`). Until cancelled."""
        await answer(self._bus, self.report)
        while True:
            await asyncio.sleep(_MEASURE_SECONDS)
            self.measure()

    async def learn(self, application_id: str) -> None:
        """Before each envelope: what the application may send. Raises `ServiceUnavailable` where nobody ever said."""
        policy = await self._policies.of(application_id)
        self._throttles.refresh()
        traffic = self._of(application_id)
        self._traffic.move_to_end(application_id)
        traffic.used = self._clock.monotonic()
        traffic.knob = policy.rates.get(self._channel)
        self._set_pace(application_id, traffic)

    def pace(self, application_id: str) -> Pace | None:
        """None: the application may send as fast as it goes."""
        traffic = self._traffic.get(application_id)
        return None if traffic is None else traffic.pace

    def explain(self, application_id: str) -> dict[str, float | None]:
        """For the timeline: messages a second now, and the knob where they differ."""
        traffic = self._of(application_id)
        rate = self._allowed(application_id, traffic, self._reference.now_ms()).rate
        return {"rate": rate} if rate == traffic.knob else {"rate": rate, "knob": traffic.knob}

    def heard(self, application_id: str, result: object) -> None:
        """Of each call's result: what was answered counts, and a 429 of the application's makes it slower."""
        match result:
            case Accepted() | Rejected():
                self._of(application_id).count += 1
            case TryLater(retry_class="throttled") if result.data.get("scope") != "token":
                self._refused(application_id, result.retry_after)

    def _refused(self, application_id: str, retry_after: float | None) -> None:
        traffic = self._of(application_id)
        achieved = max(traffic.rate, traffic.count / self._took(traffic))
        now_ms = self._reference.now_ms()
        self._throttles.tell(application_id, Refusal(now_ms, retry_after, traffic.knob, achieved, self._member))
        self._set_pace(application_id, traffic)

    def _of(self, application_id: str) -> _Traffic:
        found = self._traffic.get(application_id)
        if found is None:
            now = self._clock.monotonic()
            found = self._traffic[application_id] = _Traffic(now, now)
            if len(self._traffic) > _APPLICATIONS:
                self._traffic.popitem(last=False)
        return found

    def _set_pace(self, application_id: str, traffic: _Traffic) -> None:
        """Only who has a rate has a pace."""
        limit = self._limit(application_id, self._reference.now_ms())
        if traffic.knob is None and limit is None:
            traffic.pace = None
        elif traffic.pace is None:
            key = f"{self._channel}.{application_id}"

            def allowed(now_ms: float) -> Allowed:
                self._throttles.refresh()  # an envelope that goes out slowly learns of others' refusals too
                return self._allowed(application_id, traffic, now_ms)

            traffic.pace = Pace(self._bucket, key, self._member, self._reference, allowed)
        if limit is not None and traffic.knob is None:
            self._throttles.add(application_id, self._member, traffic.rate)

    def _limit(self, application_id: str, now_ms: float) -> Limit | None:
        limit = self._throttles.of(application_id)
        return None if limit is None or limit.is_over(now_ms) else limit

    def _allowed(self, application_id: str, traffic: _Traffic, now_ms: float) -> Allowed:
        limit = self._limit(application_id, now_ms)
        if limit is None:
            return Allowed(traffic.knob)
        if traffic.knob is None:
            return Allowed(limit.rate_at(now_ms), limit.paused_ms, limit.full * CUT, limit.ends_ms())
        return Allowed(min(limit.rate_at(now_ms), traffic.knob), limit.paused_ms, traffic.knob * CUT)

    # what is achieved -------------------------------------------------------------------------------------------------

    def measure(self) -> None:
        """Once a second, also when nothing is sent: then it is 0."""
        for traffic in self._traffic.values():
            if traffic.count or traffic.measured != _QUIET:
                traffic.measured = (traffic.count / self._took(traffic), *traffic.measured[: _MEASURES - 1])
                traffic.count = 0
        self._measured_at = self._clock.monotonic()
        self._show()

    def _took(self, traffic: _Traffic) -> float:
        """Seconds since the last measure."""
        return max(self._clock.monotonic() - max(traffic.began, self._measured_at), _MEASURE_SECONDS)

    def report(self, application_id: str | None) -> Report:
        """Of the application, if it has sent something lately or a 429 holds it; None: of those that send most."""
        self._throttles.refresh()
        if application_id is None:
            sending = ((each.achieved, i) for i, each in self._traffic.items() if each.achieved or self._is_paced(i))
            return Report(self._channel, [self._part(i) for _, i in heapq.nlargest(BUSIEST, sending)])
        part = self._part(application_id)
        told = part.achieved or part.left is not None or self._is_paced(application_id)
        return Report(self._channel, [part] if told else [])

    def _part(self, application_id: str) -> Part:
        now_ms, traffic = self._reference.now_ms(), self._traffic.get(application_id)
        achieved = 0.0 if traffic is None else traffic.achieved
        limit = self._limit(application_id, now_ms)
        if limit is None:
            return Part(application_id, achieved)
        return Part(application_id, achieved, 0.0 if now_ms < limit.paused_ms else limit.rate_at(now_ms))

    def _is_paced(self, application_id: str) -> bool:
        """Whether it has a rate, and sends now and then."""
        traffic = self._traffic.get(application_id)
        if traffic is None or traffic.pace is None or self._clock.monotonic() - traffic.used >= IDLE_SECONDS:
            return False
        return traffic.knob is not None or self._limit(application_id, self._reference.now_ms()) is not None

    # metrics ----------------------------------------------------------------------------------------------------------

    def _show(self) -> None:
        paced = ((self._traffic[i].achieved, i) for i in self._traffic if self._is_paced(i))
        shown = {i for _, i in heapq.nlargest(BUSIEST, paced)}
        for application_id in self._shown - shown:
            for name in _GAUGES:
                telemetry.forget(name, channel=self._channel, application=application_id)
        for application_id in shown:
            self._set_gauges(application_id, self._traffic[application_id])
        self._shown = shown

    def _set_gauges(self, application_id: str, traffic: _Traffic) -> None:
        labels = {"channel": self._channel, "application": application_id}
        rate = self._allowed(application_id, traffic, self._reference.now_ms()).rate
        telemetry.gauge("rate_limit", **labels).set(traffic.knob or 0.0)
        telemetry.gauge("rate_effective", **labels).set(rate or 0.0)
        telemetry.gauge("rate_achieved", **labels).set(traffic.achieved)
