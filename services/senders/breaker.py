"""Credential errors are nobody's token: they pause the application at this provider, and the messages wait in `due`."""

from collections import OrderedDict

from libs import telemetry
from libs.clock import Clock

_APPLICATIONS = 10_000
_log = telemetry.logger("breaker")


class Breakers:
    """One switch an application: open from a credential error on; each `seconds` one call goes through as the probe."""

    def __init__(self, channel: str, clock: Clock, seconds: float) -> None:
        self._clock = clock
        self._seconds = seconds
        self._open: OrderedDict[str, tuple[float, str]] = OrderedDict()
        self._channel = channel
        self._gauge = telemetry.gauge("breaker_open", channel=channel)

    def reason(self, application_id: str) -> str | None:
        """Why the application is paused. None: call; while it is paused, the caller is then the probe."""
        found = self._open.get(application_id)
        if found is None:
            return None
        until, reason = found
        now = self._clock.monotonic()
        if now < until:
            return reason
        self._open[application_id] = (now + self._seconds, reason)
        return None

    def trip(self, application_id: str, reason: str) -> None:
        """A credential was refused."""
        if application_id not in self._open:
            _log.warning("credentials_refused", application_id=application_id, channel=self._channel, reason=reason)
        self._open[application_id] = (self._clock.monotonic() + self._seconds, reason)
        if len(self._open) > _APPLICATIONS:
            self._open.popitem(last=False)
        self._gauge.set(len(self._open))

    def heal(self, application_id: str) -> None:
        """The provider took a call's credential, whatever it said of the message."""
        if self._open and self._open.pop(application_id, None) is not None:
            self._gauge.set(len(self._open))
