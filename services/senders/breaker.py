"""Circuit breakers per application and provider (R11): found here, kept by lifecycle, known to all sender processes.

While one is open nobody is called and the messages wait in `due`; from `probe_at` on single calls try whether the
provider is well again (half open).
"""

import asyncio
import contextlib
from typing import Literal

import msgspec

from libs import telemetry
from libs.bus import Bus
from libs.clock import Clock, ReferenceClock
from libs.errors import ServiceUnavailable, SignalError
from libs.rpc import Empty, ListBreakers, OpenBreaker, OpenBreakers, ReportBreaker, Stop

from .contract import Accepted, Postponed, Rejected, Result, TryLater
from .outage import OutageDetector
from .settings import Sender as SenderSettings

FRESH_SECONDS = 0.8
"""Between questions. With the time of one, a change is seen everywhere within two seconds."""
LONGEST = 10
"""The pause before a probe doubles up to so many times the first one: as lifecycle counts it."""
_ASK_SECONDS = 1.0
_REPORTS = 100
"""Findings that one round tells."""
_FINDINGS = 10_000
Broken = Literal["network", "outage", "credentials"]
"""Retry classes that open a breaker: who is throttled is well."""
_log = telemetry.logger("breaker")


class _Finding(msgspec.Struct, frozen=True, eq=False):
    """What this process learned and lifecycle may not know yet: it goes before what lifecycle said last."""

    report: ReportBreaker
    state: OpenBreaker | None
    """None: closed."""


class _Probe(msgspec.Struct, frozen=True):
    call: str
    opened_at_ms: int | None
    """Of the breaker that it is to try; None where lifecycle does not know that one yet."""


class BreakerBoard:
    """What is open on this process' channel. At the start, nothing; while lifecycle is away, what was known last and
    what is found here."""

    def __init__(self, bus: Bus, clock: Clock, reference: ReferenceClock, settings: SenderSettings) -> None:
        self._bus = bus
        self._clock = clock
        self._reference = reference
        self._settings = settings
        self._detector = OutageDetector(clock, settings.breaker_failures)
        self._open: dict[str, OpenBreaker] = {}
        self._findings: dict[str, _Finding] = {}
        self._probes: dict[str, _Probe] = {}
        self._no_probe_before: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._answered = True
        self._gauge = telemetry.gauge("breaker_open", channel=settings.channel)

    # a call ---------------------------------------------------------------------------------------------------------

    def admit(self, application_id: str, call: str) -> Postponed | None:
        """None: call, and tell `learn` what came of it. Else why its application waits."""
        found = self._open.get(application_id)
        if found is None:
            return None
        if self._may_probe(found):
            is_known = application_id not in self._findings
            self._probes[application_id] = _Probe(call, found.opened_at_ms if is_known else None)
            return None
        return self._postponed(found)

    def holds(self, application_id: str) -> bool:
        """What `admit` would say now."""
        found = self._open.get(application_id)
        return found is not None and not self._may_probe(found)

    def doubts_credential(self, application_id: str) -> bool:
        """The provider refused it: before the next call it is asked for anew."""
        found = self._open.get(application_id)
        return found is not None and found.retry_class == "credentials"

    def _postponed(self, found: OpenBreaker) -> Postponed:
        channel = self._settings.channel
        data = {
            "channel": channel,
            "breaker_reason": found.reason,
            "retry_class": found.retry_class,
            "opened_at_ms": found.opened_at_ms,
            "probe_at_ms": found.probe_at_ms,
        }
        return Postponed("breaker", f"breaker:{channel}:{found.opened_at_ms}", None, data)

    def _may_probe(self, found: OpenBreaker) -> bool:
        """One call at a time."""
        application_id = found.application_id
        return (
            application_id not in self._probes
            and self._reference.now_ms() >= found.probe_at_ms
            and self._clock.monotonic() >= self._no_probe_before.get(application_id, 0.0)
        )

    def learn(self, application_id: str, call: str, result: Result | Postponed | Stop | None, began_at: float) -> None:
        """What a call came to that began at `began_at`, monotonic. Of an open breaker only its probe tells something:
        the other calls were under way when it opened."""
        found = self._open.get(application_id)
        probe = self._probes.get(application_id)
        if probe is not None and probe.call == call:
            del self._probes[application_id]
            if found is not None:
                if probe.opened_at_ms in (None, found.opened_at_ms):
                    self._probed(found, probe, result)
                return
        if found is None:
            self._called(application_id, result, began_at)

    def _called(self, application_id: str, result: Result | Postponed | Stop | None, began_at: float) -> None:
        match result:
            case Accepted():
                self._detector.succeeded(application_id)
            case Rejected() if _was_answered(result):
                self._detector.succeeded(application_id)
            case TryLater(retry_class="credentials"):
                self._failed(application_id, result.reason, "credentials")
            case TryLater(retry_class="outage" | "network" as retry_class):
                lost = result.unknown and result.reason != "timeout"
                if self._detector.failed(application_id, began_at, lost):
                    self._failed(application_id, result.reason, retry_class)

    def _probed(self, found: OpenBreaker, probe: _Probe, result: Result | Postponed | Stop | None) -> None:
        match result:
            case Accepted():
                self._healed(found.application_id, probe)
            case Rejected() if _was_answered(result):
                self._healed(found.application_id, probe)
            case TryLater(retry_class="throttled") if found.retry_class != "credentials":
                self._healed(found.application_id, probe)
            case TryLater(retry_class="credentials" | "outage" | "network" as retry_class):
                self._failed(found.application_id, result.reason, retry_class, probe.opened_at_ms)
            case TryLater() | Rejected():
                pause = self._settings.breaker_seconds / 3
                self._no_probe_before[found.application_id] = self._clock.monotonic() + pause

    def _failed(self, application_id: str, reason: str, retry_class: Broken, probed_ms: int | None = None) -> None:
        channel, region = self._settings.channel, self._settings.region
        before, now = self._open.get(application_id), self._reference.now_ms()
        failures = 1 if before is None else before.failures + 1
        pause = self._settings.breaker_seconds * min(2 ** min(failures - 1, 10), LONGEST)
        opened_at = now if before is None else before.opened_at_ms
        probe_at = now + int(pause * 1000)
        self._find(
            ReportBreaker(application_id, channel, "failed", reason, retry_class, region, probed_ms),
            OpenBreaker(application_id, channel, reason, retry_class, opened_at, probe_at, failures),
        )

    def _healed(self, application_id: str, probe: _Probe) -> None:
        channel, region = self._settings.channel, self._settings.region
        report = ReportBreaker(application_id, channel, "healed", region=region, opened_at_ms=probe.opened_at_ms)
        self._find(report, None)

    def _find(self, report: ReportBreaker, state: OpenBreaker | None) -> None:
        application_id = report.application_id
        self._detector.forget(application_id)
        self._findings[application_id] = _Finding(report, state)
        if len(self._findings) > _FINDINGS:
            del self._findings[next(iter(self._findings))]
        self._show(application_id, state)
        self._gauge.set(len(self._open))
        self._wake.set()

    # what all processes know ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever: a finding is told at once, and what others found is asked for all the time."""
        while True:
            self._wake.clear()
            if not await self.round():
                await asyncio.sleep(FRESH_SECONDS)
                continue
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FRESH_SECONDS)

    async def round(self) -> bool:
        """Tells what was found, then asks what is open. False while lifecycle is away: all stays as it is."""
        told = dict(list(self._findings.items())[:_REPORTS])
        question = ListBreakers(channel=self._settings.channel)
        try:
            await asyncio.gather(*(self._tell(finding.report) for finding in told.values()))
            found = await self._bus.call("lifecycle", "breakers", question, OpenBreakers, timeout=_ASK_SECONDS)
        except (SignalError, msgspec.MsgspecError) as error:  # away, broken, or of another version
            if self._answered:
                _log.warning("breakers_unknown", error_type=type(error).__name__)
            self._answered = False
            return False
        self._answered = True
        self._take(found.breakers, told)
        return True

    async def _tell(self, report: ReportBreaker) -> None:
        try:
            await self._bus.call("lifecycle", "report_breaker", report, Empty, timeout=_ASK_SECONDS)
        except ServiceUnavailable:
            raise
        except SignalError as error:  # said again it would be refused again, and all others would wait for it
            _log.error("breaker_not_reported", application_id=report.application_id, code=error.code)

    def _take(self, found: list[OpenBreaker], told: dict[str, _Finding]) -> None:
        """What was told before the question is in the answer; what was found since goes before it."""
        for application_id, finding in told.items():
            if self._findings.get(application_id) is finding:
                del self._findings[application_id]
        self._open = {each.application_id: each for each in found}
        for application_id, finding in self._findings.items():
            self._show(application_id, finding.state)
        self._no_probe_before = {i: at for i, at in self._no_probe_before.items() if i in self._open}
        self._gauge.set(len(self._open))
        if self._findings:
            self._wake.set()

    def _show(self, application_id: str, state: OpenBreaker | None) -> None:
        if state is None:
            self._open.pop(application_id, None)
        else:
            self._open[application_id] = state


def _was_answered(result: Rejected) -> bool:
    """By the provider: what cannot even be sent to it says nothing of it."""
    return "status" in result.data
