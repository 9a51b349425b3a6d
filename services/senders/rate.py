"""Messages a second to the provider, by application: what its knob or the provider allows, over all senders."""

import os
from collections import OrderedDict

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock, ReferenceClock
from libs.kv import Bucket
from libs.policies import PolicyBoard
from libs.policy import PushChannel

from .contract import Accepted, Rejected, TryLater
from .pace import Allowed, Pace
from .throttle import CUT, Limit, Refusal, Throttles

BUCKET = "RATES"
RECORD_SECONDS = 3_600.0
"""A schedule that nobody needed for so long is forgotten."""
SHOWN = 20
"""Applications with metrics of their own: those that send most."""
_APPLICATIONS = 10_000
_MEASURE_SECONDS = 1.0
_GAUGES: tuple[telemetry.GaugeName, ...] = ("rate_limit", "rate_effective", "rate_achieved")


class _Traffic(msgspec.Struct, eq=False):
    """What one application sends from this process."""

    since: float
    count: int = 0
    rate: float = 0.0
    """Answers a second, as measured last."""
    knob: float | None = None
    pace: Pace | None = None


class Rates:
    """One sender process' part of it. An application without a rate costs one look-up a message."""

    def __init__(
        self, bus: Bus, policies: PolicyBoard, channel: PushChannel, clock: Clock, reference: ReferenceClock
    ) -> None:
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

    async def learn(self, application_id: str) -> None:
        """Before each envelope: what the application may send. Raises `ServiceUnavailable` where nobody ever said."""
        policy = await self._policies.of(application_id)
        self._throttles.refresh()
        traffic = self._of(application_id)
        self._traffic.move_to_end(application_id)
        traffic.knob = policy.rates.get(self._channel)
        self._set_pace(application_id, traffic)
        if self._clock.monotonic() - self._measured_at >= _MEASURE_SECONDS:
            self._measure()

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
        took = self._clock.monotonic() - traffic.since
        achieved = max(traffic.rate, traffic.count / max(took, _MEASURE_SECONDS))
        now_ms = self._reference.now_ms()
        self._throttles.tell(application_id, Refusal(now_ms, retry_after, traffic.knob, achieved, self._member))
        self._set_pace(application_id, traffic)

    def _of(self, application_id: str) -> _Traffic:
        found = self._traffic.get(application_id)
        if found is None:
            found = self._traffic[application_id] = _Traffic(self._clock.monotonic())
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

    # metrics ----------------------------------------------------------------------------------------------------------

    def _measure(self) -> None:
        now = self._clock.monotonic()
        self._measured_at = now
        for traffic in self._traffic.values():
            took = max(now - traffic.since, _MEASURE_SECONDS)
            traffic.rate, traffic.count, traffic.since = traffic.count / took, 0, now
        paced = [(traffic.rate, i) for i, traffic in self._traffic.items() if traffic.pace is not None]
        shown = {i for _, i in sorted(paced, reverse=True)[:SHOWN]}
        for application_id in self._shown - shown:
            for name in _GAUGES:
                telemetry.forget(name, channel=self._channel, application=application_id)
        for application_id in shown:
            self._show(application_id, self._traffic[application_id])
        self._shown = shown

    def _show(self, application_id: str, traffic: _Traffic) -> None:
        labels = {"channel": self._channel, "application": application_id}
        rate = self._allowed(application_id, traffic, self._reference.now_ms()).rate
        telemetry.gauge("rate_limit", **labels).set(traffic.knob or 0.0)
        telemetry.gauge("rate_effective", **labels).set(rate or 0.0)
        telemetry.gauge("rate_achieved", **labels).set(traffic.rate)
