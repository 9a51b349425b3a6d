"""Credential errors are nobody's token: they pause the application at this provider, and the messages wait in `due`."""

from collections import OrderedDict

from libs import telemetry
from libs.clock import Clock

_APPLICATIONS = 10_000
_log = telemetry.logger("breaker")


class Breakers:
    """One switch an application: open for `seconds` after a credential error, then the next call is the probe."""

    def __init__(self, channel: str, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._open: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._channel = channel
        self._gauge = telemetry.gauge("breaker_open", channel=channel)

    def reason(self, application_id: str) -> str | None:
        """Why the application is paused, or None."""
        found = self._open.get(application_id)
        if found is None:
            return None
        until, reason = found
        if self._clock.monotonic() >= until:
            del self._open[application_id]
            self._gauge.set(len(self._open))
            return None
        return reason

    def trip(self, application_id: str, reason: str) -> None:
        if application_id not in self._open:
            _log.warning("credentials_refused", application_id=application_id, channel=self._channel, reason=reason)
        self._open[application_id] = (self._clock.monotonic() + self._seconds, reason)
        if len(self._open) > _APPLICATIONS:
            self._open.popitem(last=False)
        self._gauge.set(len(self._open))
